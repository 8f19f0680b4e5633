"""The folder of a notebook: where its files go, and which servers belong to it."""

import os
import shutil
from pathlib import Path
from typing import Protocol

from helpers.environment import environment

START = Path.cwd()
"""Where the notebook lives; paths are shown relative to it."""


class Running(Protocol):
    """What runs for a notebook and can be stopped."""

    def stop(self) -> None:
        """Stop it."""


running: dict[Path, Running] = {}
"""The servers of this kernel by their log file, so that starting one again replaces it."""


def workspace(name: str) -> None:
    """Make ``work/NAME`` beside the notebook the current folder, empty, and set up its environment.

    Files that a notebook writes go there. Afterwards ``!serve``, ``!mlserver`` and ``!python`` in
    a cell are those of the interpreter that runs the servers. Servers that an earlier run of the
    notebook in the same kernel left are stopped, and what it recorded is forgotten.

    Parameters
    ----------
    name : str
        The notebook's name.

    Examples
    --------
    >>> workspace("02_ray_serve")                                           # doctest: +SKIP
    """
    for server in list(running.values()):
        server.stop()
    folder = START / "work" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ.update(environment())


def shown(path: Path) -> str:
    """Show a path relative to the notebook, never with the folders of this machine."""
    try:
        return str(path.relative_to(START))
    except ValueError:
        return path.name
