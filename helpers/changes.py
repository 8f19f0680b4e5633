"""Change a server step by step while clients ask, and tell what they noticed of each step."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from helpers import pace
from helpers.display import progress
from helpers.events import during

BEFORE = "before"  # the name of the time before the first step


def change_under_load(
    asked: Mapping[str, Mapping[str, Any]],
    steps: Mapping[str, Callable[[], object]],
    *,
    pause: float = 2,
    timeout: float = 30,
) -> pd.DataFrame:
    """Take steps, one after the other, while clients ask at constant rates.

    Each rate is that of an open loop: a request is due whatever has become of the others, so that
    a stall is seen by all whom it would have met.

    Parameters
    ----------
    asked : dict of str to dict
        What to ask, by name, and how `load` is to do it: ``url``, ``json``, ``rate``, ...
    steps : dict of str to callable
        What to do, by name. Each comes back when it has happened.
    pause : float
        Seconds before the first step and after each, shorter in quick pace. What comes late of a
        step comes in the pause after it.
    timeout : float
        Seconds after which a client gives up on a request.

    Returns
    -------
    pandas.DataFrame
        All requests, as `Load.result` returns them, with four columns more: ``asked``, the name;
        ``step``, the last one that had begun when the answer came, or ``"before"``; when that
        step ``began`` (seconds, as `time.time` gives them; of ``"before"`` the first request); and
        how many seconds it ``took`` (0 of ``"before"``).

    Raises
    ------
    ValueError
        If there is nothing to ask, or no step.
    RuntimeError
        If a load could not be made.

    Examples
    --------
    >>> asked = {"neighbour": {"url": url, "json": body, "rate": 10}}       # doctest: +SKIP
    >>> requests = change_under_load(asked, {"load": load_it, "unload": unload_it})
    ...                                                                     # doctest: +SKIP
    """
    if not asked or not steps:
        raise ValueError("There must be something to ask, and at least one step.")
    taken: list[tuple[str, float, float]] = []  # name, when it began, how long it took

    def take(_: dict[str, float]) -> None:
        with progress() as line:
            for step, do in steps.items():
                if taken:
                    time.sleep(pace.seconds(pause))
                line.show(f"under load: {step}")
                began = time.time()
                do()
                taken.append((step, began, time.time() - began))

    results = during(take, asked, pause=pause, timeout=timeout).requests
    table = pd.concat([result.assign(asked=name) for name, result in results.items()])
    table = table.sort_values("start", ignore_index=True)
    client = sum(sum(result.attrs["client"].values()) for result in results.values())
    table.attrs = {"arrivals": "constant", "client": {1: client}}
    return _with_steps(table, [(BEFORE, table["start"].min(), 0.0), *taken])


def _with_steps(requests: pd.DataFrame, taken: list[tuple[str, float, float]]) -> pd.DataFrame:
    """Say of each request which step it saw last."""
    names, began, took = (np.array(each) for each in zip(*taken, strict=True))
    answered = requests["start"] + requests["latency"] / 1000
    last = (np.searchsorted(began, answered, side="right") - 1).clip(min=0)
    return requests.assign(step=names[last], began=began[last], took=took[last])
