"""Run the notebooks and store their outputs.

    python -m tools.notebooks tour             # copies with outputs and one HTML page in build/
    python -m tools.notebooks outputs 02 05    # new outputs in place; all notebooks if none named
    python -m tools.notebooks findings         # what the last run found, beside what is stored
    python -m tools.notebooks failed           # which notebooks failed in the last run of pytest

Needs nbclient, nbconvert and nbformat, which a notebook's own kernel does without.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from helpers.display import show
from helpers.results import compare_runs, read
from tools.readme import in_words, with_findings, with_time

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
README_PICTURE = ROOT / "notebooks" / "throughput.svg"

_FOLDERS = r"/(?:home|root|Users|tmp|var|private|opt|usr|mnt|srv|content|workspaces)/"


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
    os.environ["TUTORIAL_PROGRESS"] = "off"  # an output cannot be taken back: see helpers.display
    client = NotebookClient(
        notebook,
        timeout=900,
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


def readme_picture(notebook: "NotebookNode") -> str | None:
    """Return the SVG of the cell tagged ``readme-picture``; None if there is no such cell."""
    for cell in code_cells(notebook):
        if "readme-picture" in cell.metadata.get("tags", []):
            [svg] = [o.data["image/svg+xml"] for o in cell.outputs if "data" in o]
            return svg
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
    write(build / "tour.html", html)
    print(f"In {build.relative_to(ROOT)}/: tour.html, and every notebook with its outputs.")
    return failed


def outputs(names: Sequence[str] = ()) -> int:
    """Run notebooks in full pace with the models in models/ and store the outputs in them.

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

    os.environ |= {"TUTORIAL_MODELS": "offline", "TUTORIAL_PACE": "full"}
    refused, readme = 0, ROOT / "README.md"
    for path in find(names):
        print(f"{path.stem} ...", end=" ", flush=True)
        notebook, begin = nbformat.read(path, as_version=4), time.monotonic()
        try:
            execute(notebook, path.parent)
            _tidy(notebook)
        except (RuntimeError, ValueError) as error:
            refused += 1
            print(f"left as it was: {error}")
        else:
            took = time.monotonic() - begin
            notebook.cells[0].source = with_time(notebook.cells[0].source, path.stem, took)
            write(readme, with_time(readme.read_text(encoding="utf-8"), path.stem, took))
            write(path, nbformat.writes(notebook) + "\n")
            if picture := readme_picture(notebook):
                write(README_PICTURE, picture)
            found = path.parent / "work" / path.stem / "findings.json"
            if found.exists():
                results = ROOT / "notebooks" / "results"
                results.mkdir(exist_ok=True)
                write(results / f"{path.stem}.json", found.read_text(encoding="utf-8"))
            print(f"ok, {in_words(took)}")
    write(readme, with_findings(readme.read_text(encoding="utf-8"), stored_findings()))
    return refused


def compare_findings() -> None:
    """Print the findings of the last run, in full pace, beside the stored ones. Judges nothing."""
    tables = []
    for stored in stored_findings():
        now = ROOT / "notebooks" / "work" / stored.stem / "findings.json"
        if now.exists() and (found := read(now))["pace"] == "full":
            tables.append(compare_runs(read(stored), found))
    if not tables:
        print("No notebook with findings was run in full pace since the last `make clean`.")
        return
    table = pd.concat(tables)
    print(show(table))
    print(f"\n{table['within'].sum()} of {len(table)} numbers are about as they were stored.")


def failed() -> bool:
    """Print the notebooks of which a cell failed in pytest's last run; tell if there was none."""
    cache = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
    tests = json.loads(cache.read_text(encoding="utf-8")) if cache.exists() else {}
    names = {test.partition("::")[0] for test in tests}
    notebooks = sorted(name for name in names if name.endswith(".ipynb"))
    print(*notebooks)
    return not notebooks


def stored_findings() -> list[Path]:
    """Return the files of findings that are stored with the notebooks."""
    return sorted((ROOT / "notebooks" / "results").glob("*.json"))


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


def write(path: Path, text: str) -> None:
    """Replace a file in one step, so that an interrupt leaves the old one or the new one.

    Parameters
    ----------
    path : Path
        The file; made if it is not there.
    text : str
        All of its new content.
    """
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.notebooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("tour").set_defaults(run=lambda chosen: tour())
    actions.add_parser("findings").set_defaults(run=lambda chosen: compare_findings())
    actions.add_parser("failed").set_defaults(run=lambda chosen: failed())
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
