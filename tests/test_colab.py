"""A notebook alone in a folder, in a kernel without the frameworks: what it meets on Google Colab.

The kernel's environment is made here, with nothing but ipykernel and what helpers/ depends on. The
set-up cell clones this working tree instead of GitHub's, and the servers run in this environment.
With Colab's Python, its versions and a real install: tests/rehearsals/test_colab_for_real.py.
"""

import shutil
import sys
from importlib.metadata import requires
from pathlib import Path

import nbformat
import pytest
from machines import notebook, pretend_colab, run, set_up_cell

from tools.notebooks import ROOT, execute, find


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has what a stock Colab kernel has, as far as we use it."""
    folder = tmp_path_factory.mktemp("bare")
    python = folder / "bin" / "python"
    needed = requires("mlserver-vs-ray-serve") or []
    uv = [sys.executable, "-m", "uv", "-q"]
    run(*uv, "venv", "--clear", "--python", sys.executable, folder)
    constraints = ["-c", ROOT / "constraints.txt"]
    run(*uv, "pip", "install", "--python", python, *constraints, "ipykernel", *needed)
    run(python, "-m", "ipykernel", "install", "--prefix", folder)
    return folder


@pytest.fixture
def colab(bare: Path, github: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder in which Colab starts a notebook."""
    pretend_colab(monkeypatch, bare, github)
    monkeypatch.setenv("SERVER_PYTHON", sys.executable)
    folder = tmp_path / "content"
    folder.mkdir()
    return folder


def test_the_kernel_has_neither_framework_nor_helpers(colab: Path) -> None:
    absent = ["ray", "mlserver", "transformers", "torch", "helpers"]
    look = "from importlib.util import find_spec"
    execute(notebook(look, f"assert not any(find_spec(name) for name in {absent})"), colab)


def test_the_set_up_cell_fetches_helpers_and_may_run_twice(colab: Path) -> None:
    # a notebook's own first lines, after which it is in another folder
    go = "from helpers import workspace\nworkspace('a_notebook')"
    check = (
        "import helpers, helpers.interpreter\n"
        f"assert helpers.__file__.startswith({str(colab)!r}), helpers.__file__\n"
        "assert helpers.interpreter.server_python() == os.environ['SERVER_PYTHON']"
    )
    ran = notebook(set_up_cell(), go, set_up_cell(), go, check)
    execute(ran, colab)
    assert not [cell.outputs for cell in ran.cells if cell.outputs]
    assert not (colab / "project" / ".venv").exists()


def test_a_notebook_that_starts_servers_runs_there(colab: Path) -> None:
    [path] = find(["05"])
    shutil.copy(path, colab)
    execute(nbformat.read(colab / path.name, as_version=4), colab)
