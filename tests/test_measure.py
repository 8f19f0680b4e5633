"""Measure: a rate that batches do not bend, and a comparison that claims no more than it may."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.measure import (
    LATE,
    NEEDED,
    PAIRS,
    Comparison,
    assert_answered,
    compare,
    rate,
    ratio_of_pairs,
    summary,
)

EPOCH = 1_760_000_000.0  # what time.time() gives: rounding must not matter


def requests_of(start: Any, latency: Any = 10.0, run: int = 1, **columns: Any) -> pd.DataFrame:
    """Give the requests of one run, all of them good unless said otherwise."""
    start = EPOCH + np.asarray(start, dtype=float)
    row = {"latency": latency, "late": 0.0, "status": 200, "error": "", "answer": "", **columns}
    return pd.DataFrame({"run": run, "start": start, **row})


def rounds_of(values: dict[str, list[float]], count: int = 50) -> pd.DataFrame:
    """Give what `alternate` returns of servers with these rates, one pair after the other."""
    runs = [
        requests_of(np.arange(count) / value, 1000 / value, target=target, pair=pair)
        for target, rates in values.items()
        for pair, value in enumerate(rates, start=1)
    ]
    return pd.concat(runs, ignore_index=True)


# --- the rate


def test_the_rate_of_evenly_spaced_completions_is_exact() -> None:
    for per_second in (0.3, 3, 7.7, 100, 2500):
        ends = pd.Series(EPOCH + np.arange(500) / per_second)
        assert rate(ends) == pytest.approx(per_second, rel=1e-5)


@pytest.mark.parametrize("batches", [10, 20])
def test_the_rate_of_whole_batches_is_exact(batches: int) -> None:
    ends = EPOCH + np.repeat(np.arange(batches) * 0.25, 16)
    assert rate(pd.Series(ends)) == pytest.approx(64)


def test_answers_of_a_batch_may_come_a_little_apart() -> None:
    ends = np.repeat(np.arange(20) * 0.25, 16) + np.tile(np.arange(16) * 0.002, 20)
    assert rate(pd.Series(ends)) == pytest.approx(64)


def test_a_first_batch_that_was_not_full_does_not_bend_the_rate() -> None:
    ends = np.repeat(np.arange(20) * 0.25, 16)[11:]
    assert rate(pd.Series(ends)) == pytest.approx(64)


def test_the_order_of_completions_does_not_matter() -> None:
    ends = pd.Series(np.repeat(np.arange(20) * 0.25, 16)).sample(frac=1, random_state=1)
    assert rate(ends) == pytest.approx(64)


def test_a_stall_in_the_middle_of_a_regular_service_is_no_batch() -> None:
    gaps = np.random.default_rng(1).normal(0.010, 0.0001, 1000)
    gaps[500] += 1.0
    assert rate(pd.Series(EPOCH + gaps.cumsum())) == pytest.approx(1000 / 11, rel=0.01)


@pytest.mark.parametrize("count", [200, 1000])
def test_the_rate_of_a_poisson_stream_is_right_on_average(count: int) -> None:
    ends = np.random.default_rng(1).exponential(1 / 50, (2000, count)).cumsum(axis=1)
    assert np.mean([rate(pd.Series(each)) for each in ends]) == pytest.approx(50, rel=0.01)


@pytest.mark.parametrize("ends", [[], [1.0], [1.0] * 16])
def test_a_rate_that_cannot_be_told_is_nan(ends: list[float]) -> None:
    assert math.isnan(rate(pd.Series(ends, dtype=float)))


# --- the summary


def test_a_run_is_one_row() -> None:
    requests = pd.concat([requests_of(np.arange(300) / 100, run=run) for run in (1, 2)])
    requests.attrs["client"] = {1: 0.256}
    table = summary(requests)
    assert table.index.name == "run" and list(table.index) == [1, 2]
    columns = ("requests", "completions", "failures", "requests/s", "p50", "p95", "p99", "client")
    assert tuple(table.columns) == columns
    assert table.loc[1, ["requests", "failures", "requests/s"]].to_list() == [300, "0", 100.0]
    assert table.loc[1, ["p50", "p95", "client"]].to_list() == [10.0, 10.0, 0.26]
    assert math.isnan(table.loc[2, "client"])


def test_a_latency_below_a_millisecond_is_not_rounded_away() -> None:
    assert summary(requests_of(np.arange(50) / 100, 0.314)).loc[1, "p50"] == 0.31


def test_failures_are_named_and_count_neither_for_the_rate_nor_for_the_latency() -> None:
    failed = requests_of(np.arange(4) / 1000, 5000.0, error=["timeout"] + ["HTTP 503"] * 3)
    row = summary(pd.concat([requests_of(np.arange(101) / 100), failed])).loc[1]
    assert row["failures"] == "3 HTTP 503, 1 timeout"
    assert row["requests"] == 105 and row["completions"] == 100
    assert row["requests/s"] == 100.0 and row["p50"] == 10.0


def test_what_failed_is_said_with_its_number_and_what_it_got() -> None:
    good, bad = requests_of([0.0, 0.1]), requests_of([0.0, 0.1, 0.2])
    assert_answered(good, good)
    bad["error"] = ["", "HTTP 503", "HTTP 503"]
    with pytest.raises(AssertionError, match="of 5 requests.*{'HTTP 503': 2}"):
        assert_answered(good, bad)


def test_a_run_of_failures_only_has_no_rate_and_no_percentile() -> None:
    row = summary(requests_of(np.arange(300) / 100, error="connection refused", status=0)).loc[1]
    assert row["failures"] == "300 connection refused" and row["completions"] == 0
    assert row[["requests/s", "p50", "p95", "p99"]].isna().all()


@pytest.mark.parametrize("name", NEEDED)
def test_a_percentile_needs_its_number_of_good_answers(name: str) -> None:
    assert NEEDED == {"p50": 1, "p95": 200, "p99": 1000}
    requests = requests_of(np.arange(NEEDED[name]) / 100)
    assert summary(requests).loc[1, name] == 10.0
    requests.loc[0, "error"] = "timeout"
    assert math.isnan(summary(requests).loc[1, name])


def test_percentiles_are_those_of_the_latencies() -> None:
    row = summary(requests_of(np.arange(1001) / 100, np.arange(1001.0))).loc[1]
    assert row[["p50", "p95", "p99"]].to_list() == [500.0, 950.0, 990.0]


def test_answers_that_come_while_the_load_drains_are_not_counted() -> None:
    steady = requests_of(np.arange(200) / 100)
    drain = requests_of([1.99] * 8, np.arange(1, 9) * 1000.0)  # sent last, answered at a crawl
    row = summary(pd.concat([steady, drain])).loc[1]
    assert row["completions"] == 199 and row["requests"] == 208 and row["requests/s"] == 100.0


def test_a_quick_run_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    late = requests_of(np.arange(100) / 100, late=2 * LATE)
    with pytest.raises(ValueError, match="late"):
        summary(late)
    monkeypatch.setenv("TUTORIAL_PACE", "quick")  # of which no number is kept
    assert summary(late).loc[1, "requests"] == 100


def test_in_an_open_loop_the_last_request_was_sent_when_it_left_not_when_it_was_due() -> None:
    requests = requests_of([0.0, 0.1, 0.2, 0.3], [10.0, 10.0, 10.0, 120.0], late=[0, 0, 0, 100.0])
    assert summary(requests, late_ok=True).loc[1, "completions"] == 3
    requests["late"] = [0, 0, 0, 130.0]
    assert summary(requests, late_ok=True).loc[1, "completions"] == 4


def test_a_load_shorter_than_its_answers_is_counted_over_all_of_them() -> None:
    row = summary(requests_of([0.0, 0.0, 0.0], [1000.0, 2000.0, 3000.0])).loc[1]
    assert row["completions"] == 3 and row["requests/s"] == 1.0


def test_a_client_that_was_late_makes_the_run_not_count() -> None:
    start, late = np.arange(200) / 100, [LATE + 0.1] * 4 + [0.0] * 196
    requests = pd.concat([requests_of(start), requests_of(start, run=2, late=late)])
    with pytest.raises(ValueError, match=r"Run 2: 2\.0% .* Lower the rate.*late_ok=True"):
        summary(requests)
    assert summary(requests, late_ok=True).loc[2, "requests/s"] == 100.0


def test_one_late_request_in_a_hundred_is_borne_and_so_are_five_milliseconds() -> None:
    requests = requests_of(np.arange(200) / 100, late=LATE)
    requests.loc[:1, "late"] = 1000.0
    assert summary(requests).loc[1, "requests"] == 200


def test_requests_without_the_column_late_were_never_late() -> None:
    requests = requests_of(np.arange(200) / 100)
    pd.testing.assert_frame_equal(summary(requests.drop(columns="late")), summary(requests))


@pytest.mark.parametrize("nothing", [requests_of([]), pd.DataFrame()])
def test_no_requests_give_an_empty_table(nothing: pd.DataFrame) -> None:
    table = summary(nothing)
    assert table.empty and table.index.name == "run"
    assert list(table.columns) == list(summary(requests_of([0.0])).columns)


# --- the comparison


def differences(true_ratio: float, trials: int = 100, pairs: int = 5) -> int:
    """Count in how many trials a difference is seen; a run is 5 % off, as runs are."""
    rng = np.random.default_rng(8)
    noise = rng.lognormal(sigma=0.05, size=(trials, 2, pairs))
    return sum(ratio_of_pairs(a * true_ratio, b).difference for a, b in 100 * noise)


def test_of_two_identical_servers_no_difference_is_seen() -> None:
    assert differences(1.0) <= 10


@pytest.mark.parametrize("true_ratio", [1.2, 1 / 1.2])
def test_a_difference_of_a_fifth_is_seen(true_ratio: float) -> None:
    assert differences(true_ratio) >= 90


def test_the_interval_covers_what_the_docstring_says() -> None:
    assert 1 - differences(1.0, trials=1000) / 1000 == pytest.approx(0.93, abs=0.025)


def test_whole_runs_of_two_identical_servers_show_no_difference() -> None:
    noise = 100 * np.random.default_rng(2).lognormal(sigma=0.05, size=(20, 2, 5))
    results = [compare(rounds_of({"MLServer": a, "Ray Serve": b})) for a, b in noise]
    assert sum(result.difference for result in results) <= 4


def test_compare_finds_the_rates_of_the_requests() -> None:
    rounds = rounds_of({"Ray Serve": [100, 104, 96, 98, 102], "MLServer": [50, 52, 48, 49, 51]})
    result = compare(rounds)
    assert (result.first, result.second, result.n) == ("Ray Serve", "MLServer", 5)
    assert result.ratio == pytest.approx(2, rel=1e-5)
    assert result.low <= result.ratio <= result.high
    assert str(result) == "requests/s: Ray Serve 2.0 to 2.0 times MLServer"


def test_compare_can_take_another_measure_and_another_column() -> None:
    rounds = rounds_of({"Ray Serve": [100] * 5, "MLServer": [50] * 5})
    assert compare(rounds.rename(columns={"target": "server"}), "p50", by="server").sentence == (
        "p50: MLServer 2.0 to 2.0 times Ray Serve (lower is better)"
    )


def test_compare_does_not_lose_a_difference_to_rounding() -> None:
    rounds = rounds_of({"A": [0.26] * 5, "B": [0.34] * 5})  # both 0.3 in a summary
    assert compare(rounds).difference


def test_all_runs_of_a_target_in_a_pair_count_as_one() -> None:
    rounds = rounds_of({"A": [100] * 5, "B": [50] * 5}, count=150)
    rounds["run"] = np.arange(len(rounds)) % 2 + 1  # 75 requests each: too few for a p95
    assert compare(rounds, "p50").n == 5
    with pytest.raises(ValueError, match="Pair 1 of A has no p95"):
        compare(rounds, "p95")
    assert compare(pd.concat([rounds, rounds]), "p95").ratio == pytest.approx(0.5)


def test_a_pair_without_its_number_is_named() -> None:
    rounds = rounds_of({"MLServer": [100] * 5, "Ray Serve": [100] * 5}, count=200)
    assert compare(rounds, "p95").n == 5
    rounds.loc[rounds["target"].eq("Ray Serve") & rounds["pair"].eq(2), "error"] = "timeout"
    with pytest.raises(ValueError, match="Pair 2 of Ray Serve has no p95"):
        compare(rounds, "p95")


def test_a_pair_that_is_missing_on_one_side_is_named() -> None:
    rounds = rounds_of({"MLServer": [100] * 4, "Ray Serve": [100] * 5})
    with pytest.raises(ValueError, match="Pair 5 of MLServer has no requests/s"):
        compare(rounds)


def test_a_late_client_in_one_pair_makes_the_comparison_not_count() -> None:
    rounds = rounds_of({"MLServer": [100] * 5, "Ray Serve": [100] * 5})
    rounds.loc[rounds["target"].eq("MLServer") & rounds["pair"].eq(2), "late"] = 50.0
    with pytest.raises(ValueError, match="MLServer, pair 2"):
        compare(rounds)


@pytest.mark.parametrize("names", [["A"], ["A", "B", "C"]])
def test_a_comparison_is_of_two(names: list[str]) -> None:
    with pytest.raises(ValueError, match="exactly two"):
        compare(rounds_of({name: [10.0] * 5 for name in names}))


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of requests/s, p50, p95, p99, not 'p90'"):
        compare(rounds_of({"A": [10.0], "B": [10.0]}), "p90")


@pytest.mark.parametrize("bad", [math.nan, 0.0, -1.0, math.inf])
def test_a_number_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="Pair 2 of Ray Serve has no p50"):
        ratio_of_pairs([1, 2, 3, 4, 5], [1, bad, 3, 4, 5], ("MLServer", "Ray Serve"), measure="p50")


@pytest.mark.parametrize("first, second", [([1, 2], [1]), ([], [])])
def test_pairs_are_of_two_numbers(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="as many of both"):
        ratio_of_pairs(first, second)


def test_the_ratio_is_the_geometric_mean_so_turning_it_round_turns_the_result_round() -> None:
    first, second = [3.0, 5.0, 4.0, 4.0, 6.0], [2.0, 2.0, 2.0, 3.0, 3.0]
    there, back = ratio_of_pairs(first, second), ratio_of_pairs(second, first)
    assert there.ratio == pytest.approx((1.5 * 2.5 * 2 * 4 / 3 * 2) ** 0.2)
    assert back.ratio == pytest.approx(1 / there.ratio)
    assert back.low == pytest.approx(1 / there.high, rel=0.02)


def test_the_same_pairs_give_the_same_interval() -> None:
    pairs = np.random.default_rng(3).lognormal(size=(2, 20))
    assert ratio_of_pairs(*pairs) == ratio_of_pairs(*pairs)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ratio, seen", [(1.5, True), (1.0, False)])
def test_pairs_that_all_agree_need_no_bootstrap(ratio: float, seen: bool) -> None:
    result = ratio_of_pairs([ratio * value for value in range(1, 6)], range(1, 6))
    assert result.low == result.ratio == result.high == pytest.approx(ratio)
    assert result.difference == seen


def test_the_last_bit_of_a_float_is_no_difference() -> None:
    assert not ratio_of_pairs([0.1 * 3] * 5, [0.3] * 5).difference


def said(low: float, high: float, better: Any = "higher") -> str:
    return Comparison("A", "B", "requests/s", math.sqrt(low * high), low, high, 5, better).sentence


@pytest.mark.parametrize(
    "low, high, sentence",
    [
        (1.42, 1.61, "requests/s: A 1.4 to 1.6 times B"),
        (1 / 1.61, 1 / 1.42, "requests/s: B 1.4 to 1.6 times A"),
        (1.021, 1.049, "requests/s: A 1.02 to 1.05 times B"),
        (1.004, 1.3, "requests/s: A 1.004 to 1.300 times B"),
        (1.51, 1.54, "requests/s: A 1.51 to 1.54 times B"),
        (1.00004, 1.00006, "requests/s: A 1.00004 to 1.00006 times B"),
        (12.3, 14.4, "requests/s: A 12 to 14 times B"),
        (0.97, 1.04, "requests/s: no difference seen (0.97 to 1.04 times, 5 pairs)"),
        (0.998, 1.2, "requests/s: no difference seen (0.998 to 1.200 times, 5 pairs)"),
        (1.0, 1.3, "requests/s: no difference seen (1.0 to 1.3 times, 5 pairs)"),
        (1.0, 1.0, "requests/s: no difference seen (1.0 to 1.0 times, 5 pairs)"),
    ],
)
def test_the_sentence_says_what_the_interval_allows(low: float, high: float, sentence: str) -> None:
    assert said(low, high) == sentence


def test_of_a_latency_the_sentence_says_that_less_is_better() -> None:
    assert said(1.42, 1.61, "lower") == "requests/s: A 1.4 to 1.6 times B (lower is better)"
    assert "better" not in said(0.9, 1.1, "lower")


@pytest.mark.parametrize(
    "values, sentence",
    [
        ([[150], [100]], "requests/s: MLServer 1.5 times Ray Serve in 1 pair: too few"),
        ([[100] * 4, [150] * 4], "requests/s: Ray Serve 1.5 times MLServer in 4 pairs: too few"),
    ],
)
def test_too_few_pairs_have_no_interval_and_no_winner(values: Any, sentence: str) -> None:
    result = ratio_of_pairs(values[0], values[1], ("MLServer", "Ray Serve"), measure="requests/s")
    assert result.n < PAIRS and not result.difference
    assert math.isnan(result.low) and math.isnan(result.high)
    assert str(result) == f"{sentence} for an interval"


def test_what_a_single_pair_could_not_measure_is_said() -> None:
    rounds = rounds_of({"MLServer": [100], "Ray Serve": [50]})  # 50 requests each, as in quick pace
    assert str(compare(rounds, "p95")) == "p95: not measured in 1 pair"


@pytest.mark.filterwarnings("error")
def test_a_number_may_be_missing_where_there_are_too_few_pairs_for_an_interval() -> None:
    result = ratio_of_pairs([1, 2, 3, 4], [1, math.nan, 3, 4])
    assert result.n == PAIRS - 1 and math.isnan(result.ratio) and not result.difference


def test_a_late_client_is_compared_only_if_asked_to() -> None:
    rounds = rounds_of({"MLServer": [100] * 5, "Ray Serve": [50] * 5}).assign(late=2 * LATE)
    with pytest.raises(ValueError, match="late_ok=True"):
        compare(rounds)
    assert str(compare(rounds, late_ok=True)).startswith("requests/s: MLServer 2")
