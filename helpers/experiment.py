"""Experiments on servers: two in turn, and one up to its limit."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from helpers import pace
from helpers.display import progress
from helpers.load import Load
from helpers.measure import LATE, LATE_SHARE
from helpers.turn import asked, only

T = TypeVar("T")


def alternate(
    targets: Mapping[str, T], run: Callable[[T], Load | pd.DataFrame], pairs: int = 5
) -> pd.DataFrame:
    """Measure two servers in turn: A B, B A, A B, ...

    What changes on the machine meanwhile then meets both, and neither is always the first. While
    one of them is asked, all other servers stand still (`helpers.turn.only`): an idle one is not at
    rest. Which is asked is told by the addresses in the targets. Where neither target has any, as
    where ``run`` knows them, nothing stands still.

    Parameters
    ----------
    targets : dict of str to object
        Two names, and for each what `run` takes: a URL, a server, whatever tells them apart.
    run : callable
        Takes one of the two and starts a load on it, with a warm-up. It may also return a result,
        of which nobody can tell whether there was a warm-up.
    pairs : int
        How often each of them has its turn. In quick pace once.

    Returns
    -------
    pandas.DataFrame
        All requests as `Load.result` returns them, with two columns more: ``target``, the name, and
        ``pair``, from 1. ``attrs["client"]`` is the share of one core that the client used, by
        ``(target, pair)``.

    Raises
    ------
    ValueError
        If there are not two targets, or if a load has no warm-up or several runs.

    Examples
    --------
    >>> urls = {"MLServer": mlserver.url + "/v2/models/translator/infer",   # doctest: +SKIP
    ...         "Ray Serve": ray_serve.url}
    >>> alternate(urls, lambda url: load(url, json=body, warm_up=2))        # doctest: +SKIP
    """
    if len(targets) != 2:
        raise ValueError(f"Two targets alternate, not {len(targets)}: give a dict of two.")
    if pairs < 1:
        raise ValueError(f"pairs must be 1 or more, not {pairs}.")
    pairs, order = pace.times(pairs), list(targets)
    turns = [(n, pair) for pair in range(1, pairs + 1) for n in order[:: 1 if pair % 2 else -1]]
    tables, client, attrs = [], {}, {}
    whom = {name: asked(target) for name, target in targets.items()}
    known = None not in whom.values() and any(whom.values())
    begin = time.monotonic()
    with progress() as line:
        for done, (name, pair) in enumerate(turns):
            per_turn = (time.monotonic() - begin) / max(done, 1)
            left = f" · about {per_turn * (len(turns) - done):.0f} s left" if done else ""
            line.show(f"pair {pair} of {pairs}: {name}{left}")
            with only(*whom[name] or []) if known else nullcontext():
                requests = _after_warm_up(run(targets[name]))
            attrs = requests.attrs
            client[name, pair] = max(attrs.get("client", {}).values(), default=math.nan)
            tables.append(requests.assign(target=name, pair=pair))
    table = pd.concat(tables, ignore_index=True)
    table.attrs = {**attrs, "client": client}
    return table[["target", "pair", *table.columns.drop(["target", "pair"])]]


def _after_warm_up(under_way: Load | pd.DataFrame) -> pd.DataFrame:
    """Wait for the result of a load that had a warm-up."""
    if isinstance(under_way, pd.DataFrame):
        return under_way
    if not under_way.warm_up:
        under_way.stop()
        raise ValueError(
            "A server's first answers are slower than the rest, and are no part of a comparison: "
            "give the load a warm-up, as in load(..., warm_up=2)."
        )
    if under_way.repeat > 1:
        under_way.stop()
        raise ValueError("Pairs are the repetitions here: leave repeat out of the load.")
    return under_way.result()


@dataclass(frozen=True, eq=False)
class Capacity:
    """The load that a server can bear, as `capacity` has found it. It prints as a sentence.

    Attributes
    ----------
    rate : float
        The highest rate that met the limit (requests/s); NaN if none did.
    latency : float
        The limit (ms).
    share : float
        Of the requests, how many must be answered within the limit, from 0 to 1.
    step : float
        By what factor a rate differs from the next one: 1.1 for 10 %.
    tried : pandas.DataFrame
        One row per load, in the order in which they were made: ``rate``, ``requests``, ``share in
        time``, ``p50`` and ``slowest`` (ms, of good answers), ``late`` (the share of requests that
        the client sent too late), and whether it ``met`` the limit. Of a load that ended with too
        many requests under way, only the rate is known.
    """

    rate: float
    latency: float
    share: float
    step: float
    tried: pd.DataFrame

    @property
    def by_client(self) -> bool:
        """Whether the client was too slow for the lowest rate that was too much.

        What the server would do with it is then not known.
        """
        failed = self.tried[~self.tried["met"]].sort_values("rate")
        return bool((failed["late"].head(1) > LATE_SHARE).any())

    def __repr__(self) -> str:
        how = f"requests/s with {100 * self.share:g} % within {self.latency:g} ms"
        too_much = self.tried.loc[~self.tried["met"], "rate"].min()
        whom = " for the client" if self.by_client else ""
        if math.isnan(self.rate):
            return f"less than {_number(too_much)} {how} (nothing below that was tried)"
        if math.isnan(too_much):
            return f"{_number(self.rate)} {how} (nothing above that was tried)"
        return (
            f"{_number(self.rate)} {how} (the next step, {_number(too_much)}, was too much{whom})"
        )


def capacity(
    run: Callable[[float], Load],
    *,
    latency: float,
    share: float = 0.99,
    start: float = 8,
    step: float = 1.1,
    most: float = 20_000,
) -> Capacity:
    """Find the highest rate that a server answers in time: its *goodput* under a limit.

    The rates are ``start * step**k``: first every doubling, up or down, until one is too much and
    one is not, then the middle between these two until they are neighbours. A latency counts from
    when a request was due. So a client that is late can hide what a server bears, but not give it
    more; where it may have, `Capacity.by_client` says so.

    Parameters
    ----------
    run : callable
        Takes a rate (requests/s) and starts an open-loop load, with a warm-up: a slow first answer
        would pass for too high a rate. It must last for many times the limit, or a server that
        falls behind is not seen to.
    latency : float
        The limit (ms).
    share : float
        How many of the requests that are due must be answered, without error, within the limit.
    start : float
        The rate to try first (requests/s).
    step : float
        How exactly to search: by what factor a rate differs from the next. 2 or more in quick pace.
    most : float
        No rate above this one is tried (requests/s), nor one so low that a load has no request.

    Returns
    -------
    Capacity
        The rate, and all that were tried.

    Raises
    ------
    ValueError
        If a number makes no sense, or if a load is a closed loop or has no request.
    RuntimeError
        If a load could not be made.

    Examples
    --------
    >>> def at(rate: float) -> Load:                                        # doctest: +SKIP
    ...     return load(url, json=body, arrivals="constant", rate=rate, seconds=10, warm_up=2)
    >>> capacity(at, latency=100)                                           # doctest: +SKIP
    36.8 requests/s with 99 % within 100 ms (the next step, 40.4, was too much)
    """
    if not (latency > 0 and 0 < share <= 1 and 0 < start <= most and step > 1):
        raise ValueError(
            "latency must be above 0, share above 0 and at most 1, start above 0 and at most most, "
            f"step above 1; not {latency=}, {share=}, {start=}, {most=}, {step=}."
        )
    step = max(step, 2.0) if pace.quick() else step

    def steps(factor: float) -> int:
        return math.floor(math.log(factor, step) + 1e-9)

    double, highest = max(steps(2), 1), steps(most / start)
    good: int | None = None  # the highest k that met the limit
    bad: int | None = None  # the lowest one that did not
    k, lowest = 0, -math.inf
    tried: list[dict[str, Any]] = []
    with progress() as line:
        while k not in (good, bad):
            rate = start * step**k
            line.show(f"load {len(tried) + 1} of a search: {_number(rate)} requests/s")
            tried.append(_try(run, rate, latency, share))
            if tried[-1]["met"]:
                good = k
            else:
                bad = k
            if requests := tried[-1]["requests"]:
                lowest = max(lowest, k - steps(requests))  # where a load has one request left
            if good is None:
                k = int(max(k - double, lowest))
            elif bad is None:
                k = min(k + double, highest)
            else:
                k = (good + bad) // 2
    best = math.nan if good is None else start * step**good
    return Capacity(best, latency, share, step, pd.DataFrame(tried).astype({"requests": "Int64"}))


def _try(run: Callable[[float], Load], rate: float, latency: float, share: float) -> dict[str, Any]:
    """Return the row of `Capacity.tried` for a rate."""
    try:
        requests = run(rate).result()
    except RuntimeError as error:
        if "under way at a time" not in str(error) or rate < 1:  # so many cannot be the server's
            raise
        return {"rate": rate, "requests": None, "late": 0.0, "met": False}
    if requests.attrs.get("arrivals") == "closed":
        raise ValueError('A closed loop has no rate: pass arrivals="constant" and rate= to load.')
    if requests.empty:
        raise ValueError(f"A load of {_number(rate)} requests/s had no request: make it longer.")
    good = requests.loc[requests["error"] == "", "latency"]
    in_time = (good <= latency).sum() / len(requests)
    return {
        "rate": rate,
        "requests": len(requests),
        "share in time": in_time,
        "p50": good.median(),
        "slowest": good.max(),
        "late": (requests["late"] > LATE).mean(),
        "met": bool(in_time >= share),
    }


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
