"""Ask a server to stop while clients ask, and tell what became of their requests."""

import os
import signal
import time

import pandas as pd

from helpers import pace
from helpers.failures import Target
from helpers.load import load
from helpers.server import Server


def stop_under_load(
    server: Server,
    target: Target,
    *,
    rate: float,
    sent: int = signal.SIGTERM,
    seconds: float = 2,
    patience: float = 20,
) -> pd.DataFrame:
    """Ask a server to stop while clients ask at a constant rate.

    Parameters
    ----------
    server : Server
        What to stop: its main process gets the signal.
    target : Target
        What to ask.
    rate : float
        Requests per second, whatever becomes of them (an open loop).
    sent : int
        The signal.
    seconds : float
        How long to ask before the stop.
    patience : float
        Seconds after which a server that has not ended is stopped by force.

    Returns
    -------
    pandas.DataFrame
        The clients' requests, as `Load.result` returns them, with one column more: ``due``,
        "before the stop" or "after it".

    Examples
    --------
    >>> requests = stop_under_load(server, target, rate=15)                 # doctest: +SKIP
    >>> requests.value_counts(["due", "error"])                             # doctest: +SKIP
    """
    with load(
        target.url, json=target.json, arrivals="constant", rate=rate, seconds=None
    ) as clients:
        time.sleep(pace.seconds(seconds))
        asked, main = time.time(), server.pid
        assert main
        os.kill(main, sent)
        while server.state == "running" and time.time() < asked + patience:
            time.sleep(0.1)
        if server.state == "running":
            os.kill(main, signal.SIGKILL)
    server.stop()
    requests = clients.result()
    before = requests["start"] < asked
    return requests.assign(due=before.map({True: "before the stop", False: "after it"}))
