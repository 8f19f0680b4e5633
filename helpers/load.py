"""Load on a server: many requests at a time, sent by locust in a process of its own.

Never by the notebook's kernel, which would measure itself. One row of the result is one request;
`helpers.measure` makes numbers of them, `helpers.display` a picture.
"""

import contextlib
import json as json_
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from helpers import pace
from helpers.display import progress
from helpers.environment import environment
from helpers.interpreter import server_python

_PROGRAM = Path(__file__).parent / "programs" / "locust_load.py"


class Load:
    """A load that is under way. Use `load` to start one.

    A ``with`` block ends it: the requests under way may still come back, unless there was an error.

    Attributes
    ----------
    warm_up : float
        Seconds of load before the first run that are not reported.
    repeat : int
        Number of runs.
    """

    def __init__(self, specification: dict[str, Any]) -> None:
        self._spec = specification
        self.warm_up: float = specification["warm_up"]
        self.repeat: int = specification["repeat"]
        self._rows = tempfile.TemporaryFile()
        self._log = tempfile.TemporaryFile()
        self._begin = time.monotonic()
        self._process = subprocess.Popen(
            [server_python(), str(_PROGRAM), json_.dumps(self._spec)],
            env={**os.environ, **environment(), "PYTHONUNBUFFERED": ""},
            stdin=subprocess.PIPE,
            bufsize=0,  # a byte that nobody takes is not written once more when the pipe is closed
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
            as `time.time` gives them; in the open loop when the request was due), ``late`` (ms from
            then until it was sent; 0 in a closed loop), ``latency`` (ms from ``start`` to the
            answer), ``status`` (0 when no answer came), ``error`` (empty, or the kind of failure:
            ``"HTTP 503"``, ``"timeout"``, ``"connection refused"``, ...) and ``answer`` (its first
            1000 characters). ``attrs["client"]`` is the share of one core that the client used, by
            run, and ``attrs["arrivals"]`` as `load` was told.

        Raises
        ------
        RuntimeError
            If the load could not be made, with the last lines of locust's log; or if too many
            requests were under way at a time.
        """
        self._wait_while(lambda: True)
        self._rows.seek(0)
        text = {"error": str, "answer": str}
        table = pd.read_csv(self._rows, dtype=text, keep_default_na=False)
        table = table.sort_values(["run", "start"], ignore_index=True)
        table.attrs["arrivals"] = self._spec["arrivals"]
        table.attrs["client"] = {
            run: float((rows["cpu"].max() - rows["cpu"].min()) / max(_span(rows), 1e-3))
            for run, rows in table.groupby("run")
        }
        return table.drop(columns="cpu")

    def stop(self, wait: bool = False) -> None:
        """End the load now. `result` then has the requests that there are.

        Parameters
        ----------
        wait : bool
            Send no more requests, but let those under way come back; without it they are dropped.
        """
        assert self._process.stdin
        try:
            if wait and not self._process.stdin.closed:
                with contextlib.suppress(BrokenPipeError):  # it has ended by itself
                    self._process.stdin.write(b"enough")
                self._wait_while(lambda: True)
        finally:
            self._process.stdin.close()
            self._process.wait()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.stop(wait=error is None)

    def _wait_while(self, going_on: Callable[[], bool]) -> None:
        """Wait, showing progress, and say why if locust could not do it."""
        seconds = self._spec["seconds"]
        total = self.warm_up + self.repeat * seconds if seconds else None
        of = f" of {total:.0f}" if total else ""
        with progress() as line:
            try:
                while self._process.poll() is None and going_on():
                    passed = time.monotonic() - self._begin
                    passed = min(passed, total) if total else passed
                    line.show(f"load: {passed:.0f}{of} s · {self._spec['url']}")
                    time.sleep(0.05)
            except BaseException:
                self.stop()
                raise
        if self._process.returncode:
            self._log.seek(0)
            log = self._log.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError("The load could not be made:\n" + "\n".join(log[-15:]))


def load(
    url: str = "",
    *,
    json: Any = None,
    users: int = 1,
    seconds: float | None = 5,
    arrivals: Literal["closed", "constant", "poisson"] = "closed",
    rate: float | None = None,
    seed: int = 0,
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
    users : int
        In a closed loop, how many requests are under way at a time.
    seconds : float, optional
        How long each run lasts; None for until `Load.stop`.
    arrivals : {"closed", "constant", "poisson"}
        When requests are sent. In a *closed* loop each user sends the next one when the last was
        answered: that shows the most that a server can do, and hides what a stall costs, for users
        who wait send nothing. In the *open* loop requests are due at times fixed beforehand, evenly
        or as a Poisson process, whatever has become of the others, and the latency counts from when
        a request was due.
    rate : float, optional
        Requests per second of the open loop.
    seed : int
        Of the times at which requests of a Poisson process are due.
    repeat : int
        Number of runs, one after the other.
    warm_up : float
        Seconds of load before the first run that are not reported.
    timeout : float
        Seconds after which the client gives up on a request.
    expect : str, optional
        A text that a good answer contains; one without it counts as a failure.
    locustfile : str, optional
        A Python file with one class of locust users, for what is not HTTP. Then ``url`` is its
        ``host``, and what describes an HTTP request does not apply.

    Returns
    -------
    Load
        Under way; its ``result()`` waits for the end.

    Raises
    ------
    ValueError
        If a number makes no sense.
    RuntimeError
        If the load could not be made.

    Examples
    --------
    >>> url = server.url + "/v2/models/translator/infer"                    # doctest: +SKIP
    >>> requests = load(url, json=body, users=8, repeat=3).result()         # doctest: +SKIP
    >>> summary(requests)                                                   # doctest: +SKIP
    """
    numbers = {"users": users, "seconds": seconds, "rate": rate, "repeat": repeat}
    for name, value in numbers.items():
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be above 0, not {value}.")
    if arrivals not in ("closed", "constant", "poisson"):
        raise ValueError(f"arrivals must be closed, constant or poisson, not {arrivals!r}.")
    if (arrivals == "closed") != (rate is None):
        raise ValueError(
            "A rate belongs to the open loop, and the open loop needs one: give both "
            'arrivals="constant" (or "poisson") and rate=, or neither.'
        )
    if not url and not locustfile:
        raise ValueError("Say where to send the requests: give a url, or a locustfile.")
    if locustfile and not Path(locustfile).is_file():
        raise FileNotFoundError(f"There is no {locustfile} in the current folder.")
    has_body = json is not None
    return Load(
        {
            "url": url,
            "method": "POST" if has_body else "GET",
            "body": json_.dumps(json) if has_body else None,
            "headers": {"Content-Type": "application/json"} if has_body else {},
            "users": users,
            "seconds": seconds and pace.seconds(seconds),
            "arrivals": arrivals,
            "rate": rate,
            "seed": seed,
            "repeat": pace.times(repeat),
            "warm_up": pace.seconds(warm_up),
            "timeout": timeout,
            "expect": expect,
            "locustfile": locustfile,
        }
    )


def _span(requests: pd.DataFrame) -> float:
    """Seconds from the first request's start to the last one's end."""
    end = requests["start"] + requests["latency"] / 1000
    return float(end.max() - requests["start"].min())
