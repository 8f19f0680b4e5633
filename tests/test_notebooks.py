"""The notebooks as documents: their form, their outputs, their links, the files that they write."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
import yaml
from machines import set_up_cell
from nbformat import NotebookNode

from helpers.results import findings
from tools.badges import slug, with_badges
from tools.notebooks import (
    README_PICTURE,
    ROOT,
    code_cells,
    find,
    machine_paths,
    readme_picture,
    stored_findings,
)
from tools.readme import with_findings

MEASURED = re.compile(
    r"\d ?(?:ms|s|seconds?|minutes?|requests/s|[kMG]i?B|(?:x|times|%) (?:faster|slower|less|more))"
    r"(?!\w)"
)
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

each_notebook = pytest.mark.parametrize("path", find(), ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def prose(path: Path) -> str:
    """All markdown of a notebook, without code in it."""
    cells = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    return re.sub(r"```.*?```|`[^`]*`", "", "\n\n".join(cells), flags=re.S)


def test_there_are_notebooks() -> None:
    assert find()


@each_notebook
def test_outputs_are_those_of_one_clean_run(path: Path) -> None:
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        if "raises-exception" not in cell.metadata.get("tags", []):
            assert not any(output.output_type == "error" for output in cell.outputs), cell.source


@each_notebook
def test_no_cell_that_is_compared_hides_its_value(path: Path) -> None:
    """A semicolon at the end hides a value in Jupyter, but not from nbval."""
    for cell in code_cells(read(path)):
        if "NBVAL_IGNORE_OUTPUT" not in cell.source:
            assert not cell.source.rstrip().endswith(";"), cell.source


@each_notebook
def test_no_cell_assigns_from_an_exclamation_mark(path: Path) -> None:
    """IPython 7, which Colab has, takes it for a syntax error under Python 3.12 and later."""
    for cell in code_cells(read(path)):
        assert not re.search(r"^\s*[^#\n]*[^=!<>]= ?!", cell.source, re.M), "use `lines = %sx ...`"


@each_notebook
def test_no_output_shows_a_path_of_a_machine(path: Path) -> None:
    assert machine_paths(read(path)) == []


@each_notebook
def test_has_the_form_of_a_notebook(path: Path) -> None:
    cells = read(path).cells
    assert cells[0].source.startswith("# ")
    text = prose(path)
    parts = ["**What you'll do", "**What you'll learn", "**What you'll need"]
    parts += ["## Key points", "## In practice", "## On your own"]
    parts += ["**Next"] if path != find()[-1] else []
    places = [text.find(part) for part in parts]
    assert -1 not in places, f"missing: {parts[places.index(-1)]}"
    assert places == sorted(places), "the parts are not in their order"


@each_notebook
def test_begins_with_the_set_up_cell_of_contributing(path: Path) -> None:
    assert code_cells(read(path))[0].source.startswith(set_up_cell())


@each_notebook
def test_no_measured_number_in_prose(path: Path) -> None:
    assert MEASURED.findall(prose(path)) == []


def test_what_counts_as_a_measured_number() -> None:
    for measured in ["took 12 ms", "12.5 s", "3 seconds", "800 requests/s", "2 GB", "2x faster"]:
        assert MEASURED.search(measured), measured
    for stable in ["about two minutes", "status 503", "2 replicas", "Python 3.12", "T5 and GPT-2"]:
        assert not MEASURED.search(stable), stable


# --- links ---


@each_notebook
def test_badges_of_a_notebook(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = f"https://colab.research.google.com/github/{slug()}/blob/main/notebooks/{path.name}"
    assert notebook in text
    assert f"https://codespaces.new/{slug()}?quickstart=1" in text
    assert text == with_badges(text, slug(), path.name), "run `make badges`"


def test_picture_of_the_readme_is_an_output_of_a_notebook() -> None:
    pictures = [readme_picture(nbformat.read(path, as_version=4)) for path in find()]
    assert [each for each in pictures if each] == [README_PICTURE.read_text("utf-8")]
    assert f"({README_PICTURE.relative_to(ROOT)})" in (ROOT / "README.md").read_text()


def test_findings_in_the_readme_are_those_stored_with_the_notebooks() -> None:
    stored = {path.stem for path in stored_findings()}
    assert stored == {path.stem for path in find() if "record(" in path.read_text("utf-8")}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == with_findings(text, stored_findings()), "run `make outputs`"
    assert findings(*stored_findings())["headline"].sum() <= 12  # what a reader reads


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_a_page_name_the_repository(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert slug() in text
    assert text == with_badges(text, slug(), name), "run `make badges`"


def test_readme_has_the_colab_badge_of_every_notebook_and_of_no_other() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"/blob/main/notebooks/([\w.-]+)", readme)) == {p.name for p in find()}


# --- the files that the notebooks write ---


def written(notebook: NotebookNode) -> list[dict[str, str]]:
    """The files that the `%%writefile` cells write, by name; one more stage per file rewritten."""
    stages: list[dict[str, str]] = [{}]
    for cell in code_cells(notebook):
        if cell.source.startswith("%%writefile"):
            found = re.fullmatch(r"%%writefile ([\w./-]+)\n(.*)", cell.source, re.S)
            assert found, f"not understood: {cell.source.splitlines()[0]}"
            if found[1] in stages[-1]:
                stages.append(dict(stages[-1]))
            stages[-1][found[1]] = found[2] + "\n"
    return stages


def check_written(notebook: NotebookNode, folder: Path) -> list[str]:
    """Write the files into a folder, stage by stage, and return what is wrong with them."""
    config = str(ROOT / "pyproject.toml")
    ruff = ["ruff", "check", "--config", config, "--output-format=concise", "--quiet"]
    ruff += ["--ignore=D,UP006,UP035"]  # MLServer's @decode_args knows List[str] and not list[str]
    cache = folder.parent / "mypy"  # the same for all: what the files import is read once
    mypy = ["mypy", "--config-file", config, "--no-error-summary", f"--cache-dir={cache}"]
    wrong = []
    for number, files in enumerate(written(notebook)):
        stage = folder / str(number)
        for name, body in files.items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).write_text(body, encoding="utf-8")
            try:
                if name.endswith(".json"):
                    json.loads(body)
                elif name.endswith((".yaml", ".yml")):
                    yaml.safe_load(body)
                elif name.endswith(".py"):
                    compile(body, name, "exec")
            except (ValueError, SyntaxError, yaml.YAMLError) as error:
                wrong.append(f"{name}: {error}")
        if any(name.endswith(".py") for name in files):
            for tool in [ruff, mypy]:
                command = [sys.executable, "-m", *tool, "."]
                done = subprocess.run(command, cwd=stage, capture_output=True, text=True)
                wrong += (done.stdout + done.stderr).splitlines() if done.returncode else []
    # mypy does not follow a class decorator: it takes a Ray deployment for the class it is made of
    return [w for w in wrong if not re.search(r'type\[\w+\]" has no attribute "(bind|options)"', w)]


@each_notebook
def test_files_that_a_notebook_writes(path: Path, tmp_path: Path) -> None:
    assert check_written(read(path), tmp_path) == []


@pytest.mark.parametrize(
    "source, complaint",
    [
        ("%%writefile settings.json\n{debug: false}", "settings.json: Expecting property name"),
        ("%%writefile app.yaml\na: [1", "app.yaml: while parsing a flow sequence"),
        ("%%writefile app.py\nasync def f(: ...", "app.py: invalid syntax"),
        ("%%writefile app.py\nimport os", "F401"),
        ('%%writefile app.py\ndef f() -> int:\n    return "one"', "Incompatible return value type"),
        ("%%writefile app.py\nclass A: ...\n\n\nb = A.unbind()", 'no attribute "unbind"'),
    ],
)
def test_a_flaw_in_a_written_file_is_found(source: str, complaint: str, tmp_path: Path) -> None:
    rewritten = "%%writefile " + source.split()[1] + "\n"
    cells = [nbformat.v4.new_code_cell(cell) for cell in (source, rewritten)]
    assert complaint in "\n".join(check_written(nbformat.v4.new_notebook(cells=cells), tmp_path))


def test_a_deployment_may_be_bound(tmp_path: Path) -> None:
    source = """\
    %%writefile app.py
    from ray import serve


    @serve.deployment(num_replicas=2)
    class Echo:
        async def __call__(self, text: str) -> str:
            return text


    app = Echo.bind()"""
    cell = nbformat.v4.new_code_cell(textwrap.dedent(source))
    assert check_written(nbformat.v4.new_notebook(cells=[cell]), tmp_path) == []
