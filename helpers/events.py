"""Something happens to a server while clients ask: a machine is lost, a change is rolled out."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import psutil
from requests import RequestException, post

from helpers import pace
from helpers.display import timelines
from helpers.load import load
from helpers.server import Server


@dataclass(frozen=True, eq=False)
class Event:
    """What clients noticed of something that happened, as `during` has found it.

    Attributes
    ----------
    requests : dict of str to pandas.DataFrame
        The clients' requests, as `Load.result` returns them, by door.
    marks : dict of str to float
        What happened when (seconds, as `time.time` gives them): it ``begins``, it ``ends``, and
        what was noted in between.
    """

    requests: dict[str, pd.DataFrame]
    marks: dict[str, float]

    @property
    def table(self) -> pd.DataFrame:
        """One row per door: of the requests that were under way or due in the meantime, how many.

        The columns are ``requests``, ``failed``, ``how``, ``p50 (ms)`` (of good answers) and
        ``longest wait (ms)`` (of all).
        """
        rows = {}
        for door, requests in self.requests.items():
            end = requests["start"] + requests["latency"] / 1000
            within = (requests["start"] < self.marks["ends"]) & (end > self.marks["begins"])
            met = requests[within]
            failed = met.loc[met["error"] != "", "error"]
            rows[door] = {
                "requests": len(met),
                "failed": len(failed),
                "how": ", ".join(failed.unique()),
                "p50 (ms)": met.loc[met["error"] == "", "latency"].median(),
                "longest wait (ms)": met["latency"].max(),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("door")

    def seconds(self, since: str, until: str) -> float:
        """Return the time between two marks.

        Parameters
        ----------
        since, until : str
            Names of marks.
        """
        return self.marks[until] - self.marks[since]


def during(
    happening: Callable[[dict[str, float]], None],
    doors: Mapping[str, Mapping[str, Any]],
    *,
    rate: float = 20,
    pause: float = 2,
    timeout: float = 10,
) -> Event:
    """Ask at every door at a constant rate (an open loop) before, while and after it happens.

    Parameters
    ----------
    happening : callable
        Lets it happen, and comes back when it is over. It takes a dict, in which it may note when
        something else was the case: ``marks["a new one started"] = time.time()``.
    doors : dict of str to dict
        For each name what `load` takes to send a request: ``{"url": ..., "json": ...}``, and its
        ``rate`` if it has one of its own.
    rate : float
        Requests per second and door, fewer in quick pace.
    pause : float
        Seconds of load before it happens and after, shorter in quick pace.
    timeout : float
        Seconds after which a client gives up on a request.

    Returns
    -------
    Event
        What the clients noticed.

    Examples
    --------
    >>> lost = during(lambda marks: vanish(server), {"plain": {"url": url}})  # doctest: +SKIP
    >>> lost.table                                                          # doctest: +SKIP
    """
    marks: dict[str, float] = {}
    constant: dict[str, Any] = {"arrivals": "constant", "seconds": None, "timeout": timeout}
    with contextlib.ExitStack() as stack:
        clients = {
            door: stack.enter_context(
                load(**{**constant, **request, "rate": pace.rate(request.get("rate", rate))})
            )
            for door, request in doors.items()
        }
        time.sleep(pace.seconds(pause))
        marks["begins"] = time.time()
        happening(marks)
        marks["ends"] = time.time()
        time.sleep(pace.seconds(pause))
    return Event({door: each.result() for door, each in clients.items()}, marks)


def vanish(server: Server) -> None:
    """Kill all processes of a server at once, as if its machine had been switched off.

    Its connections are closed, which a machine without power would not even do.

    Parameters
    ----------
    server : Server
        What to kill; `Server.start` starts it again.

    Raises
    ------
    ValueError
        If it does not run.
    """
    if server.pid is None:  # which psutil would take for ourselves
        raise ValueError(f"There is nothing to kill: {server}")
    main = psutil.Process(server.pid)
    for process in [main, *main.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def wait_for(text: str, door: Mapping[str, Any], patience: float = 120) -> None:
    """Ask again and again until an answer contains a text.

    Parameters
    ----------
    text : str
        What to wait for.
    door : dict
        What to send, as for `during`.
    patience : float
        Seconds to wait.

    Raises
    ------
    TimeoutError
        If there is no such answer in time; it says what came instead.
    """
    latest, last = time.monotonic() + patience, "nothing"
    while time.monotonic() < latest:
        try:
            last = post(door["url"], json=door.get("json"), timeout=5).text
        except RequestException as error:
            last = type(error).__name__
        if text in last:
            return
        time.sleep(0.05)
    raise TimeoutError(f"No answer with {text!r} after {patience:g} s, the last was: {last[:200]}")


def noticed(events: Mapping[str, Sequence[Event]]) -> pd.DataFrame:
    """Put the tables of several events below each other.

    Parameters
    ----------
    events : dict of str to list of Event
        What happened to each server, once or several times.

    Returns
    -------
    pandas.DataFrame
        A row per ``server``, ``time`` (from 1) and ``door``, with the columns of `Event.table` and
        how long the event ``took (s)``.
    """
    tables = {
        (server, time): event.table.assign(**{"took (s)": event.seconds("begins", "ends")})
        for server, all_of_them in events.items()
        for time, event in enumerate(all_of_them, start=1)
    }
    return pd.concat(tables, names=["server", "time"])


def draw(events: Mapping[str, Sequence[Event]], door: str, **names: str) -> None:
    """Draw each server's last event as seen at a door; the clocks start when it begins.

    Parameters
    ----------
    events : dict of str to list of Event
        As for `noticed`.
    door : str
        Which requests to show.
    **names
        What to call marks in the picture: ``begins="killed"``.
    """
    last = {server: all_of_them[-1] for server, all_of_them in events.items()}
    marks = {
        server: {names.get(name, name): when for name, when in event.marks.items()}
        for server, event in last.items()
    }
    requests = {server: event.requests[door] for server, event in last.items()}
    timelines(requests, marks, since={server: e.marks["begins"] for server, e in last.items()})
