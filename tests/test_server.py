"""Background servers, tested with small fake ones; the notebooks test them with the real ones."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from wait import listens, processes_in, wait_until

import helpers.server
from helpers import (
    Server,
    ServerError,
    command_run,
    mlserver_start,
    python_run,
    workspace,
)
from helpers.interpreter import server_python

FAKE = Path(__file__).with_name("fake_server.py")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder with the fake server in it; afterwards, nothing may be running."""
    shutil.copy(FAKE, tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not processes_in(tmp_path), "a server outlived its test"


def fake(behaviour: str, **options: object) -> Server:
    return python_run("fake_server.py", behaviour, ready="/", **options)  # type: ignore[arg-type]


def test_ready_then_stopped() -> None:
    with fake("well-behaved") as server:
        assert requests.get(server.url).status_code == 200
        assert "ready" in repr(server) and server.url in repr(server)
        assert server.pid == int(Path("pid").read_text())
        assert list(server.processes()["PID"]) == [server.pid]
    assert not listens(server.ports["http"])
    assert not server.scratch.exists()
    assert "stopped by SIGINT" in server.log.read_text()
    assert "stopped" in repr(server) and server.processes().empty
    server.stop()  # again: does nothing


def test_logs_prints_the_tail(capsys: pytest.CaptureFixture[str]) -> None:
    with fake("well-behaved") as server:
        server.logs(1)
        assert capsys.readouterr().out.startswith("asked")


def test_early_death_is_noticed_and_explained() -> None:
    with pytest.raises(ServerError) as error:
        fake("dies")
    message = str(error.value)
    assert "exit status 3" in message
    assert "python fake_server.py dies" in message
    assert "some words before the end" in message
    assert str(Path.cwd()) not in message, "a path of this machine"


def test_the_error_that_ended_a_server_is_said_however_much_came_after_it() -> None:
    with pytest.raises(ServerError, match="raised:  package.SomeError: nobody is at home"):
        fake("dies-in-order")


def test_a_ray_that_was_too_slow_is_started_once_more() -> None:
    with python_run("fake_server.py", "too-slow-at-first", "1", ready="/") as server:
        assert requests.get(server.url).status_code == 200
        assert "timed out during startup" in server.log.read_text(), "nobody would know"
    assert Path("tries").read_text() == "xx"
    assert not server.scratch.exists()


def test_a_ray_that_is_too_slow_again_is_not_started_for_ever() -> None:
    with pytest.raises(ServerError, match="timed out during startup"):
        python_run("fake_server.py", "too-slow-at-first", "9", ready="/")
    assert Path("tries").read_text() == "xx"


def test_never_ready_times_out() -> None:
    with pytest.raises(ServerError, match="was not ready after 1 s"):
        fake("never-ready", timeout=1)


def test_a_server_that_ignores_signals_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers.server, "GRACE", 1.0)
    server = fake("ignores-signals")
    server.stop()
    assert not listens(server.ports["http"])


def test_a_flood_of_log_lines_blocks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with fake("floods") as server:
        assert requests.get(server.url).status_code == 200
        server.logs(5)
        assert len(capsys.readouterr().out.splitlines()) == 5


def test_what_the_server_started_goes_with_it() -> None:
    server = fake("leaves-child")
    child = int(server.log.read_text().split()[1])
    assert psutil.pid_exists(child)
    server.stop()
    assert wait_until(lambda: not psutil.pid_exists(child))


def test_a_process_that_cannot_be_read_hides_none_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake("leaves-child") as server:
        whole, read = list(server.processes()["PID"]), psutil.Process.num_threads
        assert len(whole) == 2

        def fails(process: psutil.Process) -> int:
            if process.pid == server.pid:
                raise psutil.AccessDenied(process.pid)
            return read(process)

        monkeypatch.setattr(psutil.Process, "num_threads", fails)
        assert list(server.processes()["PID"]) == whole[1:]


def test_a_process_that_ends_while_command_lines_are_read_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with fake("leaves-child") as server:
        [(child, words)] = server.command_lines().items()
        assert child == int(server.log.read_text().split()[1])
        assert words == ["sleep", "1000"]

        def ended(process: psutil.Process) -> list[str]:
            raise psutil.NoSuchProcess(process.pid)

        monkeypatch.setattr(psutil.Process, "cmdline", ended)
        assert server.command_lines() == {}
    assert server.command_lines() == {}


def test_a_worker_of_ray_that_could_not_set_its_title_is_named_by_its_log(folder: Path) -> None:
    (folder / "default_worker.py").write_text(
        "import time\n"
        "log = open('worker-1.out', 'w', buffering=1)\n"
        "log.write(':job_id:01\\n:actor_name:ServeReplica:one:Echo\\n')\n"
        "print('up', flush=True)\n"
        "time.sleep(1000)\n"
    )
    start = "import subprocess, sys; subprocess.run([sys.executable, 'default_worker.py'])"
    (folder / "parent.py").write_text(start)
    with command_run("python parent.py", ready="up", log="parent.log") as server:
        assert server.processes()["process"].str.strip()[1] == "ray::ServeReplica:one:Echo"


def test_main_process_killed_from_outside() -> None:
    server = fake("leaves-child")
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: "ended (exit status 137)" in repr(server))
    assert wait_until(lambda: not processes_in(Path.cwd()))
    server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and /dev/shm")
@pytest.mark.parametrize("end", ["by its kernel", "from outside"])
def test_a_killed_server_leaves_no_semaphore(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_PACE", "quick")
    server = fake("holds-a-semaphore")
    server.abrupt = True  # so that it is killed when it is stopped
    assert server.pid
    name = re.search(r"semaphore (\S+)", server.log.read_text())
    assert name
    semaphore = Path(f"/dev/shm/sem.{name[1]}")
    assert semaphore.exists()
    if end == "from outside":
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until(lambda: "ended" in server.state)
    server.stop()
    assert not semaphore.exists()


def test_taken_port() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        Path("settings.json").write_text(json.dumps({"http_port": port}))
        with pytest.raises(OSError, match=f"Port {port} is taken"):
            mlserver_start(".")


def test_two_at_the_same_time(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.copy(FAKE, tmp_path / "other")
    with fake("well-behaved") as first, fake("well-behaved", cwd="other") as second:
        assert first.url != second.url
        assert requests.get(first.url).text != requests.get(second.url).text
    assert not processes_in(tmp_path / "other")


def test_starting_again_replaces() -> None:
    first = fake("well-behaved")
    second = fake("well-behaved")
    assert not listens(first.ports["http"])
    assert "stopped" in repr(first)
    assert requests.get(second.url).status_code == 200
    second.stop()


def test_interrupt_while_starting_leaves_nothing() -> None:
    timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fake("never-ready", timeout=30)
    assert not processes_in(Path.cwd())


def test_in_quick_pace_a_server_may_be_ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_PACE", "quick")
    server = fake("leaves-child")
    server.abrupt = True
    child = int(server.log.read_text().split()[1])
    server.stop()
    assert "stopped by SIGINT" not in server.log.read_text()
    assert "stopped" in repr(server) and not listens(server.ports["http"])
    assert wait_until(lambda: not psutil.pid_exists(child))
    assert not server.scratch.exists()


def test_interrupt_while_stopping_kills_at_once() -> None:
    server = fake("ignores-signals")
    timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        server.stop()
    assert not listens(server.ports["http"])


def test_a_killed_kernel_leaves_no_process_and_no_port(tmp_path: Path) -> None:
    """The kernel is a process here that starts a server, and is killed before it can stop it."""
    kernel = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from helpers import python_run; import time\n"
            "s = python_run('fake_server.py', 'leaves-child', ready='/')\n"
            "print(s.ports['http'], flush=True); time.sleep(1000)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert kernel.stdout
    port = int(kernel.stdout.readline())
    assert listens(port)
    kernel.kill()
    kernel.wait()
    assert wait_until(lambda: not listens(port))
    assert wait_until(lambda: not processes_in(tmp_path))
    kernel.stdout.close()


def test_workspace_is_empty_and_stops_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["helpers.workspace"], "START", Path.cwd())
    monkeypatch.setattr(os, "environ", os.environ.copy())
    server = fake("well-behaved")
    workspace("a_notebook")
    assert "stopped" in repr(server)
    Path("left.txt").touch()
    workspace("a_notebook")
    assert Path.cwd().parts[-2:] == ("work", "a_notebook")
    assert not list(Path.cwd().iterdir())
    assert shutil.which("mlserver") == str(Path(server_python()).with_name("mlserver"))


def test_braces_in_an_argument_are_left_alone() -> None:
    with fake("well-behaved", cwd=".") as server:
        assert server.pid
    server = python_run("fake_server.py", '{"json": 1}', ready="/")
    with server:
        assert psutil.Process(server.pid).cmdline()[-1] == '{"json": 1}'


def test_a_text_in_the_log_tells_readiness() -> None:
    Path("app.py").write_text("import time; print('now it is ready'); time.sleep(1000)")
    with python_run("app.py", ready="it is ready") as server:
        assert server.pid


def test_a_command_that_cannot_run(tmp_path: Path) -> None:
    server = Server("None", "nothing", ["/no/such/command"], lambda _: False, cwd=tmp_path, log="x")
    with pytest.raises(ServerError, match="exit status 127(.|\n)*cannot run command"):
        server.start()
    assert not server.scratch.exists()


def test_any_command_in_an_environment_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "server.sh").write_text(
        'echo "$GREETING from $1 in $2"\nexec sleep 1000\n', encoding="utf-8"
    )
    with command_run(
        "sh server.sh {grpc} {scratch}", ready="hello from", log="sh.log", env={"GREETING": "hello"}
    ) as server:
        assert server.log.read_text() == f"hello from {server.ports['grpc']} in {server.scratch}\n"
        assert repr(server).startswith("sh · ready")


def test_a_command_has_the_name_that_people_give_it(tmp_path: Path) -> None:
    (tmp_path / "a_module.py").write_text(
        "import time; print('up', flush=True); time.sleep(99)", encoding="utf-8"
    )
    with command_run("python -m a_module", ready="up", log="module.log") as server:
        assert repr(server).startswith("a_module · ready")
    with command_run(
        f"{shutil.which('sh')} -c 'echo up; exec sleep 99'", ready="up", log="sh.log"
    ) as sh:
        assert repr(sh).startswith("sh · ready")


def test_a_command_that_does_not_exist() -> None:
    with pytest.raises(ServerError, match="cannot run no-such-command"):
        command_run("no-such-command", ready="never", log="none.log")
