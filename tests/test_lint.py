"""What `make lint` says: nothing."""

import subprocess
import sys

import pytest

from tools.notebooks import ROOT

TOOLS = [["ruff", "check", "."], ["mypy"], ["codespell_lib"]]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool[0])
def test_lint(tool: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
