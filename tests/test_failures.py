"""Kills under load: on processes whose truth is known, mostly with a clock of their own."""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import psutil
import pytest
import requests
from fake_load import Clock, FakeLoad, rows
from wait import wait_until

from helpers import failures
from helpers.failures import (
    Target,
    kill_all,
    kill_in_burst,
    kill_under_load,
)

SERVER = Path(__file__).with_name("mortal_server.py")


class Processes(Clock):
    """Processes that come back some seconds after a kill.

    Stands for `time`, `os.kill`, `requests.post` and `load`. A request takes 0.05 s, and fails if
    it is under way during a kill.
    """

    def __init__(self, number: int, respawn: float = 2.0, lingers: float = 0.0) -> None:
        self.respawn, self.lingers = respawn, lingers
        self.asked, self.latency = 0, 0.05
        self.alive = dict.fromkeys(range(1, number + 1), (0.0, math.inf))  # from when till when
        self.kills: list[tuple[float, int, int]] = []
        self.clients: FakeLoad | None = None
        self.options: dict[str, Any] = {}

    def pids(self) -> list[int]:
        return [pid for pid, (since, until) in self.alive.items() if since <= self.now < until]

    def kill(self, pid: int, sent: int) -> None:
        assert pid in self.pids()
        self.kills.append((self.now, pid, sent))
        self.alive[pid] = (0.0, self.now + self.lingers)
        self.alive[len(self.alive) + 1] = (self.now + self.respawn, math.inf)

    def post(self, url: str, json: object, timeout: float) -> Any:
        self.now += 0.01
        self.asked += 1
        assert url == "http://fake" and timeout == 1
        pids = self.pids()
        if not pids:
            raise requests.ConnectionError
        if self.kills and self.asked % 3 == 0:  # an error that names somebody is no sign of life
            return SimpleNamespace(ok=False, text="PID 99 stopped unexpectedly")
        return SimpleNamespace(ok=True, text=f"I am PID {pids[self.asked % len(pids)]}.")

    def load(self, url: str, **options: Any) -> Any:
        self.options, begin = {"url": url, **options}, self.now
        self.clients = FakeLoad(lambda: self.requests(begin))
        return self.clients

    def requests(self, begin: float) -> pd.DataFrame:
        assert self.clients and self.clients.stops == ["waits"]
        table = rows(round((self.now - begin) * self.options["rate"]), 1000 * self.latency)
        table["start"] = begin + table.index / self.options["rate"]
        for killed, *_ in self.kills:
            met = (table["start"] < killed) & (table["start"] + self.latency > killed)
            table.loc[met, "error"] = "connection closed"
        return table


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Processes, Target]]:
    def make(number: int, **behaviour: float) -> tuple[Processes, Target]:
        processes = Processes(number, **behaviour)
        monkeypatch.setattr(failures, "time", processes)
        monkeypatch.setattr(failures, "os", processes)
        monkeypatch.setattr(failures, "post", processes.post)
        monkeypatch.setattr(failures, "load", processes.load)
        return processes, Target("http://fake", {"a": 1}, processes.pids)

    return make


Fake = Callable[..., tuple[Processes, Target]]


def test_clients_may_ask_otherwise_than_the_probes(fake: Fake) -> None:
    processes, target = fake(2)
    kill_under_load(target, rate=20, kills=1, url="127.0.0.1:50051", locustfile="grpc_user.py")
    assert processes.options["url"] == "127.0.0.1:50051"  # the fake takes no probe from elsewhere
    assert processes.options["locustfile"] == "grpc_user.py"


def test_the_table_says_what_each_kill_did(fake: Fake) -> None:
    processes, target = fake(2)
    done = kill_under_load(target, rate=20, kills=5, expect="PID")
    table = done.table
    assert list(table.index) == [1, 2, 3, 4, 5] and len(done.requests) > 5 * 2 * 20
    assert list(table["killed"]) == [moment for moment, *_ in processes.kills]
    assert {sent for *_, sent in processes.kills} == {signal.SIGKILL}
    assert table["all are back after (s)"].between(2, 2.5).all()
    assert (table["back"] - table["killed"]).equals(table["all are back after (s)"])
    assert table["requests"].between(40, 52).all()  # 20/s for 2 s until somebody noticed
    assert (table["failed"] == 1).all() and (table["longest wait (s)"] == 0.05).all()
    assert processes.now == pytest.approx(table["back"].max() + 1)  # a quiet second
    assert processes.options == {
        "url": "http://fake",
        "json": {"a": 1},
        "arrivals": "constant",
        "rate": 20,
        "seconds": None,
        "timeout": 30,
        "expect": "PID",
    }


def test_kills_come_at_random_within_the_period(fake: Fake) -> None:
    def waits(seed: int) -> list[float]:
        table = kill_under_load(fake(2)[1], rate=1, kills=40, period=10, seed=seed).table
        return list((table["killed"] - table["back"].shift(fill_value=1000.0)).round(6))

    first = waits(1)
    assert first == waits(1) != waits(2)
    assert 0 <= min(first) < 2 and 8 < max(first) <= 10


def test_chance_decides_who_is_killed(fake: Fake) -> None:
    processes, target = fake(4)
    kill_under_load(target, rate=1, kills=8, count=2, sent=signal.SIGTERM)
    assert len(processes.kills) == 16 and {sent for *_, sent in processes.kills} == {15}
    positions = {pid for _, pid, _ in processes.kills[:2]}
    assert positions != {1, 2}  # seeded, so that this holds always


def test_who_was_killed_is_not_back_though_it_goes_on_answering(fake: Fake) -> None:
    done = kill_under_load(fake(1, respawn=1, lingers=3)[1], rate=1, kills=1)
    assert 1 <= done.table["all are back after (s)"].item() < 2


def test_what_never_comes_back_ends_it(fake: Fake) -> None:
    processes, target = fake(2, respawn=math.inf)
    done = kill_under_load(target, rate=10, patience=20)
    assert len(done.table) == len(processes.kills) == 1
    assert math.isnan(done.table["back"].item())
    assert math.isnan(done.table["all are back after (s)"].item())
    assert done.table["requests"].item() == pytest.approx(10 * 20, abs=3)  # till patience ended
    assert processes.now - done.table["killed"].item() == pytest.approx(21, abs=0.2)


def test_what_is_revived_is_killed_again(fake: Fake) -> None:
    processes, target = fake(2, respawn=math.inf)

    def revive() -> None:
        processes.now += 30  # many requests are due, and not to be counted
        processes.alive[len(processes.alive) + 1] = (processes.now, math.inf)

    done = kill_under_load(target, rate=10, kills=3, patience=20, revive=revive)
    assert len(done.table) == len(processes.kills) == 3
    assert done.table["back"].isna().all()
    assert (done.table["requests"] < 10 * 21).all()
    assert done.table["failed"].max() == 1


def test_a_failure_after_the_recovery_is_the_work_of_the_kill(fake: Fake) -> None:
    processes, target = fake(2)
    made = processes.requests

    def requests_(begin: float) -> pd.DataFrame:
        table = made(begin)
        back = [killed + 3 for killed, *_ in processes.kills]
        for moment in back:
            table.loc[(table["start"] - moment).abs().idxmin(), "error"] = "HTTP 503"
        return table

    processes.requests = requests_  # type: ignore[method-assign]
    done = kill_under_load(target, rate=20, kills=2, seed=1)
    assert (done.table["killed"].diff().dropna() > 4).all()  # else the seed is a bad one
    assert list(done.table["failed"]) == [2, 2]


def test_those_who_answer_may_be_others(fake: Fake) -> None:
    processes, target = fake(1, respawn=3)
    front = [7]

    def kill(pid: int, sent: int) -> None:
        assert pid in front
        processes.kills.append((processes.now, pid, sent))
        front[:] = []

    def pids() -> list[int]:
        if not front and processes.now > processes.kills[-1][0] + 3:
            front.append(7 + len(processes.kills))
        return list(front)

    processes.kill = kill  # type: ignore[method-assign]
    done = kill_under_load(Target("http://fake", 0, pids, who=None), rate=1, kills=2)
    assert done.table["all are back after (s)"].between(3, 3.5).all()


def test_a_request_that_meets_two_kills_counts_once(fake: Fake) -> None:
    processes, target = fake(2)
    processes.latency = 8.0
    done = kill_under_load(target, rate=10, kills=4, period=2)
    assert done.table["failed"].sum() == (done.requests["error"] != "").sum()
    assert done.table["requests"].sum() <= len(done.requests)


def test_one_kill_soon_in_quick_pace(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_PACE", "quick")
    for seed in range(5):
        table = kill_under_load(fake(2)[1], rate=1, seed=seed).table
        assert len(table) == 1 and table["killed"].item() <= 1001


@pytest.mark.parametrize("error", [KeyboardInterrupt, psutil.NoSuchProcess(1)])
def test_an_error_ends_the_load_at_once(fake: Fake, error: BaseException) -> None:
    processes, target = fake(2)

    def fail(pid: int, sent: int) -> None:
        raise error

    processes.kill = fail  # type: ignore[method-assign]
    with pytest.raises(type(error) if isinstance(error, Exception) else KeyboardInterrupt):
        kill_under_load(target, rate=1)
    assert processes.clients and processes.clients.stops == ["at once"]


def test_a_target_without_processes_is_refused(fake: Fake) -> None:
    processes, target = fake(0)
    with pytest.raises(ValueError, match="1 to be killed, but 0 found"):
        kill_under_load(target, rate=1)
    assert processes.clients is None
    wrong: list[dict[str, Any]] = [{"kills": 0}, {"count": 0}, {"period": 0}, {"patience": -1}]
    for numbers in wrong:
        with pytest.raises(ValueError, match="must be above 0"):
            kill_under_load(fake(2)[1], rate=1, **numbers)


def test_who_is_back_may_be_asked_with_something_light(fake: Fake, monkeypatch: Any) -> None:
    processes, target = fake(2)
    sent = []

    def post(url: str, **more: Any) -> Any:
        sent.append(more["json"])
        return processes.post(url, **more)

    monkeypatch.setattr(failures, "post", post)
    target.probe = 0
    kill_under_load(target, rate=1, kills=1)
    assert set(sent) == {0} and processes.options["json"] == {"a": 1}


def test_a_target_of_a_server_finds_its_processes() -> None:
    table = pd.DataFrame(
        {"process": ["ray::ServeReplica:two:Model", "ray::ServeReplica:one:Model"], "PID": [5, 6]}
    )
    server: Any = SimpleNamespace(url="http://host", processes=lambda: table)
    target = Target.of(server, "/two", "0.05", process="ServeReplica:two:", who="by (.*)")
    assert target.processes() == [5]
    assert (target.url, target.json, target.who) == ("http://host/two", "0.05", "by (.*)")


# --- with a real load ---


@pytest.fixture
def workers() -> Iterator[Callable[[str], Target]]:
    running = []

    def make(respawn: str) -> Target:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, str(SERVER), str(port), respawn]
        parent = subprocess.Popen(command, start_new_session=True)
        running.append(parent)
        url = f"http://127.0.0.1:{port}"

        def processes() -> list[int]:
            return [child.pid for child in psutil.Process(parent.pid).children()]

        def answers() -> bool:
            try:
                return len(processes()) == 2 and requests.post(url, json=0).ok
            except requests.ConnectionError:
                return False

        assert wait_until(answers)
        return Target(url, {"a": 1}, processes)

    yield make
    for parent in running:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def test_a_killed_process_comes_back(workers: Callable[[str], Target]) -> None:
    target = workers("later")
    before = target.processes()
    done = kill_under_load(target, rate=60, kills=2, period=1)
    assert len(set(target.processes()) - set(before)) in (1, 2)
    assert done.table["all are back after (s)"].between(0.5, 5).all()
    assert done.table["failed"][1] > 0
    assert done.table["failed"].sum() == (done.requests["error"] != "").sum()
    assert (done.table["requests"] > 60 * 0.5).all()
    assert not load_processes(target)


def test_a_killed_process_stays_away(workers: Callable[[str], Target]) -> None:
    target = workers("never")
    begin = time.monotonic()
    done = kill_under_load(target, rate=60, kills=3, period=0.5, patience=1)
    assert len(done.table) == 1 and math.isnan(done.table["all are back after (s)"].item())
    assert done.table["failed"].item() > 0 and time.monotonic() - begin < 20


def test_a_burst_meets_a_kill(workers: Callable[[str], Target]) -> None:
    target = workers("later")
    done = kill_in_burst(target, size=20, after=0.1, bursts=2)
    assert (done["answered"] + done["failed"] == 20).all()
    assert done["failed"].sum() > 0 and done["answered"].sum() > 0
    assert done["all are back after (s)"].between(0.5, 5).all()
    assert len(kill_in_burst(workers("never"), bursts=2, patience=1)) == 1


def load_processes(target: Target) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if target.url in " ".join(each.info["cmdline"] or [])]


def test_all_of_a_title_are_killed_and_one_that_has_ended_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed = []

    def kill(pid: int, sent: int) -> None:
        if pid == 2:
            raise ProcessLookupError
        killed.append((pid, sent))

    titles = ["ray::ServeReplica:a", "ray::ServeReplica:b", "ray::ServeReplica:c", "raylet"]
    server: Any = SimpleNamespace(
        processes=lambda: pd.DataFrame({"process": titles, "PID": [1, 2, 3, 4]})
    )
    monkeypatch.setattr(os, "kill", kill)
    kill_all(server, "ServeReplica:")
    assert killed == [(1, signal.SIGKILL), (3, signal.SIGKILL)]
