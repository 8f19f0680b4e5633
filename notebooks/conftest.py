"""What `pytest --nbval notebooks/` does beyond nbval.

It compares with the models in models/ and in quick pace, refuses a notebook that was not run from
top to bottom, fails when a notebook leaves a process behind, and says how long each took.
"""

import contextlib
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator

import psutil
import pytest
from nbval.plugin import IPyNbCell

PATIENCE = 40  # seconds: after 30 the guard of a server whose kernel was killed kills it
RUN = uuid.uuid4().hex

os.environ["TUTORIAL_MODELS"] = "offline"
os.environ.setdefault("TUTORIAL_PACE", "quick")
os.environ["TUTORIAL_PROGRESS"] = "off"  # a line of progress would be an output to compare
os.environ["TUTORIAL_RUN"] = RUN  # inherited by all that a notebook starts: `left_over` finds it
os.environ["SPT_NOENV"] = "1"  # Ray's workers write their title over their environment: keep it


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a cell that is not the next of a clean run; nbval would not compare its output."""
    if isinstance(item, IPyNbCell) and item.cell.execution_count != item.cell_num + 1:
        pytest.fail(
            f"Code cell {item.cell_num + 1} has the execution count {item.cell.execution_count}: "
            "the outputs are not those of a clean run. Run `make outputs`.",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """After a notebook's last cell, when its kernel is gone: nothing else may be left."""
    yield
    if nextitem and nextitem.path == item.path:
        return
    deadline = time.monotonic() + PATIENCE
    while (left := left_over()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:  # so that the next notebook does not pay for this one
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    if left:
        names = [f"PID {p.pid}: {' '.join(p.info['cmdline'] or [])[:100]}" for p in left]
        pytest.fail(f"{item.path.name} leaves running:\n" + "\n".join(names), pytrace=False)


def left_over() -> list[psutil.Process]:
    """Find all processes that descend from this test run, a notebook's kernel included."""
    return [
        process
        for process in psutil.process_iter(["environ", "cmdline"])
        if (process.info["environ"] or {}).get("TUTORIAL_RUN") == RUN
    ]


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long each notebook took, the start and the end of its kernel included."""
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.fspath] += report.duration
    for path, spent in sorted(seconds.items()):
        terminalreporter.write_line(f"{spent:6.1f} s  {path}")
