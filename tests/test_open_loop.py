"""What a load says of servers whose truth is known: one that takes 10 ms, one that stalls, ..."""

import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timed_server import timed_server

from helpers import load, summary
from helpers.measure import LATE


def test_a_service_time_of_10_ms_is_seen_as_such() -> None:
    with ExitStack() as stack:  # a server for each load: all at the same time
        servers = [timed_server(ms / 1000, "one-by-one") for ms in (10, 10, 10, 0)]
        urls = [stack.enter_context(each)[0] for each in servers]
        steady = {"arrivals": "constant", "rate": 50}
        every: list[dict[str, Any]] = [{"users": 1}, {"users": 4}, steady, steady]
        loads = [
            load(url, seconds=3, warm_up=0.5, **how) for url, how in zip(urls, every, strict=True)
        ]
        alone, busy, due, at_once = (each.result() for each in loads)
    # what the way there and back, and the client, take on this machine
    way = (at_once["latency"] - at_once["late"]).median()
    assert 0 < way < LATE
    assert alone["latency"].min() >= 10 and due["latency"].min() >= 10
    assert summary(alone)["p50"].item() == pytest.approx(10 + way, abs=1)
    assert summary(busy)["requests/s"].item() == pytest.approx(100, rel=0.03)
    # a busy machine wakes the client late, which counts in a latency, and is known of each request
    assert (due["latency"] - due["late"]).median() == pytest.approx(10 + way, abs=1)
    seen = summary(due, late_ok=True)
    assert seen["requests"].item() == 150
    assert seen["requests/s"].item() == pytest.approx(50, rel=0.03)


def test_a_stall_shows_in_the_open_loop_and_not_in_a_closed_one() -> None:
    with timed_server(0.002, "stall") as (url, _):
        # at the same time: two periods of five seconds, one in five of them stalled
        waiting = load(url, users=1, seconds=10)
        due = load(url, arrivals="poisson", rate=110, seconds=10)
        closed, opened = summary(waiting.result()), summary(due.result(), late_ok=True)
    assert closed["p99"].item() < 100
    assert 850 < opened["p99"].item() < 1100
    # a fifth of the requests is due in a stall, evenly: a quarter of those waits 750 ms or more
    assert opened["p95"].item() == pytest.approx(750, abs=120)


def test_requests_are_due_at_times_fixed_beforehand() -> None:
    with timed_server(0.001) as (url, _):
        loads = [load(url, arrivals="poisson", rate=100, seconds=2, seed=s) for s in (1, 1, 2)]
        loads.append(load(url, arrivals="constant", rate=100, seconds=2))
        first, again, other, constant = (each.result() for each in loads)
    gaps, same, others = (each["start"].diff()[1:] for each in (first, again, other))
    assert same.to_numpy() == pytest.approx(gaps.to_numpy(), abs=1e-5)
    assert len(others) != len(gaps) or not np.allclose(others, gaps, atol=1e-5)
    assert constant["start"].diff()[1:].to_numpy() == pytest.approx(0.01, abs=1e-5)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.3)  # as those of a Poisson process are


def test_no_request_waits_for_another() -> None:
    with timed_server(1) as (url, _):
        due = load(url, arrivals="constant", rate=100, seconds=2).result()
    assert len(due) == 200 and set(due["error"]) == {""}
    assert due["latency"].median() == pytest.approx(1000, abs=50)


def test_a_server_that_dies_in_the_middle_is_asked_to_the_end() -> None:
    with timed_server(0.01) as (url, process):
        clients = load(url, arrivals="constant", rate=50, seconds=3)
        time.sleep(1.5)
        process.kill()
        killed = time.time()
        due = clients.result()
    assert len(due) == 150
    assert set(due.loc[due["start"] < killed - 0.1, "error"]) == {""}
    assert set(due.loc[due["start"] > killed + 0.1, "error"]) == {"connection refused"}


def test_a_client_that_is_too_slow_says_so() -> None:
    with timed_server(0.001) as (url, _):
        clients = load(url, arrivals="constant", rate=100, seconds=2)
        client = clients._process.pid
        timers = [
            threading.Timer(after, os.kill, (client, how))
            for after, how in [(0.5, signal.SIGSTOP), (0.9, signal.SIGCONT)]
        ]
        for timer in timers:
            timer.start()
        due = clients.result()
    assert len(due) == 200
    with pytest.raises(ValueError, match="left more than 5 ms late"):
        summary(due)
    assert summary(due, late_ok=True)["requests"].item() == 200
    late = due[due["late"] > 5]
    assert (late["latency"] > late["late"]).all()


def test_too_many_requests_under_way_end_the_load() -> None:
    with timed_server(30) as (url, _):
        clients = load(url, arrivals="constant", rate=3000, seconds=10)
        with pytest.raises(RuntimeError, match="under way at a time.*Lower the rate"):
            clients.result()


def test_a_locustfile_of_ones_own_can_do_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("locustfile.py").write_text(
        "import time\nfrom locust import User, task\n\n\n"
        "class Caller(User):\n    @task\n    def call(self):\n        begin = time.time()\n"
        "        time.sleep(0.5)\n        self.environment.events.request.fire(\n"
        "            request_type='gRPC', name='call', start_time=begin, response_time=500,\n"
        "            response_length=0, response=self.host, exception=None)\n"
    )
    due = load(
        "here:1", locustfile="locustfile.py", arrivals="constant", rate=20, seconds=1
    ).result()
    assert len(due) == 20 and set(due["answer"]) == {"here:1"}
    assert (due["latency"] >= 500).all() and (due["late"] < 100).all()


def test_a_user_that_fails_ends_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("locustfile.py").write_text(
        "from locust import User, task\n\n\n"
        "class Caller(User):\n    @task\n    def call(self):\n        raise LookupError('gone')\n"
    )
    with pytest.raises(RuntimeError, match="LookupError: gone"):
        load(locustfile="locustfile.py", arrivals="constant", rate=5, seconds=60).result()
