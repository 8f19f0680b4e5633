"""A notebook alone in a folder, in a kernel without the frameworks: what it meets on Google Colab.

The kernel's environment is made here, with nothing but ipykernel and what helpers/ depends on. The
set-up cell clones this working tree instead of GitHub's, and the servers run in this environment.
"""

import re
import shutil
import subprocess
import sys
import textwrap
from importlib.metadata import requires
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tools.badges import slug
from tools.notebooks import ROOT, execute, find

NOT_IN_THE_CLONE = [".git", ".venv", "build", "work", "*cache*", "*.egg-info"]


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


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


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the files as they are now, committed or not."""
    folder = tmp_path_factory.mktemp("github") / "repository"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_IN_THE_CLONE))
    git = ["git", "-C", folder, "-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(*git, "init", "-q")
    run(*git, "add", ".")
    run(*git, "commit", "-q", "-m", "as it is now")
    return folder


@pytest.fixture
def colab(bare: Path, github: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder in which Colab starts a notebook."""
    monkeypatch.setenv("JUPYTER_PATH", str(bare / "share" / "jupyter"))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab-external")
    monkeypatch.setenv("SERVER_PYTHON", sys.executable)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{github}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", f"https://github.com/{slug()}")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folder = tmp_path / "content"
    folder.mkdir()
    return folder


def set_up_cell() -> str:
    """The set-up cell of all notebooks, as CONTRIBUTING.md has it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"^   ```python\n(.*?)^   ```", text, re.S | re.M)
    assert block
    return textwrap.dedent(block[1]).strip()


def notebook(*sources: str) -> NotebookNode:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)


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
