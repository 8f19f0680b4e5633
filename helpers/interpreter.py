"""Which Python runs the servers, and in what environment.

The kernel of a notebook and the servers may need different Pythons: MLServer stops at 3.12, Google
Colab's kernel is newer. So the kernel imports neither framework, and this module says, in one
place, where they are.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path

from helpers import models

PACKAGES = ("mlserver", "mlserver_huggingface", "ray.serve", "transformers", "torch")
"""What an interpreter must have to run the servers of the notebooks."""

_ROOT = Path(__file__).resolve().parent.parent


@functools.lru_cache
def missing(python: str) -> tuple[str, ...]:
    """Name the packages of `PACKAGES` that an interpreter lacks.

    Parameters
    ----------
    python : str
        Path of the interpreter.

    Returns
    -------
    tuple of str
        Empty if it can run the servers. ``("a Python that runs",)`` if it cannot even start.
    """
    # find_spec imports only the parents, so this takes a fraction of a second, not of a minute.
    script = (
        "import sys; from importlib.util import find_spec\n"
        "for name in sys.argv[1:]:\n"
        "    if not find_spec(name.partition('.')[0]): print(name)"
    )
    try:
        found = subprocess.run(
            [python, "-c", script, *PACKAGES], capture_output=True, text=True, timeout=60
        )
    except OSError:
        return ("a Python that runs",)
    return tuple(found.stdout.split()) if found.returncode == 0 else ("a Python that runs",)


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
    named = os.environ.get("SERVER_PYTHON")
    candidates = [named] if named else [sys.executable, str(_ROOT / ".venv" / "bin" / "python")]
    for python in candidates:
        if not missing(python):
            return python
    lacks = ", ".join(missing(candidates[-1]))
    if named:
        raise RuntimeError(
            f"SERVER_PYTHON is {named}, which lacks: {lacks}. Install them there with "
            f"`{named} -m pip install -r requirements.txt`, or unset SERVER_PYTHON."
        )
    raise RuntimeError(
        f"No Python with MLServer and Ray Serve found: this one lacks "
        f"{', '.join(missing(sys.executable))}, and there is no working .venv in the repository. "
        "Run `make install` in the repository's folder, or set SERVER_PYTHON to the path of an "
        "interpreter that has what requirements.txt lists."
    )


def environment() -> dict[str, str]:
    """Return the environment variables under which commands and servers run.

    Returns
    -------
    dict of str to str
        What to add to ``os.environ``: the servers' commands first in ``PATH``, no telemetry, no
        proxy between us and our own machine, and what the models need (`models.environment`).
    """
    folder = str(Path(server_python()).parent)
    path = [p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if p != folder]
    return {
        **models.environment(),
        "PATH": os.pathsep.join([folder, *path]),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",  # a log line is in the log when it is printed
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, replicas are not to resolve again
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # its future default; unset, it warns
        "RAY_COLOR_PREFIX": "0",  # no colour codes in a log that a notebook shows
        "RAY_DEDUP_LOGS": "0",  # a line for every request, also when two replicas write the same
    }
