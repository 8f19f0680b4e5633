"""Kill a server's processes while clients ask, and count what the clients notice."""

import math
import os
import random
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd
from requests import RequestException, post

from helpers import pace
from helpers.display import progress
from helpers.kills import Kills
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
    who : str, optional
        A regular expression that finds in an answer the PID of the process that gave it. None where
        the processes are not those that answer.
    probe : object, optional
        The body of the requests that ask who is back, `json` if not given. Up to ten come every
        second, and are load, too: choose one that is done quickly.
    server : Server, optional
        Whose processes they are: an error then lists all of them.
    """

    url: str
    json: object
    processes: Callable[[], list[int]]
    who: str | None = r"PID (\d+)"
    probe: object = None
    server: Server | None = None

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
        more = {"server": server, **more}
        return cls(server.url + path, json, lambda: _titled(server, process), **more)


def kill_all(server: Server, *titles: str) -> None:
    """Kill all of a server's processes whose titles contain one of these texts.

    Parameters
    ----------
    server : Server
        Whose they are.
    *titles : str
        Parts of titles.

    Examples
    --------
    >>> kill_all(ray_serve, "ServeReplica:")                                # doctest: +SKIP
    """
    _send(signal.SIGKILL, [pid for title in titles for pid in _titled(server, title)])


def _titled(server: Server, title: str) -> list[int]:
    """Return the PIDs of the processes whose titles contain a text."""
    table = server.processes()
    return list(table.loc[table["process"].str.contains(title, regex=False), "PID"])


def _send(sent: int, pids: list[int]) -> None:
    """Send a signal to processes, of which some may be ending anyway."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sent)


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
    revive: Callable[[], object] | None = None,
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
        Seconds to wait until all are back. If they are not, there is no further kill, unless it is
        known how to ``revive`` them.
    timeout : float
        Seconds after which a client gives up on a request.
    seed : int
        Of all that chance decides.
    sent : int
        The signal.
    revive : callable, optional
        Called after a kill from which not all came back in time, to bring back all. Requests that
        are due meanwhile are not counted.
    **options
        What else `load` takes; or a ``url`` and a ``locustfile`` of clients
        that ask in another way than the target's, such as over gRPC.

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
    >>> draw_kills({"two replicas": killed})                                # doctest: +SKIP
    """
    numbers = {"kills": kills, "period": period, "count": count, "patience": patience}
    for name, value in numbers.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, not {value}.")
    kills, period = pace.times(kills), min(period, 1) if pace.quick() else period
    chance, moments = random.Random(seed), []
    _to_kill(target, count)  # complains before there is a load
    request = {"url": target.url, "json": target.json, "timeout": timeout, **options}
    clients = load(arrivals="constant", rate=rate, seconds=None, **request)
    with clients, progress() as line:
        for number in range(1, kills + 1):
            line.show(f"kill {number} of {kills} · {target.url}")
            time.sleep(chance.uniform(0, period))
            moments.append(_kill(target, count, patience, sent, chance))
            if math.isnan(moments[-1][1]):
                if revive is None:
                    break
                revive()
        time.sleep(1)
    requests = clients.result()
    return Kills(requests, _per_kill(requests, moments, patience))


def _to_kill(target: Target, count: int) -> list[int]:
    """Return the PIDs of the processes of which so many are to be killed."""
    pids = target.processes()
    if len(pids) < count:
        raise ValueError(
            f"{count} to be killed, but {len(pids)} found that hold the model of {target.url}. Is "
            "it running, and does the target's `processes` find its processes?"
            + (f" There are:\n{target.server.processes().to_string()}" if target.server else "")
        )
    return pids


def _kill(
    target: Target, count: int, patience: float, sent: int, chance: random.Random
) -> tuple[float, float]:
    """Kill once; return when that was, and when all were back (NaN: not in time)."""
    pids = _to_kill(target, count)
    dead = chance.sample(pids, count)
    killed = time.time()
    _send(sent, dead)
    return killed, _when_back(target, len(pids), dead, killed + patience)


def _when_back(target: Target, number: int, dead: list[int], until: float) -> float:
    """Return when so many had answered that are not dead (NaN: not in time)."""
    back: set[int] = set()
    while (now := time.time()) < until:
        answered, who = _ask(target)
        if target.who is None:
            who = set(target.processes()) if answered else set()
            back.clear()
        back |= who.difference(dead)
        if len(back) >= number:
            return time.time()
        time.sleep(max(0.0, now + 0.1 - time.time()))
    return math.nan


def _ask(target: Target) -> tuple[bool, set[int]]:
    """Ask once; tell whether the answer is good, and the PID in it."""
    body = target.json if target.probe is None else target.probe
    try:
        answer = post(target.url, json=body, timeout=1)
    except RequestException:
        return False, set()
    who = re.search(target.who, answer.text) if answer.ok and target.who else None
    return answer.ok, {int(who[1])} if who else set()


def _per_kill(
    requests: pd.DataFrame, moments: list[tuple[float, float]], patience: float
) -> pd.DataFrame:
    """Make the table of `Kills`."""
    start, end = requests["start"], requests["start"] + requests["latency"] / 1000
    counted = pd.Series(False, requests.index)
    rows = []
    for (killed, back), (following, _) in zip(moments, [*moments[1:], (math.inf, 0)], strict=True):
        never = math.isnan(back)
        until = killed + patience if never else back
        met = (start < until) & (end > killed) & ~counted
        later = (start >= until) & (end <= following) & (not never)
        counted |= met
        failed = (requests.loc[met | later, "error"] != "").sum()
        wait = requests.loc[met | later, "latency"].max() / 1000
        rows.append([killed, back, met.sum(), failed, wait, back - killed])
    columns = ["killed", "back", "requests", "failed", "longest wait (s)", "all are back after (s)"]
    return pd.DataFrame(rows, pd.RangeIndex(1, len(rows) + 1, name="kill"), columns)


def kill_in_burst(
    target: Target,
    *,
    size: int = 20,
    after: float = 0.1,
    bursts: int = 5,
    patience: float = 60,
    seed: int = 0,
) -> pd.DataFrame:
    """Send many requests at the same moment, and kill a process while most of them wait.

    Parameters
    ----------
    target : Target
        What to ask, and to kill. Its requests must take longer than ``after``.
    size : int
        Requests in a burst.
    after : float
        Seconds from the burst to the kill.
    bursts : int
        How often. In quick pace once.
    patience : float
        Seconds to wait until all are back. If they are not, there is no further burst.
    seed : int
        Of the chance that decides which process dies.

    Returns
    -------
    pandas.DataFrame
        One row per burst, from 1: how many requests were ``answered``, how many ``failed``, and
        ``all are back after (s)``.

    Raises
    ------
    ValueError
        If no process of the target is found.

    Examples
    --------
    >>> kill_in_burst(target, size=20)                                      # doctest: +SKIP
    """
    chance, rows = random.Random(seed), []

    def ask(_: int) -> bool:
        try:
            return post(target.url, json=target.json, timeout=30).ok
        except RequestException:
            return False

    for _ in range(pace.times(bursts)):
        _to_kill(target, 1)
        with ThreadPoolExecutor(size) as clients:
            answers = clients.map(ask, range(size))
            time.sleep(after)
            killed, back = _kill(target, 1, patience, signal.SIGKILL, chance)
            answered = sum(answers)
        rows.append([answered, size - answered, back - killed])
        if math.isnan(back):
            break
    columns = ["answered", "failed", "all are back after (s)"]
    return pd.DataFrame(rows, pd.RangeIndex(1, len(rows) + 1, name="burst"), columns)
