"""The environment check."""

import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

import helpers.check as module
from helpers.check import REQUIREMENTS, check, clash


def test_this_environment_passes() -> None:
    report = check(REQUIREMENTS.read_text().splitlines())
    assert len(report) > 10
    assert [line for line in report if not line.startswith("[OK]")] == []


def test_wrong_version_says_why_and_what_to_do() -> None:
    [_, line] = check(["pytest==0.1  # runs everything"])
    found = version("pytest")
    pip = f"{sys.executable} -m pip install"  # of the Python that was looked at
    assert line == f'[FAIL] pytest {found}: runs everything. Run `{pip} "pytest==0.1"`'


def test_missing_package() -> None:
    [_, line] = check(["no-such-package>=2  # never mind"])
    assert line.startswith("[FAIL] no-such-package is missing: never mind.")


def test_what_another_system_needs_is_not_missed() -> None:
    [_] = check(['no-such-package>=2; sys_platform == "plan9"  # never mind'])


def test_wrong_python() -> None:
    [line] = check([], python=(3, 13))
    assert line.startswith("[FAIL] Python 3.13") and "PYTHON=python3.12" in line


@pytest.mark.parametrize(
    "versions, complains",
    [
        ({"tensorflow": "2.21.0", "triton": "3.7.1"}, True),
        ({"tensorflow": "2.20.0", "triton": "3.7.1"}, True),
        ({"tensorflow": "2.19.1", "triton": "3.7.1"}, False),
        ({"tensorflow": "2.21.0"}, False),  # torch's CPU build brings no triton
        ({}, False),
    ],
)
def test_the_pair_that_crashes_is_named(
    versions: dict[str, str], complains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(module, "version", version)
    found = clash()
    assert bool(found) == complains
    assert all("tensorflow 2.2" in line and "triton 3.7.1" in line for line in found)


def test_this_environment_has_no_clash() -> None:
    assert clash() == []
