"""Numbers that a load allows: a rate, percentiles, and the ratio of two servers with its interval.

What cannot be told from the requests that there are is NaN here, never a guess.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap, norm, t

from helpers import pace

# A percentile needs its number of good answers: ten at least that lie above it.
NEEDED = {"p50": 1, "p95": 200, "p99": 1_000}

# An open loop counts only if its requests left when they were due. p99 is the highest percentile
# shown: one late request in a hundred may not reach it, more may make it the client's own. 5 ms is
# about one time slice of the scheduler, what a client on a busy machine cannot help, and small
# beside the tails, tens to thousands of ms, that the open loop is for.
LATE = 5.0  # ms
LATE_SHARE = 0.01

# Of how many pairs an interval is made. No resample lies beyond the smallest and the largest pair,
# so the interval of five pairs covers the true ratio in 93 % of cases, that of three in 75 %.
PAIRS = 5

FIRST = 0.2  # of the completions: a rate needs more than five batches

MEASURES = ("requests/s", *NEEDED)


def rate(ends: pd.Series) -> float:
    """Requests per second, counted between completions.

    A server that batches answers many requests at once. A window that begins or ends anywhere else
    than behind a batch cuts one, and is off by up to a batch at either end. So it begins behind the
    first batch: at the last completion before the first pause, a gap of at least the mean gap; and
    it ends at the last completion of all. That is exact for evenly spaced completions and for whole
    batches alike, of which there must be more than five: a pause that comes later than after a
    fifth of the completions is a stall, not the end of a batch.

    Parameters
    ----------
    ends : pandas.Series
        When each answer was complete (seconds), in any order.

    Returns
    -------
    float
        NaN if it cannot be told: fewer than 2 completions, or all at once.

    Examples
    --------
    >>> rate(pd.Series([0.0, 0.5, 1.0]))
    2.0
    >>> rate(pd.Series([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]))
    2.0
    """
    times = np.sort(ends.to_numpy(dtype=float))
    if len(times) < 2 or times[0] == times[-1]:
        return math.nan
    gaps = np.diff(times)
    mean = (times[-1] - times[0]) / len(gaps)
    early = gaps[: max(math.ceil(FIRST * len(gaps)), 1)]
    begin = int(np.argmax(early >= mean))  # the first completion of all if there is no such pause
    return float((len(gaps) - begin) / (times[-1] - times[begin]))


def summary(requests: pd.DataFrame, *, late_ok: bool = False) -> pd.DataFrame:
    """Sum up what a load brought, run by run.

    Parameters
    ----------
    requests : pandas.DataFrame
        What `Load.result` returns.
    late_ok : bool
        Go on although the client of an open loop sent too many requests late.

    Returns
    -------
    pandas.DataFrame
        One row per ``run``: ``requests``; ``completions``, the good answers that the rate is
        counted over; ``failures`` (their numbers and kinds, ``"0"`` if none); ``requests/s`` (see
        `rate`); ``p50``, ``p95`` and ``p99`` (ms, of all good answers; NaN if there are fewer than
        `NEEDED`); and ``client``, the share of one core that the client used: near 1, it was the
        client that was measured.

    Raises
    ------
    ValueError
        If more than 1 % of a run's requests left more than 5 ms after they were due.

    Examples
    --------
    >>> summary(load(url, json=body, users=8, repeat=3).result())           # doctest: +SKIP
    """
    digits = {"requests/s": 1, **dict.fromkeys(NEEDED, 2), "client": 2}
    return _sum_up(requests, late_ok=late_ok).round(digits)


def assert_answered(*loads: pd.DataFrame) -> None:
    """Assert that every request got a good answer.

    Parameters
    ----------
    *loads : pandas.DataFrame
        What `Load.result` or `alternate` returns.

    Raises
    ------
    AssertionError
        If one did not: it says how many, and what they got instead.
    """
    got = pd.concat(loads)["error"]
    if errors := got[got != ""].value_counts().to_dict():
        raise AssertionError(f"of {len(got)} requests, these had no good answer: {errors}")


@dataclass(frozen=True)
class Comparison:
    """What several pairs of runs say of two servers; print it to read the one `sentence`.

    Attributes
    ----------
    first, second : str
        The two that are compared.
    measure : str
        What was measured of each.
    ratio : float
        The first's value by the second's: the geometric mean of the pairs' ratios.
    low, high : float
        The ratio's 95 % interval; NaN if there are too few pairs for one.
    n : int
        Number of pairs.
    better : {"higher", "lower"}
        Which values of the measure one would rather have.
    """

    first: str
    second: str
    measure: str
    ratio: float
    low: float
    high: float
    n: int
    better: Literal["higher", "lower"] = "higher"

    @property
    def difference(self) -> bool:
        """Whether a difference was seen: there is an interval, and it does not hold 1."""
        return self.low > 1 or self.high < 1

    @property
    def sentence(self) -> str:
        """The only statement that the numbers allow."""
        too_few = self.n < PAIRS
        pairs = f"{self.n} pair" if self.n == 1 else f"{self.n} pairs"
        ends = [self.ratio] if too_few else [self.low, self.high]
        if math.isnan(self.ratio):
            return f"{self.measure}: not measured in {pairs}"
        if not too_few and not self.difference:
            return f"{self.measure}: no difference seen ({_told_apart(ends)} times, {pairs})"
        more, less = self.first, self.second
        if self.ratio < 1:  # "1.5 times" is easier to read than "0.67 times"
            more, less, ends = less, more, [1 / end for end in reversed(ends)]
        text = f"{self.measure}: {more} {_told_apart(ends)} times {less}"
        if too_few:
            return f"{text} in {pairs}: too few for an interval"
        return text if self.better == "higher" else f"{text} (lower is better)"

    def __str__(self) -> str:
        return self.sentence


def compare(
    rounds: pd.DataFrame,
    measure: str = "requests/s",
    *,
    by: str = "target",
    late_ok: bool = False,
) -> Comparison:
    """Compare two servers that were loaded in turn, pair by pair.

    The two of a pair ran one right after the other, so what changes slowly on the machine changed
    for both alike, and their ratio is free of it.

    Parameters
    ----------
    rounds : pandas.DataFrame
        What `alternate` returns: the requests of `Load.result` with the columns ``target`` (str,
        two different ones) and ``pair`` (int, from 1). All requests of a target in a pair count as
        one run.
    measure : {"requests/s", "p50", "p95", "p99"}
        Which column of `summary` to compare.
    by : str
        The column to use instead of ``target``.
    late_ok : bool
        Compare also what a client that was late has found, as in `summary`.

    Returns
    -------
    Comparison
        Of the target that appears first with the other.

    Raises
    ------
    ValueError
        If there are not two targets, if one has no such number in some pair and there are enough
        pairs for an interval, or if the client of an open loop was late (see `summary`).

    Examples
    --------
    >>> print(compare(rounds))                                              # doctest: +SKIP
    requests/s: MLServer 1.4 to 1.6 times Ray Serve
    """
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}, not {measure!r}.")
    names = [str(name) for name in rounds[by].unique()]
    if len(names) != 2:
        found = ", ".join(names) or "none"
        raise ValueError(f"compare needs exactly two different values of {by!r}, not: {found}.")
    runs = rounds[by].astype(str) + ", pair " + rounds["pair"].astype(str)
    rounds = rounds.assign(run=runs)
    values = _sum_up(rounds, late_ok=late_ok)[measure]  # not rounded: that could be the difference
    pairs = range(1, int(rounds["pair"].max()) + 1)
    first, second = (
        [values.get(f"{name}, pair {pair}", math.nan) for pair in pairs] for name in names
    )
    better: Literal["higher", "lower"] = "higher" if measure == "requests/s" else "lower"
    return ratio_of_pairs(first, second, (names[0], names[1]), measure=measure, better=better)


def ratio_of_pairs(
    first: Sequence[float],
    second: Sequence[float],
    names: tuple[str, str] = ("first", "second"),
    *,
    measure: str = "value",
    better: Literal["higher", "lower"] = "higher",
) -> Comparison:
    """Compare two series of numbers that were measured in pairs.

    Parameters
    ----------
    first, second : sequence of float
        A positive number per pair, in the same unit.
    names : tuple of two str
        What the two are called.
    measure : str
        What was measured.
    better : {"higher", "lower"}
        Which values one would rather have.

    Returns
    -------
    Comparison
        The ratio's 95 % interval is a bootstrap over the pairs, if there are `PAIRS` of them.

    Raises
    ------
    ValueError
        If the two are not as long as each other, if a number is not positive, or if one is missing
        where there are enough pairs for an interval.

    Examples
    --------
    >>> times = [4.1, 4.3, 4.0, 4.2, 4.1], [2.0, 2.1, 2.1, 2.0, 2.0]        # s
    >>> print(ratio_of_pairs(*times, ("MLServer", "Ray Serve"), measure="start (s)"))
    start (s): MLServer 1.9 to 2.1 times Ray Serve
    """
    if not len(first) == len(second) > 0:
        raise ValueError(f"Pairs need as many of both, not {len(first)} and {len(second)}.")
    for name, values in zip(names, (first, second), strict=True):
        for pair, value in enumerate(values, start=1):
            # a quick run may have too few requests for a percentile
            if not 0 < value < math.inf and not (math.isnan(value) and len(first) < PAIRS):
                raise ValueError(
                    f"Pair {pair} of {name} has no {measure} to compare (it is {value}): measure "
                    "longer, or compare what fewer requests can tell."
                )
    # Rounded, so that what clock and floats leave in the last digits is no difference.
    logs = np.log(np.divide(first, second)).round(6)
    low, high = _interval(logs)
    low, ratio, high = (float(np.exp(value)) for value in (low, logs.mean(), high))
    return Comparison(*names, measure, ratio, low, high, len(logs), better)


def _sum_up(requests: pd.DataFrame, *, late_ok: bool = False) -> pd.DataFrame:
    """Make the table of `summary`, not rounded."""
    rows = []
    for run, each in requests.groupby("run") if len(requests) else ():
        late = each["late"] if "late" in each else pd.Series(0.0, each.index)
        # of a quick run no number is kept, so none need be refused
        late_ok = late_ok or pace.quick()
        if (share := (late > LATE).mean()) > LATE_SHARE and not late_ok:
            raise ValueError(
                f"Run {run}: {share:.1%} of the requests left more than {LATE:g} ms late, so their "
                "latencies are partly the client's own. Lower the rate, stop what else runs on "
                "this machine, or take them as they are with late_ok=True."
            )
        good = each[each["error"] == ""]
        ends = good["start"] + good["latency"] / 1000
        # After the last request was sent the load only drains, with fewer users than before.
        full = ends[ends <= (each["start"] + late / 1000).max()]
        counted = full if len(full) >= 2 else ends
        kinds = each.loc[each["error"] != "", "error"].value_counts()
        rows.append(
            {
                "run": run,
                "requests": len(each),
                "completions": len(counted),
                "failures": ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "0",
                "requests/s": rate(counted),
                **{
                    p: good["latency"].quantile(int(p[1:]) / 100) if len(good) >= n else math.nan
                    for p, n in NEEDED.items()
                },
                "client": requests.attrs.get("client", {}).get(run, math.nan),
            }
        )
    columns = ["run", "requests", "completions", "failures", *MEASURES, "client"]
    return pd.DataFrame(rows, columns=columns).set_index("run")


def _interval(logs: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of log ratios, by a bootstrap over the pairs."""
    n = len(logs)
    if n < PAIRS:
        return math.nan, math.nan
    if np.ptp(logs) == 0:
        return logs.mean(), logs.mean()
    # Of few pairs the plain percentile interval is too narrow: of five it covers 84 %, not 95 %.
    # Hence the expanded one, as wide as Student's t would have it: Hesterberg 2015, What Teachers
    # Should Know about the Bootstrap.
    level = 1 - 2 * norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
    low, high = bootstrap(
        (logs,),
        np.mean,
        n_resamples=10_000,
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(0),  # the same pairs, the same interval
    ).confidence_interval
    return low, high


def _told_apart(ends: Sequence[float]) -> str:
    """Write the ends of an interval with two digits, or as many as tell them and 1 apart."""
    different = {1.0, *ends}
    decimals = max(0, 1 - math.floor(math.log10(ends[0])))
    while decimals < 6 and len({round(end, decimals) for end in different}) < len(different):
        decimals += 1
    return " to ".join(f"{end:.{decimals}f}" for end in ends)
