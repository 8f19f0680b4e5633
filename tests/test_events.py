"""What clients notice of events, on servers whose truth is known."""

import math
import time

import matplotlib.pyplot as plt
import pandas as pd
import psutil
import pytest
from timed_server import timed_server

from helpers import Server
from helpers.events import Event, draw, during, noticed, vanish, wait_for


def test_during_an_event_clients_ask_at_every_door() -> None:
    with timed_server(0.05) as (url, _):

        def happening(marks: dict[str, float]) -> None:
            time.sleep(0.5)
            marks["half"] = time.time()
            time.sleep(0.5)

        event = during(happening, {"one": {"url": url}, "two": {"url": url}}, rate=10)
    assert list(event.marks) == ["begins", "half", "ends"]
    assert 0.5 <= event.seconds("begins", "half") < event.seconds("begins", "ends")
    assert list(event.table.index) == ["one", "two"]
    assert (event.table["failed"] == 0).all() and (event.table["requests"] >= 9).all()
    for requests in event.requests.values():  # before and after it, too
        assert requests["start"].min() < event.marks["begins"]
        assert requests["start"].max() > event.marks["ends"]


def test_an_event_that_goes_wrong_ends_the_load() -> None:
    def happening(marks: dict[str, float]) -> None:
        raise OSError("no such machine")

    before = set(psutil.Process().children())
    with timed_server(0) as (url, server), pytest.raises(OSError, match="no such machine"):
        during(happening, {"one": {"url": url}})
    assert {p.pid for p in set(psutil.Process().children()) - before} <= {server.pid}


def test_only_requests_that_met_the_event_count() -> None:
    rows = [(1.0, 500, ""), (2.8, 500, "HTTP 503"), (3.5, 100, ""), (3.9, 900, ""), (9.0, 10, "x")]
    requests = pd.DataFrame(rows, columns=["start", "latency", "error"])
    table = Event({"a": requests}, {"begins": 3.0, "ends": 5.0}).table
    assert table.loc["a"].to_dict() == {
        "requests": 3,
        "failed": 1,
        "how": "HTTP 503",
        "p50 (ms)": 500,
        "longest wait (ms)": 900,
    }


def test_an_event_that_nobody_met() -> None:
    requests = pd.DataFrame([(1.0, 1.0, "")], columns=["start", "latency", "error"])
    row = Event({"a": requests}, {"begins": 3.0, "ends": 5.0}).table.loc["a"]
    assert row["requests"] == 0 and math.isnan(row["longest wait (ms)"])


def test_events_below_each_other_and_drawn() -> None:
    rows = [(1.0, 500.0, ""), (3.5, 100.0, "HTTP 503")]
    requests = pd.DataFrame(rows, columns=["start", "latency", "error"])
    event = Event({"plain": requests, "other": requests}, {"begins": 3.0, "ends": 5.0})
    events = {"MLServer": [event, event], "Ray Serve": [event]}
    table = noticed(events)
    assert list(table.index.names) == ["server", "time", "door"] and len(table) == 6
    assert (table["took (s)"] == 2).all() and (table["failed"] == 1).all()
    draw(events, "plain", begins="killed")
    figure = plt.gcf()
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["MLServer", "Ray Serve"]
    assert "killed" in [text.get_text() for text in figure.legends[0].get_texts()]
    plt.close("all")


def test_a_server_that_vanishes() -> None:
    with timed_server(0) as (_, process):

        class Fake:
            pid: int | None = process.pid

        fake: Server = Fake()  # type: ignore[assignment]
        vanish(fake)
        assert process.wait(5) == -9
        Fake.pid = None
        with pytest.raises(ValueError, match="nothing to kill"):
            vanish(fake)


def test_waiting_for_an_answer() -> None:
    with timed_server(0) as (url, process):
        wait_for("ok", {"url": url})
        with pytest.raises(TimeoutError, match="'no' after 0.2 s, the last was: ok"):
            wait_for("no", {"url": url}, patience=0.2)
        process.kill()
        process.wait()
        with pytest.raises(TimeoutError, match="ConnectionError"):
            wait_for("ok", {"url": url}, patience=0.2)
