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
from matplotlib.figure import Figure
from wait import wait_until

from helpers import failures
from helpers.failures import Kills, Target, kill_under_load

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
        self.options, begin = options, self.now
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
    assert done.table["requests"].item() == pytest.approx(10 * 21, abs=3)
    assert processes.now - done.table["killed"].item() == pytest.approx(21, abs=0.2)


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
    for wrong in ({"kills": 0}, {"count": 0}, {"period": 0}, {"patience": -1}):
        with pytest.raises(ValueError, match="must be above 0"):
            kill_under_load(fake(2)[1], rate=1, **wrong)


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


def drawn(monkeypatch: pytest.MonkeyPatch, kills: Kills, number: int | None = None) -> Any:
    calls: list[Any] = []

    def timeline(requests: pd.DataFrame, marks: Any, ax: Any, since: float) -> None:
        assert len(requests)
        calls.append((requests["start"].min(), requests["start"].max(), marks, since))

    monkeypatch.setattr(failures, "timeline", timeline)
    kills.draw(number)
    return calls[0]


@pytest.fixture
def kills() -> Kills:
    requests = rows(1000)
    requests["start"] = requests.index / 10  # 0 to 99.9 s
    killed, back = [10.0, 20.0, 22.0, 50.0], [13.0, 20.5, 28.0, math.nan]
    table = pd.DataFrame({"killed": killed, "back": back}, pd.RangeIndex(1, 5))
    table["all are back after (s)"] = table["back"] - table["killed"]
    return Kills(requests, table)


def test_a_kill_is_drawn_with_its_surroundings(
    monkeypatch: pytest.MonkeyPatch, kills: Kills
) -> None:
    assert drawn(monkeypatch, kills, 1) == (9, 15, {"killed": [10], "all are back": [13]}, 10)
    # the next kill comes within the two seconds after the recovery
    second = {"killed": [20, 22], "all are back": [20.5]}
    assert drawn(monkeypatch, kills, 2) == (19, 22.5, second, 20)
    assert drawn(monkeypatch, kills, 4) == (49, 58, {"killed": [50]}, 50)  # never back
    with pytest.raises(ValueError, match="kills 1 to 4, none of number 5"):
        kills.draw(5)


def test_the_median_kill_is_drawn_and_never_is_the_longest(
    monkeypatch: pytest.MonkeyPatch, kills: Kills
) -> None:
    assert drawn(monkeypatch, kills)[3] == 22  # 0.5, 3, 6, never: the longer of the two
    three = Kills(kills.requests, kills.table.drop(4))
    assert drawn(monkeypatch, three)[3] == 10  # 0.5, 3, 6


def test_it_can_be_drawn_on_axes(kills: Kills) -> None:
    ax = Figure().subplots()
    kills.draw(2, ax=ax)
    moments = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]  # type: ignore
    assert moments == pytest.approx([0, 2, 0.5])


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


def load_processes(target: Target) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if target.url in " ".join(each.info["cmdline"] or [])]
