"""A stop under load, with a clock of its own."""

import math
import signal
from typing import Any

import pandas as pd
import pytest
from fake_load import Clock, FakeLoad, rows

from helpers import stop
from helpers.failures import Target
from helpers.stop import stop_under_load


class Stopping(Clock):
    """A server that ends seconds after SIGTERM; stands for `time`, `os.kill` and `load`, too."""

    pid, url = 5, "http://fake"

    def __init__(self, lingers: float) -> None:
        self.lingers, self.begin = lingers, self.now
        self.ends = math.inf
        self.sent: list[int] = []
        self.stopped = 0

    @property
    def state(self) -> str:
        return "running" if self.now < self.ends else "ended"

    def kill(self, pid: int, sent: int) -> None:
        assert pid == self.pid
        self.sent.append(sent)
        self.ends = self.now + (0 if sent == signal.SIGKILL else self.lingers)

    def stop(self) -> None:
        self.stopped += 1

    def load(self, url: str, *, rate: float, **options: Any) -> FakeLoad:
        assert url == self.url and options["arrivals"] == "constant" and options["seconds"] is None
        self.clients = FakeLoad(lambda: self.requests(rate))
        return self.clients

    def requests(self, rate: float) -> pd.DataFrame:
        table = rows(round((self.now - self.begin) * rate))
        table["start"] = self.begin + table.index / rate
        return table


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(lingers: float) -> tuple[Any, Target]:
        server = Stopping(lingers)
        for name in ("time", "os"):
            monkeypatch.setattr(stop, name, server)
        monkeypatch.setattr(stop, "load", server.load)
        return server, Target(server.url, 0, list)

    return make


def test_what_was_due_before_and_after(make: Any) -> None:
    server, target = make(lingers=3)
    table = stop_under_load(server, target, rate=10, seconds=2)
    assert server.sent == [signal.SIGTERM] and server.stopped == 1
    assert server.clients.stops == ["waits"]
    counts = table["due"].value_counts()
    assert counts["before the stop"] == 20 and counts["after it"] == pytest.approx(30, abs=1)


def test_one_that_does_not_end_is_killed(make: Any) -> None:
    server, target = make(lingers=math.inf)
    stop_under_load(server, target, rate=10, sent=signal.SIGINT, patience=5)
    assert server.sent == [signal.SIGINT, signal.SIGKILL] and server.stopped == 1
    assert server.now == pytest.approx(1007, abs=0.2)


def test_an_interrupt_ends_the_load(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server, target = make(lingers=math.inf)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    server.sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        stop_under_load(server, target, rate=10)
    assert server.clients.stops == ["at once"]
