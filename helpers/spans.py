"""Spans of OpenTelemetry: collected as a real collector would, read, and drawn."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from helpers.interpreter import server_python
from helpers.server import Server, read_log

COLUMNS = ["service", "trace", "span", "parent", "name", "start", "end"]
FILE = "spans.jsonl"
TIMEOUT = 15.0  # seconds: exporters send in batches, every few seconds by default
_PROGRAM = Path(__file__).parent / "programs" / "collector.py"


def collector() -> Server:
    """Start a collector in the background; it writes ``spans.jsonl`` in the current folder.

    Returns
    -------
    Server
        Started: ``url`` is what an exporter takes as its OTLP endpoint (gRPC, without TLS).

    Examples
    --------
    >>> spans_to = collector()                                              # doctest: +SKIP
    >>> mlserver_start(env={"MLSERVER_TRACING_SERVER": spans_to.url.removeprefix("http://")})
    """
    return Server(
        "collector",
        "python collector.py",
        [server_python(), str(_PROGRAM), "{http}", FILE],
        lambda server: "collecting" in read_log(server.log),
        cwd=Path.cwd(),
        log="collector.log",
    ).start()


def spans(enough: Callable[[pd.DataFrame], bool] | None = None) -> pd.DataFrame:
    """Read what the collector has.

    Parameters
    ----------
    enough : callable, optional
        Takes the table and tells whether all is there; if not, wait for more.

    Returns
    -------
    pandas.DataFrame
        One row per span: ``service`` (what its sender calls itself), ``trace``, ``span`` and
        ``parent`` (their ids; no parent is ``""``), ``name``, ``start`` and ``end`` (ns, as
        `time.time_ns` gives them). Without the parts of HTTP messages that FastAPI's
        instrumentation reports.

    Raises
    ------
    TimeoutError
        If it does not come.
    """
    latest = time.monotonic() + TIMEOUT
    while True:
        text = Path(FILE).read_text()
        whole = text[: text.rfind("\n") + 1]  # the last line may be half written
        table = pd.DataFrame(map(json.loads, whole.splitlines()), columns=COLUMNS)
        table = table[~table["name"].str.contains("http (?:send|receive)$")]
        if enough is None or enough(table):
            return table.reset_index(drop=True)
        if time.monotonic() > latest:
            raise TimeoutError(f"Not all spans came within {TIMEOUT:g} s: there are {len(table)}.")
        time.sleep(0.1)


def tree(trace: pd.DataFrame) -> pd.DataFrame:
    """Order the spans of one trace: each below the one that it is a part of.

    Parameters
    ----------
    trace : pandas.DataFrame
        Rows of `spans` of one trace.

    Returns
    -------
    pandas.DataFrame
        The same rows and the column ``depth``: 0 for those whose parent is not among them.
    """
    rows: list[int] = []
    depths: list[int] = []

    def add(chosen: pd.DataFrame, depth: int) -> None:
        for row in chosen.sort_values("start").itertuples():
            rows.append(row.Index)
            depths.append(depth)
            add(trace[trace["parent"] == row.span], depth + 1)

    add(trace[~trace["parent"].isin(trace["span"])], 0)
    return trace.loc[rows].assign(depth=depths)


def draw_traces(panels: Mapping[str, pd.DataFrame]) -> None:
    """Draw one trace per panel: a bar per span, indented below the one that it is a part of.

    Parameters
    ----------
    panels : dict of str to pandas.DataFrame
        Rows of `spans` of one trace, by title.

    Raises
    ------
    ValueError
        If a panel has no span.
    """
    sizes = [len(trace) for trace in panels.values()]
    if 0 in sizes:
        raise ValueError("There is nothing to draw: a trace without a span.")
    figure, axes = plt.subplots(len(panels), sharex=True, squeeze=False, height_ratios=sizes)
    trees = {title: tree(trace) for title, trace in panels.items()}
    names = {
        title: ["  " * row.depth + row.name for row in trace.itertuples(index=False)]
        for title, trace in trees.items()
    }
    width = max(len(name) for each in names.values() for name in each)
    height = 0.6 + 0.5 * len(panels) + 0.25 * sum(sizes)
    figure.set(figwidth=9, figheight=height, layout_engine="constrained")
    for ax, (title, ordered) in zip(axes[:, 0], trees.items(), strict=True):
        begin = (ordered["start"] - ordered["start"].min()) / 1e6
        took = (ordered["end"] - ordered["start"]) / 1e6
        places = range(len(ordered))
        ax.barh(places, took, left=begin, color=[f"C{depth}" for depth in ordered["depth"]])
        labels = [name.ljust(width) for name in names[title]]
        ax.set_yticks(places, labels, family="monospace")
        ax.set_ylim(len(ordered) - 0.4, -0.6)
        ax.set_title(title, loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("milliseconds since the first span began")
