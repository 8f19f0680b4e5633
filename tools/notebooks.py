"""Run the notebooks, store their outputs, write the repository's name into their badges.

    python -m helpers.notebooks tour             # copies with outputs and one HTML page in build/
    python -m helpers.notebooks outputs 02 05    # new outputs in place; all notebooks if none named
    python -m helpers.notebooks badges

Needs nbclient, nbconvert and nbformat, which a notebook's own kernel does without.
"""

import argparse
import base64
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.results import findings

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
README_PICTURE = ROOT / "notebooks" / "processes.png"

# Where a text names the repository that it belongs to.
_SLUG = re.compile(
    r"(?:https://colab\.research\.google\.com/github/|https://codespaces\.new/"
    r"|git clone [^\n]*https://github\.com/)([\w.-]+/[\w.-]+)"
)
_COLAB_FILE = re.compile(r"(/blob/main/notebooks/)[\w.-]+\.ipynb")
_FOLDERS = r"/(?:home|root|Users|tmp|var|private|opt|usr|mnt|srv|content|workspaces)/"


def slug() -> str:
    """Return the repository's name on GitHub, ``owner/name``, from pyproject.toml."""
    found = re.search(r'^repository = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert found, "pyproject.toml has no line: repository = ..."
    return found[1]


def find(names: Sequence[str] = ()) -> list[Path]:
    """Find notebooks, in their order.

    Parameters
    ----------
    names : sequence of str
        Paths, or how the files' names begin: ``"02"``. All notebooks if empty.

    Returns
    -------
    list of Path

    Raises
    ------
    FileNotFoundError
        If a name fits no notebook.
    """
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    for name in names:
        if not any(path.name.startswith(Path(name).name) for path in notebooks):
            known = ", ".join(path.stem for path in notebooks) or "none"
            raise FileNotFoundError(f"No notebook's name begins with {name!r}. There are: {known}.")
    prefixes = tuple(Path(name).name for name in names)
    return [path for path in notebooks if path.name.startswith(prefixes or "")]


def execute(notebook: "NotebookNode", folder: Path) -> None:
    """Run all cells in a fresh kernel and put their outputs and counts into the notebook.

    Parameters
    ----------
    notebook : NotebookNode
        Changed in place. After an error it holds the outputs up to and including the error.
    folder : Path
        Where the kernel runs.

    Raises
    ------
    RuntimeError
        If a cell raises (without the tag ``raises-exception``), hangs or kills the kernel.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal
    from traitlets.config import Config

    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,  # else how a text was cut into messages would be stored
        record_timing=False,
        # Other users of this machine shall not listen in; without it, ipykernel warns of them.
        config=Config(KernelManager={"transport_encryption": "auto"}),
    )
    try:
        client.execute()
    except CellControlSignal as error:  # a dead kernel's error is a RuntimeError already
        message = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # without the traceback's colours
        raise RuntimeError(message.strip()) from None


def code_cells(notebook: "NotebookNode") -> "list[NotebookNode]":
    """Return the code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def machine_paths(notebook: "NotebookNode") -> list[str]:
    """Find paths of the machine that a notebook ran on in its outputs.

    Parameters
    ----------
    notebook : NotebookNode
        With outputs.

    Returns
    -------
    list of str
        What begins like a folder of this or of the usual machines, each once.
    """
    texts = [
        str(text)
        for cell in code_cells(notebook)
        for output in cell.outputs
        for kind, text in [*output.items(), *output.get("data", {}).items()]
        if kind != "data" and not kind.startswith("image/")
    ]
    places = [str(ROOT), str(Path.home()), tempfile.gettempdir()]
    known = "|".join(re.escape(place) for place in places if place != "/")
    path = rf"(?<![\w.:])(?:{known}|{_FOLDERS})[^\s'\"<>)]*"
    return sorted({match for text in texts for match in re.findall(path, text)})


def readme_picture(notebook: "NotebookNode") -> bytes | None:
    """Return the PNG of the cell tagged ``readme-picture``; None if there is no such cell."""
    for cell in code_cells(notebook):
        if "readme-picture" in cell.metadata.get("tags", []):
            [png] = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
            return base64.b64decode(png)
    return None


def tour() -> int:
    """Run all notebooks; put the executed copies and one HTML page of them all into build/.

    Returns
    -------
    int
        How many notebooks failed. The others ran all the same.
    """
    import nbformat
    from nbconvert import HTMLExporter

    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    page = nbformat.v4.new_notebook()
    failed = 0
    for path in find():
        print(f"{path.stem} ...", end=" ", flush=True)
        begin, outcome = time.monotonic(), "ok"
        notebook = nbformat.read(path, as_version=4)
        try:
            execute(notebook, path.parent)
        except RuntimeError as error:
            failed += 1
            outcome = f"FAILED\n{error}\n"
        print(f"{time.monotonic() - begin:.0f} s {outcome}", flush=True)
        nbformat.write(notebook, build / path.name)
        for number, cell in enumerate(notebook.cells):
            cell.id = f"{path.stem}-{number}"[-64:]  # two notebooks may have a cell of the same id
        page.cells += notebook.cells
    title = {"metadata": {"name": "MLServer and Ray Serve, run here"}}
    html, _ = HTMLExporter().from_notebook_node(page, resources=title)
    _write(build / "tour.html", html)
    print(f"In {build.relative_to(ROOT)}/: tour.html, and every notebook with its outputs.")
    return failed


def outputs(names: Sequence[str] = ()) -> int:
    """Run notebooks with the models in models/ and store the outputs in them.

    A notebook that fails, has an empty cell or shows a path of this machine stays as it was.

    Parameters
    ----------
    names : sequence of str
        Which ones, as in `find`.

    Returns
    -------
    int
        How many notebooks were refused.
    """
    import nbformat

    os.environ["TUTORIAL_MODELS"] = "offline"
    refused = 0
    for path in find(names):
        print(f"{path.stem} ...", end=" ", flush=True)
        notebook = nbformat.read(path, as_version=4)
        try:
            execute(notebook, path.parent)
            _tidy(notebook)
        except (RuntimeError, ValueError) as error:
            refused += 1
            print(f"left as it was: {error}")
        else:
            _write(path, nbformat.writes(notebook) + "\n")
            if picture := readme_picture(notebook):
                README_PICTURE.write_bytes(picture)
            found = path.parent / "work" / path.stem / "findings.json"
            if found.exists():
                stored = ROOT / "notebooks" / "results" / f"{path.stem}.json"
                stored.parent.mkdir(exist_ok=True)
                _write(stored, found.read_text(encoding="utf-8"))
            print("ok")
    readme = ROOT / "README.md"
    _write(readme, with_findings(readme.read_text(encoding="utf-8")))
    return refused


def badges() -> None:
    """Write the repository's name into every badge and link that names it."""
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *find()]:
        text = path.read_text(encoding="utf-8")
        new = with_badges(text, slug(), path.name)
        if new != text:
            _write(path, new)
            print(f"{path.relative_to(ROOT)}: now {slug()}")


def with_badges(text: str, slug: str, name: str) -> str:
    """Put the repository's name into the text of a file.

    Parameters
    ----------
    text : str
        The file, a notebook's JSON included.
    slug : str
        ``owner/name``.
    name : str
        The file's name. A notebook's own badge points at it.

    Returns
    -------
    str
        The text, in which every name that a badge or a ``git clone`` had is replaced everywhere.

    Examples
    --------
    >>> with_badges("https://codespaces.new/you/it?quickstart=1 by you/it", "me/this", "README.md")
    'https://codespaces.new/me/this?quickstart=1 by me/this'
    """
    for old in {match.removesuffix(".git") for match in _SLUG.findall(text)}:
        text = re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w-])", slug, text)
    if name.endswith(".ipynb"):
        text = _COLAB_FILE.sub(rf"\g<1>{name}", text)
    return text


def with_findings(text: str) -> str:
    """Put the headlines among the stored findings into the README, between its two comments.

    Parameters
    ----------
    text : str
        The README.

    Returns
    -------
    str
        The README with a new table.
    """
    stored = [*(ROOT / "notebooks" / "results").glob("*.json")]
    if not stored:
        return text
    table = findings(*stored)
    lines = ["| | MLServer | Ray Serve | |", "|---|---|---|---|"]
    for row in table[table["headline"]].to_dict("records"):
        number = row["notebook"].split("_")[0]
        link = f"[{number}](notebooks/{row['notebook']}.ipynb)"
        unit, question = row["unit"], row["question"]
        if unit and not re.search(rf"(?<!\w){re.escape(unit)}(?![\w/])", question):
            question += f" ({unit})"
        lines.append(f"| {question} | {row['MLServer']} | {row['Ray Serve']} | {link} |")
    machines = sorted(set(table.attrs["machine"].values()))
    block = "\n".join([*lines, "", f"Measured on {' and '.join(machines)}."])
    return re.sub(
        r"(?<=<!-- findings -->\n).*?(?=<!-- end of findings -->)",
        lambda _: block + "\n",
        text,
        flags=re.S,
    )


def _tidy(notebook: "NotebookNode") -> None:
    """Leave out what differs from machine to machine, or say why that is not possible."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if None in counts:
        raise ValueError(f"code cell {counts.index(None) + 1} is empty. Remove it.")
    if paths := machine_paths(notebook):
        raise ValueError(f"its outputs show paths of this machine: {', '.join(paths)}")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, so that an interrupt leaves the old one or the new one."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.notebooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("tour").set_defaults(run=lambda chosen: tour())
    actions.add_parser("badges").set_defaults(run=lambda chosen: badges())
    in_place = actions.add_parser("outputs")
    in_place.add_argument("names", nargs="*", help="how the notebooks' names begin: 02")
    in_place.set_defaults(run=lambda chosen: outputs(chosen.names))
    chosen = parser.parse_args(arguments)
    try:
        return 1 if chosen.run(chosen) else 0
    except FileNotFoundError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
