"""No notebook leaves anything behind: not when all goes well, and not when it ends badly.

Each notebook runs once. One with both servers, a redis and a load ends in every bad way that a
reader knows. And the gate does close: notebooks that leak on purpose do not get through.
"""

import signal
import tempfile
from pathlib import Path

import nbformat
import pytest
from gate import each_notebook, gate, linux_only, rehearse
from test_nbval import cell, run_nbval, summary

from tools.notebooks import ROOT, execute

pytestmark = [linux_only, pytest.mark.timeout(1800)]

# Where SLOW names a file, either model makes it and then takes longer to load than anybody waits.
RAY_APP = """
import os
import time
from pathlib import Path

from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Echo:
    def __init__(self):
        if slow := os.environ.get("SLOW"):
            Path(slow).touch()
            time.sleep(600)

    async def __call__(self, request):
        return "served"


app = Echo.bind()
"""
MLSERVER_MODEL = """
import asyncio
import os
from pathlib import Path

from mlserver import MLModel


class Echo(MLModel):
    async def load(self) -> bool:
        if slow := os.environ.get("SLOW"):
            Path(slow).touch()
            await asyncio.sleep(600)
        return True
"""
STARTS = {
    "MLServer": "mlserver = mlserver_start('.')",
    "Ray Serve": "ray_serve = serve_run('ray_app:app', tuned=True)",
}
IMPORTS = """
import os, shutil, signal, threading, time
from helpers import *
"""
REDIS_AND_LOAD = """
if shutil.which("redis-server"):
    redis = "redis-server --bind 127.0.0.1 --port {http} --dir {scratch}"
    redis = command_run(redis, ready="Ready to accept connections", log="redis.log")
clients = load(mlserver.url + "/v2/models/echo/ready", seconds=None)
"""
ENDS = {
    "a failing cell": "raise ValueError('so it fails')",
    "a cell that takes too long": "time.sleep(999)",
    "a killed kernel": "os.kill(os.getpid(), signal.SIGKILL)",
    "a killed pytest": "os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(999)",
}
# What a pytest that is killed cannot take with it: the file that told it how to reach its kernel.
CONNECTION_FILE = "tmp*.json"
INTERRUPT = """
os.environ["SLOW"] = os.path.abspath("loading")


def interrupt():
    while not os.path.exists("loading"):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)


threading.Thread(target=interrupt).start()
"""
MARK = "left-by-a-test"
TEMPORARY = tempfile.gettempdir() + "/"
DETACHED = "import subprocess\nsubprocess.Popen({}, start_new_session=True, env={{}})"
HOLD_A_PORT = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); time.sleep(999)"
LEAKS = {
    "a process": (DETACHED.format(["sleep", "999"]), "process", ": sleep 999"),
    "a port": (
        "import sys\n" + DETACHED.format(f"[sys.executable, '-c', {HOLD_A_PORT!r}]"),
        "port 127.0.0.1:",
        HOLD_A_PORT,
    ),
    "a semaphore": (f"open('/dev/shm/sem.{MARK}', 'w').close()", "/dev/shm/", MARK),
    "a temporary file": (f"import tempfile\ntempfile.mkstemp('-{MARK}')", TEMPORARY, MARK),
    "a folder for sockets": (f"import os\nos.mkdir('/tmp/serve-{MARK}')", "/tmp/serve-", MARK),
    "a file in the repository": (
        f"open({str(ROOT / 'notebooks' / MARK)!r}, 'w').close()",
        f"{ROOT}/notebooks/",
        MARK,
    ),
    "another's file": (f"import os\nos.utime({str(ROOT / 'LICENSE')!r})", f"{ROOT}/", "LICENSE"),
}


@each_notebook
def test_a_notebook_leaves_nothing(path: Path) -> None:
    rehearsal = rehearse(path)
    assert not rehearsal.left
    assert not rehearsal.failure


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model for either server, for a notebook whose cells may take a minute."""
    (tmp_path / "ray_app.py").write_text(RAY_APP)
    (tmp_path / "mlserver_model.py").write_text(MLSERVER_MODEL)
    settings = '{"name": "echo", "implementation": "mlserver_model.Echo"}'
    (tmp_path / "model-settings.json").write_text(settings)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--nbval-cell-timeout=60")
    return tmp_path


@pytest.mark.parametrize("end", ENDS)
def test_a_notebook_that_ends_badly_leaves_nothing(end: str, folder: Path) -> None:
    sources = [IMPORTS, *STARTS.values(), REDIS_AND_LOAD, ENDS[end]]
    with gate(folder, known=[CONNECTION_FILE] if end == "a killed pytest" else []) as left:
        done = run_nbval(folder, *(cell("# NBVAL_IGNORE_OUTPUT\n" + each) for each in sources))
    assert not left
    if end == "a killed pytest":
        assert done.returncode == -signal.SIGKILL
    else:
        assert summary(done) == f"1 failed, {len(sources) - 1} passed", done.stdout


@pytest.mark.parametrize("server", STARTS)
def test_an_interrupted_start_leaves_nothing(server: str, folder: Path) -> None:
    with gate(folder) as left:
        done = run_nbval(folder, cell(IMPORTS), cell(INTERRUPT), cell(STARTS[server]))
    assert not left
    assert summary(done) == "1 failed, 2 passed", done.stdout
    assert "KeyboardInterrupt" in done.stdout


@pytest.mark.parametrize("leak", LEAKS)
def test_a_notebook_that_leaks_does_not_get_through(leak: str, tmp_path: Path) -> None:
    source, *words = LEAKS[leak]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    try:
        with gate(tmp_path, patience=3) as left:
            execute(notebook, tmp_path)
        assert any(all(word in line for word in words) for line in left), left
    finally:
        for place in ("/dev/shm", "/tmp", TEMPORARY, str(ROOT / "notebooks")):
            for path in Path(place).glob(f"*{MARK}"):
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()


def test_a_notebook_that_leaks_nothing_gets_through(tmp_path: Path) -> None:
    source = "import subprocess\nsubprocess.run(['true'])\nopen('own.txt', 'w').close()"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    with gate(tmp_path, patience=1) as left:
        execute(notebook, tmp_path)
    assert not left
