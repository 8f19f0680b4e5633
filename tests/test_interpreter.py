"""Which Python runs the servers."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.interpreter import missing, server_python


def test_interpreter_without_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    monkeypatch.setenv("SERVER_PYTHON", str(bare / "bin" / "python"))
    with pytest.raises(RuntimeError, match="lacks: mlserver.*pip install -r requirements.txt"):
        server_python()
    monkeypatch.setenv("SERVER_PYTHON", "/no/such/python")
    with pytest.raises(RuntimeError, match="not the path of a Python that runs"):
        server_python()


def test_this_interpreter_has_the_packages() -> None:
    assert missing(sys.executable) == []
