"""What the notebooks show: tables, progress, and pictures of a load."""

import html
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import DisplayHandle, display
from matplotlib.axes import Axes

PATIENCE = 1.5  # seconds of a wait that nobody needs to be told of

Marks = Mapping[str, float | Iterable[float]]


class Table:
    """A frame that a notebook shows as small, plain HTML, a terminal as text; `show` makes one."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        index = [frame.index.get_level_values(level) for level in range(frame.index.nlevels)]
        index = [i for i in index if i.name is not None or not pd.api.types.is_integer_dtype(i)]
        columns = [frame.iloc[:, position] for position in range(len(frame.columns))]
        self._columns = [_column(each.name, each) for each in [*index, *columns]]

    def _repr_html_(self) -> str:
        # No style block and no ids, which are a change in each diff. Numbers are to the right by
        # Jupyter's own rule for cells, and elsewhere by that of the table.
        styles = ["" if right else ' style="text-align:left"' for _, right in self._columns]
        rows: list[str] = []
        for texts in zip(*(texts for texts, _ in self._columns), strict=True):
            tag = "td" if rows else "th"
            cells = (
                f"<{tag}{style}>{html.escape(text, quote=False)}</{tag}>"
                for style, text in zip(styles, texts, strict=True)
            )
            rows.append(f"<tr>{''.join(cells)}</tr>")
        begin, middle = '<table style="text-align:right"><thead>', "</thead><tbody>"
        return "\n".join([begin, *rows[:1], middle, *rows[1:], "</tbody></table>"])

    def __repr__(self) -> str:
        aligned = []
        for texts, right in self._columns:
            width, pad = max(map(len, texts)), str.rjust if right else str.ljust
            aligned.append([pad(text, width) for text in texts])
        return "\n".join("  ".join(row).rstrip() for row in zip(*aligned, strict=True))


def show(table: pd.DataFrame | pd.Series) -> Table:
    """Show a table: text to the left, numbers to the right and as exact as they deserve.

    Whole numbers have no decimals, others from 10 on one (from 1000 on none), smaller ones two
    digits that count; the share of a core in a column ``client`` has two decimals. What is missing
    is a dash. An index of integers without a name is left out: it says nothing.

    Parameters
    ----------
    table : pandas.DataFrame or pandas.Series
        Such as `Server.processes` or `summary` return.

    Returns
    -------
    Table
        To end a cell with.

    Raises
    ------
    ValueError
        If it is no table.

    Examples
    --------
    >>> show(pd.DataFrame({"server": ["MLServer"], "p50": [5.2313], "p95": [48.07]}))
    server    p50   p95
    MLServer  5.2  48.1
    """
    if isinstance(table, pd.Series):
        table = table.to_frame("" if table.name is None else table.name)
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"show takes a DataFrame or a Series, not a {type(table).__name__}.")
    return Table(table)


def use_tables() -> None:
    """Let a DataFrame that ends a cell look as `show` has it; nothing where IPython is missing.

    Of more rows than pandas shows (``display.max_rows``), it shows the first and the last five.
    """
    if not (shell := get_ipython()):
        return

    def table(frame: pd.DataFrame) -> Table:
        if len(frame) <= (pd.get_option("display.max_rows") or math.inf):
            return Table(frame)
        ends = Table(pd.concat([frame.head(5), frame.tail(5)]))
        for texts, _ in ends._columns:
            texts.insert(6, "…")
        return ends

    formatters = shell.display_formatter.formatters
    formatters["text/html"].for_type(pd.DataFrame, lambda frame: table(frame)._repr_html_())
    formatters["text/plain"].for_type(
        pd.DataFrame, lambda frame, printer, _: printer.text(repr(table(frame)))
    )


def _column(name: object, values: Iterable[Any]) -> tuple[list[str], bool]:
    """Return title and values as text, and whether they are numbers."""
    title = " ".join(map(str, name)).strip() if isinstance(name, tuple) else str(name)
    title = "" if name is None else title
    cells: list[Any] = [None if pd.api.types.is_scalar(v) and pd.isna(v) else v for v in values]
    found = [v for v in cells if _is_number(v)]
    places = None
    if title == "client":
        places = 2
    elif all(v == round(v) for v in found if math.isfinite(v)):
        places = 0
    return [title, *(_text(v, places) for v in cells)], len(found) + cells.count(None) == len(cells)


def _text(value: Any, places: int | None) -> str:
    if not _is_number(value):
        return "–" if value is None else str(value)
    if places is not None:
        return f"{value:.{places}f}"
    if abs(value) < 9.95:
        return f"{value:#.2g}"  # 0.43, 5.2
    return f"{value:.1f}" if abs(value) < 999.95 else f"{value:.0f}"  # 48.1, 1408


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


class Progress:
    """One line that says how far a wait is. Use `progress` to make one."""

    def __init__(self) -> None:
        self.text, self.begin = "", time.monotonic()

    def show(self, text: str) -> None:
        """Show a line in place of the one before."""
        self.text = text
        _board.refresh()


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress during a wait, in any thread, and nothing after it.

    A short wait shows nothing (`PATIENCE`); several at once share a line. For those who store or
    compare outputs, ``TUTORIAL_PROGRESS=off`` makes all waits silent.

    Yields
    ------
    Progress
        Its ``show(text)`` is to be called again and again.

    Examples
    --------
    >>> with progress() as line:                                            # doctest: +SKIP
    ...     line.show("MLServer is starting: 3 s")
    """
    line = Progress()
    _board.lines.append(line)
    try:
        yield line
    finally:
        _board.lines.remove(line)
        _board.refresh()


class _Board:
    """The lines of all waits, in one output of the cell that runs, which is updated in place.

    `clear_output` would erase what the cell has printed; a carriage return works only while nobody
    else prints; widgets are not installed everywhere. What an update cannot do is to take the
    output away: an empty one stays, which nobody sees, but a stored notebook would have it. So
    there is one for each cell at most, none for a short wait, and none with TUTORIAL_PROGRESS=off.
    """

    def __init__(self) -> None:
        self.lines: list[Progress] = []  # append and remove need no lock
        self._lock = threading.Lock()
        self._shown, self._cell = "", 0
        self._output: DisplayHandle | None = None

    def refresh(self) -> None:
        if os.environ.get("TUTORIAL_PROGRESS") == "off":
            return
        with self._lock:
            lines = list(self.lines)
            text = " · ".join(line.text for line in lines if line.text)
            early = not self._shown and lines and time.monotonic() - lines[0].begin < PATIENCE
            if text != self._shown and not early:
                self._draw(text)
                self._shown = text

    def _draw(self, text: str) -> None:
        shell = get_ipython()
        if hasattr(shell, "kernel"):  # a notebook's shell has one, Colab's too
            if self._cell != shell.execution_count:
                if self._shown:  # by a thread that went on when its cell had ended
                    self._update("")
                self._cell, self._output = shell.execution_count, None
            self._update(text)
        elif sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1  # a second line would not be erased
            print("\r\033[K" + text[:width], end="", file=sys.stderr, flush=True)

    def _update(self, text: str) -> None:
        if self._output:
            self._output.update({"text/plain": text}, raw=True)
        elif text:
            self._output = display({"text/plain": text}, raw=True, display_id=True)


_board = _Board()


def timeline(
    requests: pd.DataFrame,
    marks: Marks | None = None,
    ax: Axes | None = None,
    *,
    since: float | None = None,
) -> None:
    """Draw each request at the time of its start, as high as it took long; failures in red.

    Parameters
    ----------
    requests : pandas.DataFrame
        What `Load.result` returns. One that got no answer is as high as it took to fail.
    marks : dict of str to float, or to several float, optional
        What happened when (seconds, as `time.time` gives them): a dashed line each time.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new picture if not given.
    since : float, optional
        When the clock starts, as `time.time` gives it; with the first request if not given.

    Raises
    ------
    ValueError
        If there is no request.
    """
    ax = ax or plt.subplots(figsize=(9, 3), layout="constrained")[1]
    counts = _panel(ax, requests, marks or {}, list(marks or {}), since)
    handles, names = ax.get_legend_handles_labels()
    labels = [f"{name}: {counts[name]}" if name in counts else name for name in names]
    ax.legend(handles, labels, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def timelines(
    panels: Mapping[str, pd.DataFrame],
    marks: Mapping[str, Any] | None = None,
    *,
    since: float | Mapping[str, float] | None = None,
) -> None:
    """Draw several loads below each other, as `timeline` does, with the same axes.

    Parameters
    ----------
    panels : dict of str to pandas.DataFrame
        What `Load.result` returned, by title.
    marks : dict, optional
        As in `timeline` for all panels, or by title: ``{"MLServer": {"killed": 1e9}, ...}``.
    since : float, or dict of str to float, optional
        When the clock starts, of all or by title; each panel's with its first request if not given.

    Raises
    ------
    ValueError
        If a panel has no request, or something is for a panel that there is not.
    """
    own = {title: each for title, each in (marks or {}).items() if isinstance(each, Mapping)}
    common = {name: when for name, when in (marks or {}).items() if name not in own}
    begins = since if isinstance(since, Mapping) else dict.fromkeys(panels, since)
    for title in [*own, *begins]:
        if title not in panels:
            raise ValueError(f"There is no panel {title!r}: they are {', '.join(panels)}.")
    names = list(dict.fromkeys(name for each in [common, *own.values()] for name in each))
    figure, axes = plt.subplots(len(panels), sharex=True, sharey=True, squeeze=False)
    figure.set(figwidth=9, figheight=0.8 + 1.7 * len(panels), layout_engine="constrained")
    legend: dict[str, Any] = {}
    for ax, (title, requests) in zip(axes[:, 0], panels.items(), strict=True):
        own_marks = {**common, **own.get(title, {})}
        counts = _panel(ax, requests, own_marks, names, begins.get(title))
        text = ", ".join(f"{count} {name}" for name, count in counts.items())
        ax.set_title(title, loc="left")
        ax.set_title(text, loc="right", fontsize="medium", color="0.4")
        ax.label_outer()
        legend |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    order = sorted(legend, key=["answered", "failed", *names].index)
    figure.legend([legend[name] for name in order], order, loc="outside right upper", frameon=False)


def _panel(
    ax: Axes, requests: pd.DataFrame, marks: Marks, names: list[str], since: float | None
) -> dict[str, int]:
    """Draw all but titles and legend; return how many requests there are, by outcome."""
    if requests.empty:
        raise ValueError("There is nothing to draw: no request was made.")
    since = requests["start"].min() if since is None else since
    failed, counts = requests["error"] != "", {}
    for name, chosen, marker, size, colour in [
        ("answered", ~failed, ".", 4, "tab:blue"),
        ("failed", failed, "x", 7, "tab:red"),
    ]:
        if chosen.any():
            counts[name] = int(chosen.sum())
            height = requests.loc[chosen, "latency"].clip(lower=0.1)  # a log axis has no 0
            start = requests.loc[chosen, "start"] - since
            ax.plot(start, height, marker, markersize=size, color=colour, label=name)
    for name, when in marks.items():
        colour = f"C{4 + names.index(name)}"  # the first four look like requests
        for moment in when if isinstance(when, Iterable) else [when]:
            ax.axvline(moment - since, color=colour, linestyle="--", label=name)
            name = "_"  # what begins like this is in no legend
    ax.set(xlabel="time (s)", ylabel="latency (ms)", yscale="log")
    ax.spines[["top", "right"]].set_visible(False)
    # Ticks at 1, 3, 10, ... around the data of all panels; matplotlib may find none within them.
    limits = [a.dataLim.intervaly for a in ax.get_shared_y_axes().get_siblings(ax) if a.lines]
    low, high = min(map(min, limits)), max(map(max, limits))
    steps = [digit * 10.0**power for power in range(-2, 9) for digit in (1, 3)]
    around = [step for step in steps if low / 3.4 <= step <= high * 3.4]
    ticks = [step for step in around if len(around) < 9 or step in steps[::2]]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_yticks([], minor=True)
    ax.set_ylim(around[0], around[-1])
    return counts
