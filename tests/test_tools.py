"""What `make tour`, `make outputs` and `make badges` do, on a repository of two small notebooks."""

import doctest
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tools import badges, notebooks
from tools.readme import with_findings

README = """[run](https://colab.research.google.com/github/you/old/blob/main/notebooks/01_good.ipynb)
<!-- verdict -->
<!-- end of verdict -->
<!-- findings -->
| old |
<!-- end of findings -->
the end"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one notebook that runs and one that fails."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text('[tool.tutorial]\nrepository = "me/new"\n')
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "CONTRIBUTING.md").write_text("!git clone https://github.com/you/old project")
    store(tmp_path, "01_good", "# Say hello", "greeting = 'Hello'", "print(greeting, 'one')")
    store(tmp_path, "02_bad", "# Fail", "print('two')", "1 / 0", "print('three')")
    return tmp_path


def store(root: Path, name: str, title: str, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(title), *cells])
    notebook.metadata = {"kernelspec": {"name": "mine", "display_name": "Mine (/home/me)"}}
    notebook.cells[1].metadata = {"tags": ["kept"], "execution": {"iopub.busy": "2026-11-22"}}
    path = root / "notebooks" / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def test_tour_goes_on_after_a_failure(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (root / "notebooks" / "01_good.ipynb").read_bytes()
    assert notebooks.main(["tour"]) == 1
    printed = capsys.readouterr().out
    assert "01_good ... " in printed and "02_bad ... " in printed
    assert printed.count("FAILED") == 1 and "ZeroDivisionError" in printed

    good, bad = (read(root / "build" / f"{name}.ipynb") for name in ("01_good", "02_bad"))
    assert good.cells[2].outputs[0].text == "Hello one\n"
    assert bad.cells[2].outputs[0].ename == "ZeroDivisionError"
    assert bad.cells[3].outputs == []
    page = (root / "build" / "tour.html").read_text(encoding="utf-8")
    assert page.index("Say hello") < page.index("Hello one") < page.index("ZeroDivisionError")
    assert (root / "notebooks" / "01_good.ipynb").read_bytes() == before


def test_a_notebook_that_failed_in_a_test_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notebooks.main(["failed"]) == 1  # pytest has not run
    subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "notebooks"],
        cwd=root,
        capture_output=True,
    )
    assert notebooks.main(["failed"]) == 0
    assert capsys.readouterr().out == "\nnotebooks/02_bad.ipynb\n"


def test_findings_of_a_stored_run_are_in_the_readme(root: Path) -> None:
    setup = "from helpers import record, workspace; workspace('03_compare')"
    dull = "record('dull', mlserver=1, ray_serve=2, how='x')"
    good = "record('shown', mlserver=[1, 2, 4], ray_serve='no', unit='s', how='x', headline=True)"
    store(root, "03_compare", "# Compare", setup, dull, good)
    assert notebooks.main(["outputs", "03"]) == 0
    readme = (root / "README.md").read_text(encoding="utf-8")
    row = "| shown (s) | 2 (1 – 4) | no |  |"
    assert row in readme and "dull" not in readme and "| old |" not in readme
    assert "Measured on" in readme and readme.endswith("\nthe end")
    assert with_findings(readme, notebooks.stored_findings()) == readme


def test_tour_of_notebooks_that_run(root: Path) -> None:
    (root / "notebooks" / "02_bad.ipynb").unlink()
    assert notebooks.main(["tour"]) == 0


def test_outputs_are_stored_without_what_varies(root: Path) -> None:
    path = root / "notebooks" / "01_good.ipynb"
    assert notebooks.main(["outputs", "01"]) == 0
    once = path.read_bytes()
    notebook = read(path)
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2]
    assert notebook.cells[2].outputs[0].text == "Hello one\n"
    assert notebook.metadata["kernelspec"]["display_name"] == "Python 3"
    assert notebook.metadata["language_info"] == {"name": "python"}
    assert notebook.cells[1].metadata == {"tags": ["kept"]}
    assert notebooks.main(["outputs", "01_good.ipynb"]) == 0
    assert path.read_bytes() == once
    assert [file.suffix for file in path.parent.iterdir()] == [".ipynb", ".ipynb"]


def test_outputs_are_those_of_the_offline_models(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTORIAL_MODELS", "hub")
    path = store(root, "03_models", "# Show", "import os; os.environ['TUTORIAL_MODELS']")
    assert notebooks.main(["outputs", "03"]) == 0
    assert read(path).cells[1].outputs[0].data["text/plain"] == "'offline'"


@pytest.mark.parametrize(
    "source, why",
    [
        ("1 / 0", "ZeroDivisionError"),
        ("", "code cell 2 is empty"),
        ("print('see /home/me/x.log')", "/home/me/x.log"),
        ("import os; os.path.abspath('y.log')", "y.log"),
        ("import os; os._exit(1)", "died"),
    ],
)
def test_outputs_that_cannot_be_committed_are_refused(
    source: str, why: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store(root, "03_refused", "# Try", "x = 1", source)
    before = path.read_bytes()
    assert notebooks.main(["outputs", "03"]) == 1
    printed = capsys.readouterr().out
    assert "left as it was" in printed and why in printed
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:8000/v2/docs", "work/02/serve.log", "/-/healthz", "and/or", "1/2", "~/x"],
)
def test_what_is_no_path_of_a_machine(text: str) -> None:
    output = nbformat.v4.new_output("display_data", {"text/plain": text, "image/png": "x/tmp/y"})
    cell = nbformat.v4.new_code_cell("", outputs=[output])
    assert notebooks.machine_paths(nbformat.v4.new_notebook(cells=[cell])) == []


def test_a_name_that_fits_no_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        notebooks.main(["outputs", "99"])
    assert ended.value.code == 2
    assert "No notebook's name begins with '99'. There are: 01_good" in capsys.readouterr().err


def test_badges_are_written_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    badge = (
        "# Title\n[c](https://colab.research.google.com/github/you/old/blob/main/notebooks/x.ipynb)"
        "[s](https://codespaces.new/you/old?quickstart=1)"
    )
    clone = "!git clone -q --depth 1 https://github.com/you/old.git project  # not you/older"
    path = store(root, "03_badges", badge, clone)
    badges.badges()
    new = read(path)
    assert "/github/me/new/blob/main/notebooks/03_badges.ipynb)" in new.cells[0].source
    assert "https://codespaces.new/me/new?quickstart=1" in new.cells[0].source
    assert "github.com/me/new.git project  # not you/older" in new.cells[1].source
    assert (root / "README.md").read_text() == README.replace("you/old", "me/new")
    assert "github.com/me/new project" in (root / "CONTRIBUTING.md").read_text()
    assert "03_badges.ipynb: now me/new" in capsys.readouterr().out
    badges.badges()
    assert capsys.readouterr().out == ""


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(badges).failed == 0
