"""Which Python runs the servers.

The kernel of a notebook and the servers may need different Pythons: MLServer stops at 3.12, Google
Colab's kernel is newer. So the kernel imports neither framework, and this module says, in one
place, where they are.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ("mlserver", "mlserver_huggingface", "ray", "transformers", "torch")
"""What an interpreter must have to run the servers of the notebooks."""

_ROOT = Path(__file__).resolve().parent.parent
_complete: set[str] = set()  # interpreters that had it all; one that lacks some may get it yet


def missing(python: str) -> list[str]:
    """Name the packages of `PACKAGES` that an interpreter lacks.

    Parameters
    ----------
    python : str
        Path of the interpreter.

    Returns
    -------
    list of str
        Empty if it can run the servers.

    Raises
    ------
    OSError
        If it is no Python that runs.
    """
    script = (
        "import sys; from importlib.util import find_spec\n"
        "print(*[name for name in sys.argv[1:] if not find_spec(name)])"
    )
    command = [python, "-c", script, *PACKAGES]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.SubprocessError as error:
        raise OSError(f"{python} does not run: {error}") from None
    return found.stdout.split()


def server_python() -> str:
    """Find the interpreter that runs the servers.

    It is the one that the environment variable ``SERVER_PYTHON`` names; else this one, if it has
    both frameworks; else the one of the repository's own ``.venv``.

    Returns
    -------
    str
        Path of the interpreter.

    Raises
    ------
    RuntimeError
        If none of them has the packages, with what is missing and how to get it.

    Examples
    --------
    >>> from helpers.interpreter import server_python
    >>> server_python()                                                     # doctest: +SKIP
    '.venv/bin/python'
    """
    if named := os.environ.get("SERVER_PYTHON"):
        try:
            lacks = [] if named in _complete else missing(named)
        except OSError:
            raise RuntimeError(
                f"SERVER_PYTHON is {named}, which is not the path of a Python that runs. "
                "Give the absolute path of one, or unset SERVER_PYTHON."
            ) from None
        if lacks:
            raise RuntimeError(
                f"SERVER_PYTHON is {named}, which lacks: {', '.join(lacks)}. Install them there "
                f"with `{named} -m pip install -r requirements.txt`, or unset SERVER_PYTHON."
            )
        _complete.add(named)
        return named
    for python in (sys.executable, str(_ROOT / ".venv" / "bin" / "python")):
        with contextlib.suppress(OSError):
            if python in _complete or not missing(python):
                _complete.add(python)
                return python
    raise RuntimeError(
        f"No Python with MLServer and Ray Serve found: this one lacks "
        f"{', '.join(missing(sys.executable))}, and there is no working .venv in the repository. "
        "Run `make install` in the repository's folder, or set SERVER_PYTHON to the path of an "
        "interpreter that has what requirements.txt lists."
    )


def extras(name: str) -> str | None:
    """Find an environment with what few readers want, made by ``make extras``.

    Parameters
    ----------
    name : str
        One of the files in extras/, without its ending.

    Returns
    -------
    str or None
        Path of the folder with its programs, relative to the current folder; or None, and a
        sentence says how to make it.
    """
    folder = _ROOT / "build" / "extras" / name / "bin"
    if (folder / "python").exists():
        return os.path.relpath(folder)
    print("Not here: `make extras` makes the environment for it. Without it, this shows nothing.")
    return None
