"""Run All a second time in the same kernel, for every notebook after the tour.

A reader who tries something and runs all again meets what the first run left: servers, files,
names. The tour's notebooks do it in a browser (test_jupyterlab.py); these need none, and take their
time. Quick pace, in a copy: no stored output and no finding changes.
"""

import shutil
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode, v4
from wait import wait_until

from helpers.server import left_over
from tools.notebooks import execute, find

AFTER_THE_TOUR = [path for path in find() if path.name > "06"]


def twice(notebook: NotebookNode) -> NotebookNode:
    """All cells, and then all cells again, which one kernel runs."""
    notebook.cells += deepcopy(notebook.cells)
    return notebook


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_PACE", "quick")
    monkeypatch.setenv("TUTORIAL_PROGRESS", "off")  # `execute` sets it too; so it is taken back


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", AFTER_THE_TOUR, ids=lambda path: path.stem)
def test_run_all_goes_through_twice_in_the_same_kernel(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    shutil.copytree(path.parent, folder, ignore=shutil.ignore_patterns("work"))
    execute(twice(nbformat.read(path, as_version=4)), folder)
    assert wait_until(lambda: not left_over()), left_over()


def test_what_can_run_only_once_fails(tmp_path: Path) -> None:
    once = v4.new_code_cell("from pathlib import Path\nPath('results').mkdir()")
    with pytest.raises(RuntimeError, match="FileExistsError"):
        execute(twice(v4.new_notebook(cells=[once])), tmp_path)
