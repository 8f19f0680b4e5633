"""Which pins could move: uv is the real one, its packages are made here, notebooks are not run."""

import doctest
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import notebooks, outdated
from tools.notebooks import ROOT, find
from tools.outdated import SMOKE, beyond, chosen, is_pin, main, requirements, versions

REQUIREMENTS = """\
# The server, and what it needs
-c constraints.txt
server==1.0    # newer ones need protocol 2, which client does not know
client==1.0    # what is installed with it
free>=1        # no pin
other<2        # the one that could move
far==1.0; sys_platform == "plan9"
-e .
"""
CONSTRAINTS = """\
client==1.0
free==1.0
other==1.0
protocol==1.0 ; python_full_version >= '3.10'
protocol==0.9 ; python_full_version < '3.10'
server==1.0
"""
PACKAGES = {
    ("server", "1.0"): ["protocol<2"],
    ("server", "2.0"): ["protocol>=2"],
    ("client", "1.0"): ["protocol<2"],
    ("protocol", "1.0"): [],
    ("protocol", "1.5"): [],
    ("protocol", "2.0"): [],
    ("free", "1.0"): [],
    ("free", "1.1"): [],
    ("other", "1.0"): [],
    ("other", "2.1"): ["protocol>1"],
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two notebooks, and a folder of packages in place of the index."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.delenv("SERVER_PYTHON", raising=False)  # `main` removes it for good
    monkeypatch.setattr(outdated, "SMOKE", dict.fromkeys(["server", "client", "other"], ["02"]))
    for folder in ("notebooks", "wheels"):
        (tmp_path / folder).mkdir()
    for name in ("01_install", "02_serve"):
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
    (tmp_path / "requirements.txt").write_text(REQUIREMENTS)
    (tmp_path / "constraints.txt").write_text(CONSTRAINTS)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "ours"\nversion = "1"\ndependencies = ["free"]\n'
        '[tool.uv]\nno-index = true\nfind-links = ["wheels"]\n'
    )
    for (name, version), needs in PACKAGES.items():
        wheel(tmp_path / "wheels", name, version, needs)
    return tmp_path


def wheel(folder: Path, name: str, version: str, needs: list[str]) -> None:
    """Make a package with one module, which knows its version."""
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {each}" for each in needs]
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What each environment had when a notebook was tested in it; whatever has 2.1 fails."""
    seen: dict[str, list[str]] = {}

    def passes(path: Path, log: Path, python: str = sys.executable, **variables: str) -> bool:
        if python == sys.executable:
            seen["as pinned"] = [path.stem]
            return "broken" not in seen
        assert variables == {"PYTHONPATH": str(notebooks.ROOT)}
        listed = subprocess.run(
            [sys.executable, "-m", "uv", "pip", "list", "--python", python, "--format", "json"],
            capture_output=True,
            check=True,
        )
        found = [f"{each['name']} {each['version']}" for each in json.loads(listed.stdout)]
        seen[path.stem] = found
        return "other 2.1" not in found

    monkeypatch.setattr(outdated, "passes", passes)
    return seen


def test_a_pin_that_others_hold_stays_and_uv_says_why(
    root: Path, tried: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["server"])
    printed = capsys.readouterr().out
    assert printed.startswith("server==1.0: stays. ") and "No solution found" in printed
    assert "client==1.0" in printed and "protocol" in printed and "▶" not in printed
    assert not tried


def test_a_pin_that_is_the_newest_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["client"])
    printed = capsys.readouterr().out
    assert printed.startswith("client==1.0: stays. ") and "client" in printed.partition("stays")[2]


def test_an_index_that_does_not_answer_is_no_newest_version(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", "http://127.0.0.1:9/nobody")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(SystemExit, match="(?s)could not look.*127.0.0.1:9.*CPU_ONLY="):
        main(["server"])
    assert "stays" not in capsys.readouterr().out


def test_a_newer_version_is_tried_with_what_it_needs_and_nothing_else_moves(
    root: Path, tried: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "wheels" / "other-2.1-py3-none-any.whl").unlink()
    wheel(root / "wheels", "other", "2.0", ["protocol>1"])
    main(["other"])
    moved = "other<2: 2.0 (with it protocol 1.0 to 1.5): 02_serve passes\n"
    assert capsys.readouterr().out.startswith(moved)
    installed = ["client 1.0", "free 1.0", "other 2.0", "protocol 1.5", "server 1.0"]
    assert tried == {"02_serve": installed}
    assert (root / "requirements.txt").read_text() == REQUIREMENTS
    assert (root / "constraints.txt").read_text() == CONSTRAINTS
    assert not (root / "build" / "outdated" / "other" / "venv").exists()


@pytest.mark.parametrize(
    "as_pinned, outcome",
    [("whole", "02_serve FAILS\n"), ("broken", "02_serve fails, but as pinned it fails too\n")],
)
def test_what_breaks_is_told_from_what_was_broken(
    as_pinned: str,
    outcome: str,
    root: Path,
    tried: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    tried[as_pinned] = []
    main(["other"])
    assert outcome in capsys.readouterr().out
    assert tried["as pinned"] == ["02_serve"]


def test_what_cannot_be_installed_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = root / "wheels" / "other-2.1-py3-none-any.whl"
    with zipfile.ZipFile(damaged, "a") as file:
        file.writestr("other-2.1.data/unknown/x", "")  # no place of an installation has this name
    main(["other"])
    assert "2.1 (with it protocol 1.0 to 1.5) cannot be installed. " in capsys.readouterr().out
    assert not (root / "build" / "outdated" / "other" / "venv").exists()


def test_pins_are_chosen_by_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [pin.name for pin in chosen([])] == ["server", "client", "other", "far"]
    main(["far"])
    assert "not for this system" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["free"])
    assert "no pin of free, but of server, client" in capsys.readouterr().err


@pytest.mark.parametrize(
    "pin, kept_out",
    [("a[b]==1.2", "a[b]>1.2"), ("a<3", "a>=3"), ("a>=1,<3", "a>=1,>=3")],
)
def test_what_a_pin_keeps_out(pin: str, kept_out: str) -> None:
    assert beyond(Requirement(pin)) == Requirement(kept_out)
    assert is_pin(Requirement(pin)) and not is_pin(beyond(Requirement(pin)))


def test_versions_are_those_for_this_python() -> None:
    assert versions(CONSTRAINTS)["protocol"] == "1.0"
    assert versions("torch==2.13.0+cpu") == versions("torch==2.13.0")


def test_every_pin_of_ours_is_tried_with_notebooks_that_are_there() -> None:
    pins = filter(is_pin, requirements((ROOT / "requirements.txt").read_text(encoding="utf-8")))
    assert {pin.name for pin in pins} == SMOKE.keys()
    for names in SMOKE.values():
        assert len(find(names)) == len(names)


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(outdated).failed == 0
