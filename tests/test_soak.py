"""The long haul, with notebooks that are over at once; and what becomes of one that is stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil
import pytest
from wait import runs, wait_until

from tools import notebooks, soak
from tools.notebooks import ROOT
from tools.soak import busy_core, failures, main, order, passes

Soaked = Callable[..., tuple[int, list[tuple[str, bool]]]]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of three notebooks, each of one cell."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--nbval-current-env")
    (tmp_path / "notebooks").mkdir()
    for name, source in [("01_good", "x = 1"), ("02_bad", "1 / 0"), ("03_good", "x = 3")]:
        cell = nbformat.v4.new_code_cell(source, execution_count=1)
        notebook = nbformat.v4.new_notebook(cells=[cell])
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


@pytest.fixture
def soaked(root: Path, monkeypatch: pytest.MonkeyPatch) -> Soaked:
    """Run `main` with fakes; returns its status, and what ran and whether beside a busy core."""
    ran: list[tuple[str, bool]] = []
    busy = False

    @contextmanager
    def fake_core() -> Iterator[int]:
        nonlocal busy
        busy = True
        try:
            yield 0
        finally:
            busy = False

    def run(
        *arguments: str, fails: str = "no such", stops_after: int = 99
    ) -> tuple[int, list[tuple[str, bool]]]:
        def fake_passes(path: Path, log: Path) -> bool:
            if len(ran) == stops_after:
                raise KeyboardInterrupt
            ran.append((path.stem, busy))
            log.write_text(f"FAILED notebooks/{path.name}::ipynb::Cell 4\n")
            return path.stem != fails

        ran.clear()
        monkeypatch.setattr(soak, "passes", fake_passes)
        return main([*arguments, "--seed", "7"]), list(ran)

    monkeypatch.setattr(soak, "busy_core", fake_core)
    return run


def test_a_seed_decides_the_orders() -> None:
    paths = [Path(str(number)) for number in range(9)]
    rounds = [order(paths, number, seed=1) for number in range(1, 11)]
    assert all(sorted(each) == paths for each in rounds)
    assert len({tuple(each) for each in rounds}) == 10
    assert rounds == [order(paths, number, seed=1) for number in range(1, 11)]
    assert rounds[0] != order(paths, 1, seed=2)


def test_half_of_the_rounds_are_beside_a_busy_core(
    soaked: Soaked, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, ran = soaked("--rounds", "4")
    assert status == 0
    assert [busy for _, busy in ran] == [False] * 3 + [True] * 3 + [False] * 3 + [True] * 3
    printed = capsys.readouterr().out
    assert "[4/12] round 2, a core busy: " in printed
    assert "0 of 12 runs failed, 0 were not run." in printed
    table = printed.partition("Seconds, by notebook and round")[2].splitlines()
    assert table[1].split() == ["round", "1", "2*", "3", "4*"]
    assert [row.split()[0] for row in table[3:6]] == ["01_good", "02_bad", "03_good"]
    assert not list(root.glob("build/soak/7/*.log"))


def test_what_fails_once_fails_the_soak_and_its_report_is_kept(
    soaked: Soaked, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _ = soaked("--rounds", "1", fails="02_bad")
    assert status == 1
    printed = capsys.readouterr().out
    assert "1 of 3 runs failed" in printed
    assert "\nbuild/soak/7/01-02_bad.log: Cell 4\n" in printed
    assert [log.name for log in root.glob("build/soak/7/*.log")] == ["01-02_bad.log"]


def test_one_that_was_stopped_has_its_table_and_goes_on(
    soaked: Soaked, capsys: pytest.CaptureFixture[str]
) -> None:
    status, ran = soaked("--rounds", "2", fails="02_bad", stops_after=4)
    assert status == 1 and len(ran) == 4
    printed = capsys.readouterr().out
    assert "give the same arguments and --seed 7." in printed
    assert "of 4 runs failed, 2 were not run." in printed and "\n02_bad " in printed
    status, rest = soaked("--rounds", "2")
    assert len(rest) == 2 and len({*ran, *rest}) == 6
    assert status == 1  # what failed before it was stopped is not forgotten
    assert soaked("--rounds", "2") == (1, [])


def test_some_notebooks_and_one_that_is_not_there(soaked: Soaked) -> None:
    assert soaked("01", "--rounds", "2") == (0, [("01_good", False), ("01_good", True)])
    with pytest.raises(SystemExit):
        soaked("99")


def test_a_notebook_is_tested_by_a_pytest_of_its_own(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert passes(root / "notebooks" / "01_good.ipynb", log)
    assert not passes(root / "notebooks" / "02_bad.ipynb", log)
    assert failures(log) == "Cell 0" and "ZeroDivisionError" in log.read_text()
    assert not passes(root / "notebooks" / "99_missing.ipynb", log)
    assert failures(log) == "no cell, but pytest itself"


# --- what it starts ends with it ---


def test_a_core_is_busy_for_as_long_as_the_block() -> None:
    with busy_core() as pid:
        loop = psutil.Process(pid)
        assert wait_until(lambda: loop.cpu_times().user > 0.3)
    assert not psutil.pid_exists(pid)


def test_the_busy_core_does_not_outlive_one_who_is_killed() -> None:
    program = "import time; from tools.soak import busy_core\n"
    program += "with busy_core() as pid: print(pid, flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as one:
        assert one.stdout
        pid = int(one.stdout.readline())
        one.kill()
    assert wait_until(lambda: not runs(pid))


def test_a_soak_that_is_stopped_stops_what_it_runs(root: Path) -> None:
    source = "import os, pathlib, time\n_ = pathlib.Path('pid').write_text(str(os.getpid()))\n"
    cell = nbformat.v4.new_code_cell(source + "time.sleep(99)", execution_count=1)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), root / "notebooks" / "04_long.ipynb")
    program = f"""
import pathlib, runpy, sys
from tools import notebooks
notebooks.ROOT = pathlib.Path({str(root)!r})
sys.argv = ["soak", "04", "--seed", "7"]
runpy.run_module("tools.soak", run_name="__main__")
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as one:
        written = root / "notebooks" / "pid"
        assert wait_until(lambda: written.exists() and written.read_text() != "")
        kernel = int(written.read_text())
        time.sleep(0.5)  # pytest waits for the cell by now
        os.kill(one.pid, signal.SIGTERM)
        printed, _ = one.communicate(timeout=120)
    assert one.returncode == 1
    assert "Stopped." in printed and "0 of 0 runs failed, 10 were not run." in printed
    assert wait_until(lambda: not runs(kernel))
