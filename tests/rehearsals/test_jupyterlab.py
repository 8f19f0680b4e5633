"""JupyterLab in a real browser: what `make lab` opens, Run All twice, the stop button, a restart.

The tests run in the site's environment, which has what drives a browser; JupyterLab and its
kernels run in .venv, as `make lab` starts them, in a copy of the repository. A screenshot of each
test is in build/rehearsal/.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import nbformat
import pytest
from conftest import NOT_IN_THE_CLONE
from nbformat import NotebookNode, v4
from wait import wait_until

from helpers.server import left_over
from tools.notebooks import ROOT, code_cells, find

TOUR = find(["01", "02", "03", "04", "05"])
SCREENSHOTS = ROOT / "build" / "rehearsal"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository that shares its environment: no notebook of ours changes."""
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("The environment is not there: make install")
    folder = tmp_path_factory.mktemp("jupyterlab") / "clone"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_IN_THE_CLONE))
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.fixture(scope="module")
def address(clone: Path) -> Iterator[str]:
    """What `make lab` asks the reader's browser to open."""
    opened, log = clone.parent / "opened", clone.parent / "lab.log"
    reader = clone.parent / "reader"  # takes the place of the reader's browser
    reader.write_text(f'#!/bin/sh\necho "$1" > "{opened}.new" && mv "{opened}.new" "{opened}"\n')
    reader.chmod(0o755)
    kinds = ["CONFIG", "DATA", "RUNTIME"]
    own = {f"JUPYTER_{kind}_DIR": str(clone.parent / kind) for kind in kinds}
    Path(own["JUPYTER_CONFIG_DIR"]).mkdir()
    allow_root = '{"ServerApp": {"allow_root": true}}'  # whoever is root here; changes nothing else
    (Path(own["JUPYTER_CONFIG_DIR"]) / "jupyter_server_config.json").write_text(allow_root)
    pace = {"TUTORIAL_MODELS": "offline", "TUTORIAL_PACE": "quick"}
    with open(log, "wb") as file:
        lab = subprocess.Popen(
            ["make", "-o", ".venv/.installed", "lab"],  # whatever is newer: install nothing
            cwd=clone,
            env={**os.environ, "BROWSER": str(reader), **own, **pace},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert wait_until(lambda: opened.exists() or lab.poll() is not None, 120)
        assert opened.exists(), log.read_text()
        yield opened.read_text().strip()
    finally:
        if lab.poll() is None:
            os.killpg(lab.pid, signal.SIGTERM)
        lab.wait(60)
    assert wait_until(lambda: not left_over()), left_over()


@pytest.fixture
def tab(address: str, browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A tab in which the reader sees what `make lab` opened; no kernel outlives it."""
    assert not left_over(), "Servers of notebooks run already: stop them first."
    tab = browser.new_page(viewport={"width": 1400, "height": 1000})
    tab.set_default_timeout(120_000)
    tab.goto(address)
    tab.wait_for_url(re.compile(rf"/lab/tree/.*\b{TOUR[0].name}"))
    yield tab
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / (re.sub(r"\W+", "-", request.node.name).strip("-") + ".png"))
    choose(tab, "Kernel", "Shut Down All Kernels…")
    with tab.expect_response(lambda answer: answer.request.method == "DELETE"):
        tab.locator(".jp-Dialog .jp-mod-accept").click()
    tab.close()


def show(tab: Any, path: Path) -> None:
    """Open a notebook, and no other that an earlier test had open; wait for its kernel."""
    tab.goto(urljoin(tab.url, f"{path.name}?reset"))  # beside the one that is shown
    tab.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    # The indicator is idle before there is a kernel to run anything, too.
    tab.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()


def choose(tab: Any, menu: str, item: str) -> None:
    tab.locator(".lm-MenuBar").get_by_text(menu, exact=True).click()
    tab.locator(".lm-Menu").get_by_text(item, exact=True).click()


def saved(tab: Any, path: Path) -> list[NotebookNode]:
    """Save the notebook that is open; return its code cells."""
    tab.keyboard.press("Control+s")
    tab.wait_for_timeout(1000)  # it is saved in the background, and we are asked again and again
    return code_cells(nbformat.read(path, as_version=4))


def errors(cells: list[NotebookNode]) -> list[str]:
    """The exceptions that cells show, and what they show of stderr."""
    outputs = [output for cell in cells for output in cell.outputs]
    raised = [output.ename for output in outputs if output.output_type == "error"]
    return raised + [output.text for output in outputs if output.get("name") == "stderr"]


def run_all(tab: Any, path: Path, first: int = 1) -> list[str]:
    """Run All, of which the first cell gets that number; return the errors when it has ended."""
    cells: list[NotebookNode] = []

    def ended() -> bool:
        cells[:] = saved(tab, path)
        counts = [cell.execution_count for cell in cells]
        return bool(errors(cells)) or counts == [*range(first, first + len(cells))]

    choose(tab, "Run", "Run All Cells")
    assert wait_until(ended, 600), [cell.execution_count for cell in cells]
    return errors(cells)


def test_make_lab_opens_the_first_notebook(tab: Any) -> None:
    title = nbformat.read(TOUR[0], as_version=4).cells[0].source.splitlines()[0]
    tab.get_by_role("heading", name=title.lstrip("# ")).first.wait_for()
    tab.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()


def test_a_link_to_a_file_beside_the_folder_of_notebooks_opens_it(tab: Any) -> None:
    [path] = find(["14"])
    show(tab, path)
    tab.locator("a", has_text=re.compile("^tuned$")).first.click()
    tab.locator(".lm-TabBar").get_by_text("environment.py", exact=True).wait_for()


@pytest.mark.parametrize("path", TOUR, ids=lambda path: path.stem)
def test_run_all_goes_through_twice_in_the_same_kernel(path: Path, clone: Path, tab: Any) -> None:
    here = clone / "notebooks" / path.name
    show(tab, here)
    choose(tab, "Edit", "Clear Outputs of All Cells")  # the stored numbers are not ours
    number = len(code_cells(nbformat.read(path, as_version=4)))
    for first in (1, number + 1):
        assert run_all(tab, here, first) == []
        assert wait_until(lambda: not left_over()), left_over()


def test_an_error_in_a_notebook_is_seen(clone: Path, tab: Any) -> None:
    broken = clone / "notebooks" / "99_broken.ipynb"
    cells = [v4.new_code_cell("1 / 0"), v4.new_code_cell("2")]
    nbformat.write(v4.new_notebook(cells=cells, metadata=KERNEL), broken)
    show(tab, broken)
    assert run_all(tab, broken) == ["ZeroDivisionError"]


@pytest.fixture(params=["02", "04"], ids=["Ray-Serve", "MLServer"])
def running(request: pytest.FixtureRequest, clone: Path, tab: Any) -> Path:
    """A notebook of which all cells were just sent to its kernel; this server is its first."""
    [path] = find([request.param])
    here = clone / "notebooks" / path.name
    show(tab, here)
    choose(tab, "Edit", "Clear Outputs of All Cells")
    choose(tab, "Run", "Run All Cells")
    return here


def test_the_stop_button_while_a_server_starts_leaves_nothing(running: Path, tab: Any) -> None:
    tab.get_by_text(re.compile(r"is starting: \d+ s")).first.wait_for(state="attached")
    assert left_over()
    tab.locator(".jp-NotebookPanel-toolbar [data-command='notebook:interrupt-kernel']").click()
    assert wait_until(lambda: "KeyboardInterrupt" in errors(saved(tab, running)))
    assert wait_until(lambda: not left_over()), left_over()


def test_a_restart_of_the_kernel_under_a_running_server_leaves_nothing(
    running: Path, tab: Any
) -> None:
    tab.get_by_text(re.compile("· ready · http")).first.wait_for(state="attached")
    assert left_over()
    choose(tab, "Kernel", "Restart Kernel…")
    tab.locator(".jp-Dialog .jp-mod-accept").click()
    assert wait_until(lambda: not left_over(), 60), left_over()
