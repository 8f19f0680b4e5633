"""Which Python runs the servers."""

import subprocess
import sys
from pathlib import Path

import pytest

import helpers.interpreter
from helpers.interpreter import extras, missing, server_python


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


def test_the_second_environment_is_found_or_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(helpers.interpreter, "_ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert extras("page") is None and "make extras" in capsys.readouterr().out
    (tmp_path / "build/extras/page/bin").mkdir(parents=True)
    (tmp_path / "build/extras/page/bin/python").touch()
    assert extras("page") == "../build/extras/page/bin" and not capsys.readouterr().out
