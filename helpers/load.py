"""Load on a server: many requests at a time, sent by locust in a process of its own.

Never by the notebook's kernel, which would measure itself. One row of the result is one request;
`summary` and `timeline` make a table and a picture of them.
"""

import json as json_
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from helpers.interpreter import environment, server_python
from helpers.servers import show_progress


class Load:
    """A load that is under way. Use `load` to start one."""

    def __init__(self, specification: dict[str, Any]) -> None:
        self._spec = specification
        self._rows = tempfile.TemporaryFile()
        self._log = tempfile.TemporaryFile()
        self._begin, self._stopped = time.monotonic(), False
        self._process = subprocess.Popen(
            [server_python(), str(Path(__file__).with_name("_load.py")), json_.dumps(self._spec)],
            env={**os.environ, **environment(), "PYTHONUNBUFFERED": ""},
            stdin=subprocess.PIPE,
            stdout=self._rows,
            stderr=self._log,
            start_new_session=True,  # the stop button is for us, we then stop the load
        )
        self._wait_while(lambda: not os.fstat(self._rows.fileno()).st_size)

    def result(self) -> pd.DataFrame:
        """Wait until the load ends.

        Returns
        -------
        pandas.DataFrame
            One row per request, in the order of their start: ``run`` (from 1), ``start`` (seconds,
            as `time.time` gives them), ``latency`` (ms), ``status`` (0 when no answer came),
            ``error`` (empty, or the kind of failure: ``"HTTP 503"``, ``"timeout"``, ``"connection
            refused"``, ...) and ``answer`` (its first 1000 characters). ``attrs["client"]`` is the
            share of one core that the client used, by run.

        Raises
        ------
        RuntimeError
            If the load could not be made, with the last lines of locust's log.
        """
        self._wait_while(lambda: True)
        self._rows.seek(0)
        text = {"error": str, "answer": str}
        table = pd.read_csv(self._rows, dtype=text, keep_default_na=False)
        table = table.sort_values(["run", "start"], ignore_index=True)
        if not self._stopped:
            table.attrs["seconds"] = self._spec["seconds"]
        table.attrs["client"] = {
            run: float((rows["cpu"].max() - rows["cpu"].min()) / max(_span(rows), 1e-3))
            for run, rows in table.groupby("run")
        }
        return table.drop(columns="cpu")

    def stop(self) -> None:
        """End the load now; requests under way are dropped. `result` then has those before."""
        assert self._process.stdin
        self._stopped = self._process.poll() is None
        self._process.stdin.close()
        self._process.wait()

    def _wait_while(self, going_on: Callable[[], bool]) -> None:
        """Wait, showing progress, and say why if locust could not do it."""
        total = self._spec["warm_up"] + self._spec["repeat"] * self._spec["seconds"]
        try:
            while self._process.poll() is None and going_on():
                passed = min(time.monotonic() - self._begin, total)
                show_progress(f"load: {passed:.0f} of {total:.0f} s · {self._spec['url']}")
                time.sleep(0.05)
        except BaseException:
            self.stop()
            raise
        show_progress("")
        if self._process.returncode:
            self._log.seek(0)
            log = self._log.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError("The load could not be made:\n" + "\n".join(log[-15:]))


def load(
    url: str = "",
    *,
    json: Any = None,
    data: str | None = None,
    headers: Mapping[str, str] | None = None,
    users: int = 1,
    seconds: float = 5,
    rate: float | None = None,
    repeat: int = 1,
    warm_up: float = 0,
    timeout: float = 30,
    expect: str | None = None,
    locustfile: str | None = None,
) -> Load:
    """Send the same request again and again; comes back as soon as the load has begun.

    Parameters
    ----------
    url : str
        Where to send it: with POST if there is a body, else with GET.
    json : object, optional
        The body, sent as JSON.
    data : str, optional
        The body, sent as it is.
    headers : dict of str to str, optional
        More headers of the request.
    users : int
        How many requests at most are under way at a time. Each user sends the next one when the
        last was answered (a *closed loop*).
    seconds : float
        How long each run lasts.
    rate : float, optional
        Requests per second, of all users together, for a steady load; as many as it can if not
        given. Needs enough users: one that waits for an answer sends nothing.
    repeat : int
        Number of runs, one after the other, each with new connections.
    warm_up : float
        Seconds of load before the first run that are not reported.
    timeout : float
        Seconds after which the client gives up on a request.
    expect : str, optional
        A text that a good answer contains; one without it counts as a failure.
    locustfile : str, optional
        A Python file with one class of locust users, for what is not HTTP. Then ``url`` is its
        ``host``, and of the parameters above only ``users``, ``seconds``, ``repeat``, ``warm_up``
        and ``timeout`` apply.

    Returns
    -------
    Load
        Under way; its ``result()`` waits for the end.

    Raises
    ------
    ValueError
        If a number makes no sense, or there are two bodies.
    RuntimeError
        If the load could not be made.

    Examples
    --------
    >>> url = server.url + "/v2/models/translator/infer"                    # doctest: +SKIP
    >>> requests = load(url, json=body, users=8, repeat=3).result()         # doctest: +SKIP
    >>> summary(requests)                                                   # doctest: +SKIP
    """
    if json is not None and data is not None:
        raise ValueError("A request has one body: give json or data, not both.")
    for name, value in {"users": users, "seconds": seconds, "repeat": repeat}.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, not {value}.")
    if not url and not locustfile:
        raise ValueError("Say where to send the requests: give a url, or a locustfile.")
    if locustfile and not Path(locustfile).is_file():
        raise FileNotFoundError(f"There is no {locustfile} in the current folder.")
    body = data if json is None else json_.dumps(json)
    content = {"Content-Type": "application/json"} if json is not None else {}
    return Load(
        {
            "url": url,
            "method": "GET" if body is None else "POST",
            "body": body,
            "headers": {**content, **(headers or {})},
            "users": users,
            "seconds": seconds,
            "rate": rate,
            "repeat": repeat,
            "warm_up": warm_up,
            "timeout": timeout,
            "expect": expect,
            "locustfile": locustfile,
        }
    )


def summary(requests: pd.DataFrame) -> pd.DataFrame:
    """Sum up what a load brought, run by run.

    Parameters
    ----------
    requests : pandas.DataFrame
        What `Load.result` returns.

    Returns
    -------
    pandas.DataFrame
        One row per run: ``requests``, ``failures`` (their kinds and numbers, ``"0"`` if none),
        ``requests/s`` (good answers that came within the run's time), ``p50``, ``p95`` and ``p99``
        (ms, of good answers; NaN if there is none), and ``client``, the share of one core that the
        client used: near 1, it was the client that was measured.
    """
    rows = []
    for run, each in requests.groupby("run"):
        good = each[each["error"] == ""]
        seconds = requests.attrs.get("seconds") or _span(each)
        in_time = good["start"] + good["latency"] / 1000 <= each["start"].min() + seconds
        kinds = each.loc[each["error"] != "", "error"].value_counts()
        rows.append(
            {
                "run": run,
                "requests": len(each),
                "failures": ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "0",
                "requests/s": in_time.sum() / seconds,
                **{f"p{p}": good["latency"].quantile(p / 100) for p in (50, 95, 99)},
                "client": requests.attrs.get("client", {}).get(run, math.nan),
            }
        )
    columns = ["run", "requests", "failures", "requests/s", "p50", "p95", "p99", "client"]
    table = pd.DataFrame(rows, columns=columns).set_index("run")
    return table.round({"requests/s": 1, "p50": 1, "p95": 1, "p99": 1, "client": 2})


def timeline(
    requests: pd.DataFrame, marks: Mapping[str, float] | None = None, ax: Axes | None = None
) -> None:
    """Draw each request at the time of its start, as high as it took long; failures in red.

    Parameters
    ----------
    requests : pandas.DataFrame
        What `Load.result` returns.
    marks : dict of str to float, optional
        What happened when (seconds, as `time.time` gives them): a line each.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new picture if not given.
    """
    ax = ax or plt.subplots(figsize=(9, 3), layout="constrained")[1]
    begin = requests["start"].min()
    failed = requests["error"] != ""
    for name, rows, marker, size, colour in [
        ("answered", ~failed, ".", 4, "tab:blue"),
        ("failed", failed, "x", 7, "tab:red"),
    ]:
        if rows.any():
            start, latency = requests.loc[rows, "start"] - begin, requests.loc[rows, "latency"]
            label = f"{name}: {rows.sum()}"
            ax.plot(start, latency, marker, markersize=size, color=colour, label=label)
    for number, (name, moment) in enumerate((marks or {}).items()):
        ax.axvline(moment - begin, color=f"C{number + 4}", linestyle="--", label=name)
    ax.set(xlabel="time (s)", ylabel="latency (ms)", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def _span(requests: pd.DataFrame) -> float:
    """Seconds from the first request's start to the last one's end."""
    end = requests["start"] + requests["latency"] / 1000
    return float(end.max() - requests["start"].min())
