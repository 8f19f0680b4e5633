"""`pytest --nbval notebooks/` fails where it should, shown on notebooks that deserve it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from wait import runs

from tools.notebooks import ROOT

LEAK = """
import pathlib, subprocess, sys
sleeping = [sys.executable, "-c", "import time; time.sleep(999)"]
leak = subprocess.Popen(sleeping, start_new_session=True)
_ = pathlib.Path("pid").write_text(str(leak.pid))
"""


def cell(source: str, *texts: str) -> NotebookNode:
    """A code cell that printed some texts when its notebook was stored."""
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in texts]
    return nbformat.v4.new_code_cell(source, outputs=outputs)


def run_nbval(
    folder: Path, *cells: NotebookNode, patience: int = 40
) -> subprocess.CompletedProcess[str]:
    """Store cells as a notebook and test it as those in notebooks/ are tested."""
    for number, each in enumerate(cells, 1):
        each.execution_count = None if each.metadata.get("not_run") else number
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), folder / "tiny.ipynb")
    conftest = (ROOT / "notebooks" / "conftest.py").read_text()
    (folder / "conftest.py").write_text(conftest.replace("PATIENCE = 40", f"PATIENCE = {patience}"))
    config = ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *config, "--color=no", "--nbval", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def summary(done: subprocess.CompletedProcess[str]) -> str:
    """How pytest sums it up: `1 failed, 2 passed`."""
    assert "INTERNALERROR" not in done.stdout, done.stdout
    found = re.search(r"^=+ (.*) in [\d.]+s", done.stdout.splitlines()[-1])
    assert found, done.stdout + done.stderr
    return found[1]


def test_what_has_not_changed_passes(tmp_path: Path) -> None:
    done = run_nbval(
        tmp_path,
        cell("print('Bonjour !')", "Bonjour !\n"),
        cell("import os\nprint('PID', os.getpid())", "PID 12345\n"),
        cell("print(os.environ['TUTORIAL_MODELS'])", "offline\n"),
        cell(
            "import time\nfrom helpers.display import progress\n"
            "with progress() as line:\n    time.sleep(1.6)\n    line.show('starting')\n"
            "print('ready')",
            "ready\n",
        ),
    )
    assert summary(done) == "4 passed"


def test_every_changed_output_fails(tmp_path: Path) -> None:
    done = run_nbval(
        tmp_path,
        cell("x = 1"),
        cell("print('Bonjour !')", "Bonsoir !\n"),  # a prediction
        cell("print((200, 'Bonjour !'))", "(503, 'Bonjour !')\n"),  # a status code
        cell("print('http://127.0.0.1:4321/v2')", "http://127.0.0.1:1234/v1\n"),  # a path
        cell("print('one more line')"),
        cell("x = 2", "one line less\n"),
    )
    assert summary(done) == "5 failed, 1 passed"
    assert done.returncode == 1


def test_a_cell_that_was_not_run_is_refused(tmp_path: Path) -> None:
    not_run = cell("print('never seen')")
    not_run.metadata["not_run"] = True
    done = run_nbval(tmp_path, cell("x = 1"), not_run)
    assert summary(done) == "1 passed, 1 error"
    assert "Run `make outputs`" in done.stdout


def test_a_leaking_notebook_is_found_and_its_processes_are_ended(tmp_path: Path) -> None:
    done = run_nbval(tmp_path, cell("x = 1"), cell(LEAK), patience=1)
    pid = int((tmp_path / "pid").read_text())
    try:
        assert summary(done) == "2 passed, 1 error"
        assert re.search(rf"tiny.ipynb leaves running:\n.*PID {pid}: .*time.sleep", done.stdout)
        assert not runs(pid)
    finally:
        if runs(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "end",
    ["raise ValueError('so it fails')", "os.kill(os.getpid(), signal.SIGKILL)"],
    ids=["failing", "killed"],
)
def test_an_unhappy_notebook_leaves_no_server(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--nbval-cell-timeout=20")  # so long it asks a dead kernel
    shutil.copy(ROOT / "tests" / "fake_server.py", tmp_path)
    start = (
        "# NBVAL_IGNORE_OUTPUT\n"
        "import os, signal\n"
        "from helpers import python_run\n"
        "python_run('fake_server.py', 'well-behaved', ready='/')"
    )
    done = run_nbval(tmp_path, cell(start), cell(end))
    assert summary(done) == "1 failed, 1 passed"
    assert not runs(int((tmp_path / "pid").read_text()))
