"""Kill a server's processes while clients ask, and count what the clients notice."""

import math
import os
import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from requests import RequestException, post

from helpers import pace
from helpers.display import progress, timeline
from helpers.load import load
from helpers.server import Server


@dataclass
class Target:
    """Something that answers, and whose processes can be killed.

    Attributes
    ----------
    url : str
        Where to send requests.
    json : object
        The body of a request.
    processes : callable
        Returns the PIDs of the processes that hold the model now.
    who : str
        A regular expression that finds in an answer the PID of the process that gave it.
    probe : object, optional
        The body of the requests that ask who is back, `json` if not given. Up to ten come every
        second, and are load, too: choose one that is done quickly.
    """

    url: str
    json: object
    processes: Callable[[], list[int]]
    who: str = r"PID (\d+)"
    probe: object = None

    @classmethod
    def of(cls, server: Server, path: str, json: object, *, process: str, **more: Any) -> "Target":
        """Make a target of a model on a server.

        Parameters
        ----------
        server : Server
            Where it is served.
        path : str
            Where on the server it answers.
        json : object
            The body of a request.
        process : str
            A part of the title of those processes that hold the model.
        **more
            ``who`` and ``probe``.

        Examples
        --------
        >>> Target.of(ray_serve, "/two", "0.05", process="ServeReplica:two:")  # doctest: +SKIP
        """

        def processes() -> list[int]:
            table = server.processes()
            return list(table.loc[table["process"].str.contains(process, regex=False), "PID"])

        return cls(server.url + path, json, processes, **more)


@dataclass(frozen=True, eq=False)
class Kills:
    """What clients noticed of kills, as `kill_under_load` has found it.

    Attributes
    ----------
    requests : pandas.DataFrame
        The clients' requests, as `Load.result` returns them.
    table : pandas.DataFrame
        One row per kill, from 1: when it was ``killed``, and when all were ``back`` (seconds, as
        `time.time` gives them; NaN for never); ``requests``, how many were under way or due in
        between, each counted for the first kill that it met; how many of them ``failed``; their
        ``longest wait (s)``; and ``all are back after (s)``.
    """

    requests: pd.DataFrame
    table: pd.DataFrame

    def draw(self, number: int | None = None, ax: Axes | None = None) -> None:
        """Draw a kill, from a second before it to two after the recovery, or eight if never.

        The clock starts with the kill. Other kills and recoveries in that time are marked, too.

        Parameters
        ----------
        number : int, optional
            Of the kill, from 1. If not given, the one whose recovery took the median time; of two
            in the middle the longer.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new picture if not given.

        Raises
        ------
        ValueError
            If there is no kill of that number.
        """
        seconds = self.table["all are back after (s)"].fillna(math.inf).sort_values()
        number = seconds.index[len(seconds) // 2] if number is None else number
        if number not in seconds:
            raise ValueError(f"There are kills 1 to {len(seconds)}, none of number {number}.")
        killed, back = self.table.loc[number, ["killed", "back"]]
        begin, end = killed - 1, killed + 8 if math.isnan(back) else back + 2
        named = {"killed": self.table["killed"], "all are back": self.table["back"]}
        seen = {name: list(when[when.between(begin, end)]) for name, when in named.items()}
        marks = {name: when for name, when in seen.items() if when}
        shown = self.requests[self.requests["start"].between(begin, end)]
        timeline(shown, marks, ax=ax, since=killed)


def kill_under_load(
    target: Target,
    *,
    rate: float,
    kills: int = 10,
    period: float = 10,
    count: int = 1,
    patience: float = 60,
    timeout: float = 30,
    seed: int = 0,
    sent: int = signal.SIGKILL,
    **options: Any,
) -> Kills:
    """Kill processes again and again while clients ask at a constant rate.

    Each kill comes at a random time after the recovery from the one before. *All are back* when as
    many different processes as before have answered, none of them one that was killed.

    Parameters
    ----------
    target : Target
        What to ask, and to kill.
    rate : float
        Requests per second, whatever becomes of them (an open loop).
    kills : int
        How often to kill. In quick pace once.
    period : float
        Seconds within which the next kill comes, each moment being equally likely. If it is the
        period of a health check, kills meet it at every phase. At most 1 in quick pace.
    count : int
        How many processes to kill at a time; chance decides which.
    patience : float
        Seconds to wait until all are back. If they are not, there is no further kill.
    timeout : float
        Seconds after which a client gives up on a request.
    seed : int
        Of all that chance decides.
    sent : int
        The signal.
    **options
        What else `load` takes, such as ``headers`` or ``expect``.

    Returns
    -------
    Kills
        The requests and the kills.

    Raises
    ------
    ValueError
        If a number makes no sense, or if the target has fewer processes than are to be killed.
    RuntimeError
        If the load could not be made.

    Examples
    --------
    >>> target = Target.of(ray_serve, "/two", "0.05", process="ServeReplica:two:")  # doctest: +SKIP
    >>> killed = kill_under_load(target, rate=16)                           # doctest: +SKIP
    >>> killed.draw()                                                       # doctest: +SKIP
    """
    numbers = {"kills": kills, "period": period, "count": count, "patience": patience}
    for name, value in numbers.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, not {value}.")
    kills, period = pace.times(kills), min(period, 1) if pace.quick() else period
    chance, moments = random.Random(seed), []
    _to_kill(target, count)  # complains before there is a load
    clients = load(
        target.url,
        json=target.json,
        arrivals="constant",
        rate=rate,
        seconds=None,
        timeout=timeout,
        **options,
    )
    try:
        with progress() as line:
            for number in range(1, kills + 1):
                line.show(f"kill {number} of {kills} · {target.url}")
                time.sleep(chance.uniform(0, period))
                moments.append(_kill(target, count, patience, sent, chance))
                if math.isnan(moments[-1][1]):
                    break
            time.sleep(1)
        clients.stop(wait=True)
    except BaseException:
        clients.stop()
        raise
    requests = clients.result()
    return Kills(requests, _per_kill(requests, moments))


def _to_kill(target: Target, count: int) -> list[int]:
    """Return the PIDs of the processes of which so many are to be killed."""
    pids = target.processes()
    if len(pids) < count:
        raise ValueError(
            f"{count} to be killed, but {len(pids)} found that hold the model of {target.url}. Is "
            "it running, and does the target's `processes` find its processes?"
        )
    return pids


def _kill(
    target: Target, count: int, patience: float, sent: int, chance: random.Random
) -> tuple[float, float]:
    """Kill once; return when that was, and when all were back (NaN: not in time)."""
    pids = _to_kill(target, count)
    dead = chance.sample(pids, count)
    killed = now = time.time()
    for pid in dead:
        os.kill(pid, sent)
    back: set[int] = set()
    while now < killed + patience:
        back |= _who_answers(target).difference(dead)
        if len(back) == len(pids):
            return killed, time.time()
        time.sleep(max(0.0, now + 0.1 - time.time()))
        now = time.time()
    return killed, math.nan


def _who_answers(target: Target) -> set[int]:
    """Ask once; return the PID in a good answer, or nothing."""
    body = target.json if target.probe is None else target.probe
    try:
        answer = post(target.url, json=body, timeout=1)
    except RequestException:
        return set()
    who = re.search(target.who, answer.text) if answer.ok else None
    return {int(who[1])} if who else set()


def _per_kill(requests: pd.DataFrame, moments: list[tuple[float, float]]) -> pd.DataFrame:
    """Make the table of `Kills`."""
    end = requests["start"] + requests["latency"] / 1000
    counted = pd.Series(False, requests.index)
    rows = []
    for killed, back in moments:
        until = math.inf if math.isnan(back) else back
        met = (requests["start"] < until) & (end > killed) & ~counted
        counted |= met
        failed = (requests.loc[met, "error"] != "").sum()
        wait = requests.loc[met, "latency"].max() / 1000
        rows.append([killed, back, met.sum(), failed, wait, back - killed])
    columns = ["killed", "back", "requests", "failed", "longest wait (s)", "all are back after (s)"]
    return pd.DataFrame(rows, pd.RangeIndex(1, len(rows) + 1, name="kill"), columns)
