"""What a notebook may leave behind: nothing. Only Linux lets one look this closely.

`gate` looks before and after, and names whatever is new:

- Processes: all that descend from this one, with the ports that they hold. While the gate is up,
  this process inherits the orphans, so that none hides in a session of its own, or behind a title
  written over its environment, as redis does: notebooks/conftest.py goes by the environment.
- Files: what is ours and new in /dev/shm, in the temporary folder and at home, and what is new or
  has changed in the repository outside the notebook's own folder.

`rehearse` runs a notebook behind the gate and keeps the sockets that were listened on meanwhile.
"""

import contextlib
import ctypes
import functools
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import nbformat
import psutil
import pytest
from wait import wait_until

from tools.notebooks import ROOT, execute, find

PATIENCE = 60  # seconds: a guard whose kernel was killed gives its server 30 of them
# Made once for each user, by pytest, PyTorch, IPython and the like.
CACHES = ["pytest-of-*", "torchinductor_*", ".cache", ".config", ".ipython", ".jupyter", ".keras"]
CACHES += [".local"]
# Folders of the repository that nobody looks into, as nobody does into environments.
NOT_OURS = {".git", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
NOT_OURS |= {"__pycache__"}
ENDED = "has just ended"  # in place of a title
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER in linux/prctl.h

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="needs /proc, /dev/shm and a parent that adopts orphans"
)
each_notebook = pytest.mark.parametrize("path", find(), ids=lambda path: path.stem)


@dataclass(frozen=True)
class Listener:
    """A process, and an address at which it waits for connections."""

    process: str
    ip: str
    port: int


@dataclass(frozen=True)
class Rehearsal:
    """What came of a notebook: why it failed, if it did, what it left, who listened where."""

    failure: str
    left: list[str]
    listeners: set[Listener]


@functools.cache
def rehearse(path: Path) -> Rehearsal:
    """Run a notebook in quick pace, once, however many tests ask for it."""
    notebook = nbformat.read(path, as_version=4)
    own = path.parent / "work" / path.stem
    own.mkdir(parents=True, exist_ok=True)
    failure = ""
    with pytest.MonkeyPatch.context() as patch, gate(own) as left, watch() as listeners:
        patch.setenv("TUTORIAL_MODELS", "offline")
        patch.setenv("TUTORIAL_PACE", "quick")
        patch.setenv("TUTORIAL_PROGRESS", "off")
        try:
            execute(notebook, path.parent)
        except RuntimeError as error:
            failure = str(error)
    return Rehearsal(failure, left, listeners)


@contextlib.contextmanager
def gate(
    own: Path, *, patience: float = PATIENCE, known: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Fill a list with what is left when the block has ended; processes among it are then killed.

    Anything may lie in the folder `own`, and elsewhere files with names that are `known`.
    """
    left: list[str] = []
    expected = [*CACHES, *known]
    files_before, running_before = files(own), set(descendants())

    def found() -> list[str]:
        processes = set(descendants()) - running_before
        new = [path for path, time in files(own).items() if files_before.get(path) != time]
        return [
            *(f"process {process.pid}: {title(process)}" for process in processes),
            *(f"port {each.ip}:{each.port} of {each.process}" for each in listening(processes)),
            *(path for path in new if not any(fnmatch(Path(path).name, k) for k in expected)),
        ]

    adopt_orphans(True)
    try:
        yield left
    finally:
        wait_until(lambda: not found(), patience)
        left += sorted(found())
        for process in set(descendants()) - running_before:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        adopt_orphans(False)
        for child in set(psutil.Process().children()) - running_before:  # what we have adopted
            with contextlib.suppress(psutil.Error):
                child.wait(10)


@contextlib.contextmanager
def watch(every: float = 1) -> Iterator[set[Listener]]:
    """Fill a set with all listeners among our processes that are there while the block runs."""
    seen: set[Listener] = set()
    titles: dict[psutil.Process, str] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(every):
            running = descendants()
            for process in running:  # one that is just ending has lost its title, not its sockets
                if (now := title(process)) != ENDED:
                    titles[process] = now
            seen.update(listening(running, titles))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def adopt_orphans(yes: bool) -> None:
    """Become the parent of descendants whose own parent ends, or leave them to the system again."""
    nothing = [ctypes.c_ulong(0)] * 3
    if ctypes.CDLL(None, use_errno=True).prctl(ADOPT_ORPHANS, ctypes.c_ulong(yes), *nothing):
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def descendants() -> list[psutil.Process]:
    """Find all processes that descend from this one and still run."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def listening(
    processes: Iterable[psutil.Process], titles: Mapping[psutil.Process, str] = {}
) -> set[Listener]:
    """Find where processes wait for connections; some have titles that are known already."""
    ours = {process.pid: titles.get(process) or title(process) for process in processes}
    return {
        Listener(ours[each.pid], each.laddr.ip, each.laddr.port)
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.pid in ours
    }


def title(process: psutil.Process) -> str:
    """Name a process by the beginning of its command."""
    try:
        return " ".join(process.cmdline())[:200].strip() or ENDED
    except psutil.Error:
        return ENDED


def files(own: Path) -> dict[str, float]:
    """Find what is ours where others write as well, and in the repository with its last change."""
    found: dict[str, float] = {}
    for place in {"/dev/shm", "/tmp", tempfile.gettempdir(), str(Path.home())}:
        for entry in os.scandir(place):
            with contextlib.suppress(FileNotFoundError):  # it has just gone
                if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                    found[entry.path] = 0.0  # a folder changes with every file in it
    for place, folders, names in os.walk(ROOT):
        here = Path(place)
        folders[:] = [
            name
            for name in folders
            if name not in NOT_OURS
            and here / name != own
            and not (here / name / "pyvenv.cfg").exists()
        ]
        found |= {str(here / name): 0.0 for name in folders}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[str(here / name)] = os.lstat(here / name).st_mtime
    return found
