"""What all tests share."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything imports helpers: the tests' outputs are those of the models in models/.
os.environ.setdefault("TUTORIAL_MODELS", "offline")
# A shell that starts the tests in the background has them ignore what a reader's stop button sends.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
NOT_IN_THE_CLONE = [".git", ".venv", "build", "work", "*cache*", "*.egg-info"]


@pytest.fixture(autouse=True)
def full_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever pace the notebooks are run in, a test's load lasts as long as it says."""
    monkeypatch.setenv("TUTORIAL_PACE", "full")


@pytest.fixture(scope="session")
def github(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the files as they are now, committed or not."""
    folder = tmp_path_factory.mktemp("github") / "repository"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_IN_THE_CLONE))
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in [["init", "-q"], ["add", "."], ["commit", "-q", "-m", "as it is now"]]:
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="The site's environment has the browser: make site, rehearse"
    )
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip(f"The tests in a browser need one of {', '.join(BROWSERS)}.")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=found[0])
        yield chromium
        chromium.close()
