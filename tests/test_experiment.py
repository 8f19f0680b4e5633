"""Pairs and the search for a capacity: on loads whose truth is known, with a clock of their own."""

import math
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from fake_load import Clock, FakeLoad, rows
from timed_server import timed_server

from helpers import experiment
from helpers.experiment import Capacity, alternate, capacity
from helpers.load import load

# --- alternate ---


def test_pairs_begin_with_each_of_the_two_in_turn_and_no_request_is_lost() -> None:
    numbers = iter(range(1, 9))

    def run(target: str) -> Any:
        number = next(numbers)
        table = rows(number, answer=[f"{target}{number}.{n}" for n in range(number)])
        table.attrs = {"client": {1: number / 10, 2: number / 20}, "arrivals": "poisson"}
        return FakeLoad(lambda: table)

    table = alternate({"A": "a", "B": "b"}, run, pairs=4)
    turns = table[["target", "pair"]].drop_duplicates()
    assert "".join(turns["target"]) == "ABBAABBA"
    assert list(turns["pair"]) == sorted([1, 2, 3, 4] * 2)
    assert list(table.columns) == ["target", "pair", *rows(1).columns]
    sent = [f"{'abbaabba'[n - 1]}{n}.{k}" for n in range(1, 9) for k in range(n)]
    assert list(table["answer"]) == sent and list(table.index) == list(range(36))
    assert table.attrs["arrivals"] == "poisson"
    assert table.attrs["client"] == {
        turn: pytest.approx(n / 10)
        for n, turn in enumerate(turns.itertuples(index=False, name=None), start=1)
    }


@pytest.mark.parametrize(
    "options, complaint", [({"warm_up": 0}, "warm_up="), ({"repeat": 2}, "leave repeat out")]
)
def test_a_load_without_warm_up_or_with_several_runs_is_refused_and_stopped(
    options: dict[str, int], complaint: str
) -> None:
    wrong: Any = FakeLoad(lambda: rows(1), **options)
    with pytest.raises(ValueError, match=complaint):
        alternate({"A": 1, "B": 2}, lambda target: wrong)
    assert wrong.stops == ["at once"]


def test_a_result_is_taken_as_it_is() -> None:
    result = rows(3)
    table = alternate({"A": 1, "B": 2}, lambda target: result, pairs=1)
    assert list(table["target"]) == ["A"] * 3 + ["B"] * 3
    assert all(math.isnan(share) for share in table.attrs["client"].values())
    assert "target" not in result and result.attrs == {}


def test_one_pair_in_quick_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_PACE", "quick")
    table = alternate({"A": 1, "B": 2}, lambda target: rows(1), pairs=5)
    assert list(table["target"]) == ["A", "B"]


@pytest.mark.parametrize("names", ["", "A", "ABC"])
def test_only_two_alternate(names: str) -> None:
    with pytest.raises(ValueError, match=f"Two targets alternate, not {len(names)}"):
        alternate(dict.fromkeys(names), lambda target: rows(1))
    with pytest.raises(ValueError, match="pairs must be 1 or more"):
        alternate({"A": 1, "B": 2}, lambda target: rows(1), pairs=0)


def test_it_says_what_runs_and_how_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    said: list[str] = []

    @contextmanager
    def progress() -> Iterator[Any]:
        yield SimpleNamespace(show=said.append)

    monkeypatch.setattr(experiment, "progress", progress)
    monkeypatch.setattr(experiment, "time", clock)

    def run(target: int) -> pd.DataFrame:
        clock.sleep(7)
        return rows(1)

    alternate({"MLServer": 1, "Ray Serve": 2}, run, pairs=2)
    assert said == [
        "pair 1 of 2: MLServer",
        "pair 1 of 2: Ray Serve · about 21 s left",
        "pair 2 of 2: Ray Serve · about 14 s left",
        "pair 2 of 2: MLServer · about 7 s left",
    ]


# --- capacity ---


def bears(most: float, seconds: float = 1) -> Any:
    """Make a server that answers in 20 ms up to a rate, and in 500 ms above it."""

    def run(rate: float) -> FakeLoad:
        return FakeLoad(lambda: rows(math.ceil(rate * seconds), 20 if rate <= most else 500))

    return run


@pytest.mark.parametrize("truth", [1.5, 8, 100, 437, 9000])
@pytest.mark.parametrize("start", [1, 8, 3000])
def test_the_search_ends_between_neighbours(truth: float, start: float) -> None:
    found = capacity(bears(truth), latency=100, start=start)
    assert found.rate <= truth < found.rate * 1.1 * (1 + 1e-9)
    tried = found.tried.set_index("rate")["met"]
    assert tried.index.is_unique and len(tried) <= 20
    assert list(tried) == [rate <= truth for rate in tried.index]
    steps = [math.log(rate / start, 1.1) for rate in tried.index]
    assert steps == [pytest.approx(round(step), abs=1e-6) for step in steps]
    assert tried.index[0] == start


def test_it_prints_as_a_sentence() -> None:
    found = capacity(bears(40), latency=100)
    assert str(found) == (
        "36.8 requests/s with 99 % within 100 ms (the next step, 40.4, was too much)"
    )
    assert (found.latency, found.share, found.step) == (100, 0.99, 1.1)
    columns = ["rate", "requests", "share in time", "p50", "slowest", "late", "met"]
    assert list(found.tried.columns) == columns
    first = found.tried.iloc[0]
    assert list(first) == [8, 8, 1, 20, 20, 0, True]


def test_errors_and_late_answers_both_count_against_the_share() -> None:
    def run(rate: float) -> Any:
        table = rows(200)
        table.loc[0, "error"] = "HTTP 503"  # answered quickly, which is no excuse
        table.loc[[1, 2], "latency"] = 101
        return FakeLoad(lambda: table)

    bad = capacity(run, latency=100, share=0.986, most=8).tried.iloc[0]
    assert bad["share in time"] == pytest.approx(0.985) and not bad["met"]
    assert bad["p50"] == 20 and bad["slowest"] == 101
    assert capacity(run, latency=100, share=0.985, most=8).rate == 8


def test_a_server_that_bears_nothing_has_no_capacity() -> None:
    found = capacity(bears(0, seconds=10), latency=100)
    assert math.isnan(found.rate) and not found.tried["met"].any()
    assert found.tried["rate"].min() == pytest.approx(0.1, rel=0.1)  # one request in 10 s
    assert str(found).startswith("less than 0.1") and "nothing below that" in str(found)


def test_a_load_without_a_request_is_refused() -> None:
    def run(rate: float) -> Any:
        return FakeLoad(lambda: rows(1).head(0))

    with pytest.raises(ValueError, match="8 requests/s had no request"):
        capacity(run, latency=100)


def test_no_rate_above_the_highest_is_tried() -> None:
    found = capacity(bears(math.inf), latency=100, most=1000)
    assert 1000 / 1.1 < found.rate == found.tried["rate"].max() <= 1000
    assert str(found).endswith("(nothing above that was tried)")


@pytest.mark.parametrize("late, slow", [(6.0, False), (200.0, True)])
def test_a_late_client_is_told_where_it_may_have_hidden_what_a_server_bears(
    late: float, slow: bool
) -> None:
    def run(rate: float) -> Any:
        more = late if rate > 20 else 0.0
        return FakeLoad(lambda: rows(100, 10 + more, late=more))

    found = capacity(run, latency=100, most=1000)
    assert found.by_client is slow and (found.rate <= 20) is slow
    assert ("was too much for the client" in str(found)) is slow


def test_too_many_requests_under_way_is_too_much_and_another_failure_is_one() -> None:
    message = "5000 requests are under way at a time: the server does not keep up"

    def run(rate: float) -> Any:
        if rate > 100:
            raise RuntimeError(f"The load could not be made:\n{message}")
        return FakeLoad(lambda: rows(round(rate)))

    for start in (8, 1000):
        found = capacity(run, latency=100, start=start)
        assert found.rate <= 100 < found.rate * 1.1
        assert found.tried.loc[~found.tried["met"], "requests"].isna().all()
    with pytest.raises(RuntimeError, match="under way"):  # at 0.5/s it is no server's fault
        capacity(lambda rate: run(1000), latency=100)
    message = "no module named locust"
    with pytest.raises(RuntimeError, match="locust"):
        capacity(run, latency=100)


def test_a_real_load_says_so_in_these_words() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:  # never accepts
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        flood = load(url, arrivals="constant", rate=20_000, seconds=2)
        with pytest.raises(RuntimeError, match="under way at a time"):
            flood.result()


def test_a_closed_loop_has_no_rate_to_find() -> None:
    closed = rows(10)
    closed.attrs["arrivals"] = "closed"
    with pytest.raises(ValueError, match='arrivals="constant"'):
        capacity(lambda rate: FakeLoad(lambda: closed), latency=100)  # type: ignore


def test_the_search_is_coarse_in_quick_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_PACE", "quick")
    found = capacity(bears(40), latency=100)
    assert list(found.tried["rate"]) == [8, 16, 32, 64] and found.rate == 32 and found.step == 2


@pytest.mark.parametrize("wrong", [{"share": 99}, {"step": 1}, {"start": 0}, {"most": 7}])
def test_a_search_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        capacity(bears(40), latency=100, **wrong)


# --- with real loads ---


def test_loads_alternate() -> None:
    with timed_server(0.01, "one-by-one") as (url, _):
        table = alternate(
            {"one": 1, "two": 2},
            lambda users: load(url, users=users, seconds=0.5, warm_up=0.2),
            pairs=1,
        )
        with pytest.raises(ValueError, match="warm_up="):
            alternate({"one": 1, "two": 2}, lambda users: load(url, seconds=30))
    assert table.groupby("target")["latency"].median().round(-1).to_dict() == {"one": 10, "two": 20}
    assert table.attrs["client"].keys() == {("one", 1), ("two", 1)}


def test_the_capacity_of_ten_milliseconds_is_a_hundred_a_second() -> None:
    def search(start: float) -> Capacity:
        with timed_server(0.01, "one-by-one") as (url, _):
            return capacity(
                lambda rate: load(url, arrivals="constant", rate=rate, seconds=1),
                latency=100,
                start=start,
                step=1.4,
            )

    with ThreadPoolExecutor() as both:
        for found in both.map(search, [30, 220]):
            assert 100 / 1.4 < found.rate <= 100, found.tried
