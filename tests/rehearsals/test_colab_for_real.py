"""Run All on Google Colab, as near to it as other machines come.

The kernel is of Python 3.13 and has Colab's own versions (colab.txt), its environment variables and
what a notebook notices of its shell (fake_colab.py). The set-up cell installs for real, with Python
3.12 and by uv; how long that took, and what its reader saw meanwhile, is left in
build/rehearsal/colab.log. With the servers from there, the notebooks run, each alone in an empty
folder. What is missing of Colab is its image, its network and its page;
tests/test_colab.py is the short form, for every day.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import requires
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from machines import (
    interpreter,
    notebook,
    pretend_colab,
    run,
    set_up_cell,
    skip_unless_installable,
    told,
)
from nbclient import NotebookClient
from nbformat import NotebookNode
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.notebooks import ROOT, execute, find

HERE = Path(__file__).parent
PATIENCE = 300  # seconds without a sign of life, after which a reader stops the cell
# The tour, and of the comparison the one with the most commands in its cells.
NOTEBOOKS = ["01", "02", "03", "04", "05", "09"]
# What Colab's PATH has for the set-up cell. Not all of this machine's: a Python might be among it.
TOOLS = ["bash", "git", "make", "rm", "sed", "sh", "touch", "uname"]

pytestmark = pytest.mark.timeout(3600)


class Watcher(NotebookClient):
    """Runs a notebook and keeps what its cells print, and when."""

    printed: list[tuple[float, str]]

    def process_message(self, message: Any, *rest: Any) -> Any:
        if message["msg_type"] == "stream":
            self.printed.append((time.monotonic(), message["content"]["text"]))
        return super().process_message(message, *rest)


class Seen(NamedTuple):
    """What somebody saw who waited for a cell."""

    text: str
    lines: str  # the same, with the seconds since the cell was started
    silence: float  # the longest time in which nothing came


def watch(ran: NotebookNode, folder: Path) -> Seen:
    resources = {"metadata": {"path": str(folder)}}
    client = Watcher(ran, timeout=3000, kernel_name="python3", resources=resources)
    begin = time.monotonic()
    client.printed = [(begin, "")]
    client.execute()
    printed = [*client.printed, (time.monotonic(), "")]
    return Seen(
        text="".join(text for _, text in printed),
        lines="\n".join(f"{when - begin:6.1f} s {text!r}" for when, text in printed),
        silence=max(later - earlier for (earlier, _), (later, _) in pairwise(printed)),
    )


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment like that of Colab's kernel."""
    skip_unless_installable(1)
    folder = tmp_path_factory.mktemp("kernel")
    python = folder / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "-q"]
    try:
        run(*uv, "venv", "--clear", "--python", interpreter("3.13") or "3.13", folder)
    except subprocess.CalledProcessError:
        pytest.skip("no Python 3.13 here, and uv could fetch none")
    run(*uv, "pip", "install", "--python", python, "-r", HERE / "colab.txt")
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "google" / "colab").mkdir(parents=True)
    shutil.copy(HERE / "fake_colab.py", packages / "google" / "colab" / "__init__.py")
    launch = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    launch += ["--IPKernelApp.kernel_class=google.colab.Kernel"]
    about = {"argv": launch, "display_name": "Python 3", "language": "python"}
    described = folder / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    described.parent.mkdir(parents=True, exist_ok=True)  # ipykernel brings one of its own
    described.write_text(json.dumps(about))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def colab(kernel: Path, github: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder in which Colab starts a notebook."""
    pretend_colab(monkeypatch, kernel, github)
    monkeypatch.setenv("PATH", str(kernel / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("SERVER_PYTHON", sys.executable)
    folder = tmp_path / "content"
    folder.mkdir()
    return folder


class Installed(NamedTuple):
    """Where the set-up cell has run for real, and what was seen of it."""

    folder: Path
    python: Path
    seen: Seen


@pytest.fixture(scope="module")
def installed(
    kernel: Path, github: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """Run the set-up cell in an empty folder, on a machine that has what Colab has for it."""
    skip_unless_installable(12)
    folder = tmp_path_factory.mktemp("colab")
    content, tools = folder / "content", folder / "tools"
    content.mkdir()
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    if python := interpreter("3.12"):
        # Stands in for the one that uv would fetch: `make` does not try this name, uv does.
        (tools / "python").symlink_to(python)
    try:
        with pytest.MonkeyPatch.context() as patch:
            pretend_colab(patch, kernel, github)
            patch.setenv("PATH", os.pathsep.join([str(kernel / "bin"), str(tools)]))
            for name in told():
                patch.delenv(name)
            seen = watch(notebook(set_up_cell()), content)
        log = ROOT / "build" / "rehearsal" / "colab.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(seen.lines + "\n", encoding="utf-8")
        yield Installed(content, content / "project" / ".venv" / "bin" / "python", seen)
    finally:
        shutil.rmtree(folder)


def test_colabs_versions_satisfy_what_helpers_depends_on() -> None:
    lines = [line for line in (HERE / "colab.txt").read_text().splitlines() if "==" in line]
    pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}
    needed = [Requirement(line) for line in requires("mlserver-vs-ray-serve") or []]
    assert needed
    for each in needed:
        assert each.specifier.contains(pins[canonicalize_name(each.name)]), each


def test_the_kernel_is_like_colabs(colab: Path) -> None:
    look = (
        "import sys\n"
        "from importlib.util import find_spec\n"
        "assert sys.version_info[:2] == (3, 13), sys.version\n"
        "assert 'google.colab' in str(type(get_ipython()))\n"
        "absent = ['ray', 'mlserver', 'transformers', 'torch', 'locust', 'helpers']\n"
        "assert not [name for name in absent if find_spec(name)]"
    )
    terminal = (
        "kind = 'terminal'\n"
        "said = %sx test -t 1 && echo été, {kind}\n"
        "assert said == ['été, terminal'], said"
    )
    execute(notebook(look, terminal), colab)


def test_a_notebook_that_needs_more_than_colabs_kernel_has_fails(colab: Path) -> None:
    with pytest.raises(RuntimeError, match="No module named 'ray'"):
        execute(notebook(set_up_cell(), "import ray"), colab)


def test_a_silence_is_noticed(colab: Path) -> None:
    seen = watch(notebook("!echo one; sleep 3; echo two"), colab)
    assert seen.text == "one\ntwo\n"
    assert seen.silence > 2


def test_the_set_up_cell_installs_and_shows_that_it_works(installed: Installed) -> None:
    seen = installed.seen
    assert (installed.folder / "project" / ".venv" / ".installed").exists(), seen.text[-3000:]
    assert "It takes some minutes" in seen.text
    assert "uv could not do it" not in seen.text, seen.text
    assert "\x1b[1A" not in seen.text, "a bar that goes back to its line does not in a cell"
    assert seen.silence < PATIENCE, seen.lines


def test_what_it_installed_is_found_and_whole(
    installed: Installed, colab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVER_PYTHON")
    find_it = (
        "from helpers.interpreter import server_python\n"
        f"assert server_python() == {str(installed.python)!r}, server_python()\n"
        "version = %sx {server_python()} -V\n"
        "assert version[0].startswith('Python 3.12.'), version\n"
        "report = %sx {server_python()} -m helpers.check\n"
        "assert len(report) > 20 and not [line for line in report if '[OK]' not in line], report"
    )
    again = notebook(set_up_cell(), find_it)
    execute(again, installed.folder)
    assert not [cell.outputs for cell in again.cells if cell.outputs]  # nothing was done twice


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_run_all(
    name: str, installed: Installed, colab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_PYTHON", str(installed.python))
    [path] = find([name])
    shutil.copy(path, colab)
    execute(nbformat.read(colab / path.name, as_version=4), colab)
