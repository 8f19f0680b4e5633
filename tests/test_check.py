"""The environment check."""

from importlib.metadata import version

from helpers.check import REQUIREMENTS, check


def test_this_environment_passes() -> None:
    report = check(REQUIREMENTS.read_text().splitlines())
    assert len(report) > 10
    assert [line for line in report if not line.startswith("[OK]")] == []


def test_wrong_version_says_why_and_what_to_do() -> None:
    [_, line] = check(["pytest==0.1  # runs everything"])
    assert line == (
        f'[FAIL] pytest {version("pytest")}: runs everything. Run `pip install "pytest==0.1"`'
    )


def test_missing_package() -> None:
    [_, line] = check(["no-such-package>=2  # never mind"])
    assert line.startswith("[FAIL] no-such-package is missing: never mind.")


def test_wrong_python() -> None:
    [line] = check([], python=(3, 13))
    assert line.startswith("[FAIL] Python 3.13") and "PYTHON=python3.12" in line
