"""Changes under load: which request is told of which step, on loads whose requests are known."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from fake_load import Clock, FakeLoad, rows
from timed_server import timed_server

from helpers import changes, events
from helpers.changes import change_under_load

CLOCK = Clock()
RATES: dict[str, float] = {}  # of the latest load of each URL


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeLoad]:
    """Loads by URL, each with ten requests in its first second; the clock is theirs."""
    loads: dict[str, FakeLoad] = {}
    CLOCK.now = 100.0
    for room in (changes, events):
        monkeypatch.setattr(room, "time", CLOCK)
    monkeypatch.setattr("helpers.pace.seconds", lambda full: full)

    def result() -> pd.DataFrame:
        table = rows(10, latency=50)
        table.attrs["client"] = {1: 0.25}
        return table

    def load(url: str, **options: Any) -> FakeLoad:
        assert options["arrivals"] == "constant" and options["seconds"] is None
        loads[url] = FakeLoad(result)
        RATES[url] = options["rate"]
        return loads[url]

    monkeypatch.setattr(events, "load", load)
    return loads


def takes(seconds: float) -> Callable[[], None]:
    return lambda: CLOCK.sleep(seconds)


ASKED = {"neighbour": {"url": "a", "rate": 10}, "changed": {"url": "b", "rate": 10}}


def test_a_request_belongs_to_the_last_step_that_had_begun_at_its_answer(
    fakes: dict[str, FakeLoad],
) -> None:
    # from 100.3 to 100.4 the first, from 100.7 to 100.75 the second
    steps = {"load": takes(0.1), "unload": takes(0.05)}
    table = change_under_load(ASKED, steps, pause=0.3)
    of_one = table[table["asked"] == "changed"].set_index(
        table.loc[table["asked"] == "changed", "start"].round(1)
    )
    assert of_one.loc[100.2, "step"] == "before"  # answered at 100.25
    assert of_one.loc[100.3, "step"] == "load"
    assert of_one.loc[100.6, "step"] == "load"  # in the pause after it
    assert list(of_one["step"].unique()) == ["before", "load", "unload"]
    taken = table.groupby("step")[["began", "took"]].first()
    assert taken.loc["load"].tolist() == pytest.approx([100.3, 0.1])
    assert taken.loc["unload"].tolist() == pytest.approx([100.7, 0.05])
    assert taken.loc["before", "took"] == 0
    assert len(table) == 20 and list(table["start"]) == sorted(table["start"])
    assert table.attrs == {"arrivals": "constant", "client": {1: 0.5}}
    assert [load.stops for load in fakes.values()] == [["waits"], ["waits"]]


def test_a_step_that_fails_ends_the_loads(fakes: dict[str, FakeLoad]) -> None:
    def fail() -> None:
        raise RuntimeError("no such model")

    with pytest.raises(RuntimeError, match="no such model"):
        change_under_load(ASKED, {"load": fail})
    assert [load.stops for load in fakes.values()] == [["at once"], ["at once"]]


def test_nothing_to_do_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        change_under_load(ASKED, {})
    with pytest.raises(ValueError, match="something to ask"):
        change_under_load({}, {"load": takes(0)})


@pytest.mark.parametrize(("full", "quick"), [(20, 5), (4, 2), (1, 1)])
def test_in_quick_pace_clients_ask_less_often(
    full: float, quick: float, fakes: dict[str, FakeLoad], monkeypatch: pytest.MonkeyPatch
) -> None:
    for pace, rate in [("full", full), ("quick", quick)]:
        monkeypatch.setenv("TUTORIAL_PACE", pace)
        change_under_load({"it": {"url": "a", "rate": full}}, {"nothing": takes(0.1)})
        assert RATES["a"] == rate


def test_with_a_server_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_PACE", "quick")
    with timed_server(0.01) as (url, _):
        table = change_under_load({"it": {"url": url, "rate": 20}}, {"nothing": lambda: None})
    assert set(table["step"]) == {"before", "nothing"}
    assert set(table["error"]) == {""} and set(table["asked"]) == {"it"}
