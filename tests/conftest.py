"""What all tests share."""

import os
import signal

import pytest

# Before anything imports helpers: the tests' outputs are those of the models in models/.
os.environ.setdefault("TUTORIAL_MODELS", "offline")
# A shell that starts the tests in the background has them ignore what a reader's stop button sends.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def full_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever pace the notebooks are run in, a test's load lasts as long as it says."""
    monkeypatch.setenv("TUTORIAL_PACE", "full")
