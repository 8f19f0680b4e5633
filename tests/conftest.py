"""What all tests share."""

import os

import pytest

# Before anything imports helpers: the tests' outputs are those of the models in models/.
os.environ.setdefault("TUTORIAL_MODELS", "offline")


@pytest.fixture(autouse=True)
def full_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever pace the notebooks are run in, a test's load lasts as long as it says."""
    monkeypatch.setenv("TUTORIAL_PACE", "full")
