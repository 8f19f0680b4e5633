"""Check that this Python has what requirements.txt lists: `python -m helpers.check`.

One line per package, ``[OK]`` or ``[FAIL]``, and for a failure what to do about it and, from the
comment in requirements.txt, why it matters; and one more for packages that do not go together. The
exit status is 1 if anything fails.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
PIP = f"{sys.executable} -m pip install"  # a terminal's own pip may be that of another Python


def check(lines: list[str], python: tuple[int, int] = sys.version_info[:2]) -> list[str]:
    """Compare what is installed with requirements.

    Parameters
    ----------
    lines : list of str
        Lines of a requirements file, with the reason for each in a comment.
    python : tuple of int
        Major and minor version of the interpreter.

    Returns
    -------
    list of str
        A line per requirement, Python's own first.

    Examples
    --------
    >>> check(["torch==0.1  # runs the models"], python=(3, 13))            # doctest: +SKIP
    ['[FAIL] Python 3.13: the servers need 3.10 to 3.12. Run `make install` with PYTHON=python3.12',
     '[FAIL] torch 2.13.0: runs the models. Run `.../python -m pip install "torch==0.1"`']
    """
    version_name = ".".join(map(str, python))
    if (3, 10) <= python <= (3, 12):
        results = [f"[OK]   Python {version_name}"]
    else:
        results = [
            f"[FAIL] Python {version_name}: the servers need 3.10 to 3.12. "
            "Run `make install` with PYTHON=python3.12"
        ]
    for line in lines:
        if not re.match(r"\w", line):  # a comment, an option, an empty line
            continue
        wanted, _, reason = (part.strip() for part in line.partition("#"))
        requirement = Requirement(wanted)
        if requirement.marker and not requirement.marker.evaluate():  # for another system
            continue
        found = installed(requirement.name) or "is missing"
        if found != "is missing" and requirement.specifier.contains(found, prereleases=True):
            results.append(f"[OK]   {requirement.name} {found}")
        else:
            results.append(f'[FAIL] {requirement.name} {found}: {reason}. Run `{PIP} "{wanted}"`')
    return results


def clash() -> list[str]:
    """Find what is installed side by side and does not go together.

    TensorFlow from 2.20 on loads its library so that triton, imported after it, crashes in LLVM
    (https://github.com/tensorflow/tensorflow/issues/124205). mlserver-huggingface imports the
    first, and text generation by PyTorch the second, which only torch's CUDA build brings.

    Returns
    -------
    list of str
        A line, or none.
    """
    tensorflow, triton = installed("tensorflow"), installed("triton")
    if not (tensorflow and triton and Version(tensorflow) >= Version("2.20")):
        return []
    return [
        f"[FAIL] tensorflow {tensorflow} beside triton {triton}: each request to the Hugging "
        "Face runtime of MLServer would crash a worker. "
        f'Run `{PIP} "tensorflow<2.20"`'
    ]


def installed(name: str) -> str | None:
    """Return the installed version of a package, None if it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    report = check(REQUIREMENTS.read_text().splitlines()) + clash()
    print("\n".join(report))
    sys.exit(any(line.startswith("[FAIL]") for line in report))
