"""Pictures of a load, as a notebook shows them."""

from collections.abc import Iterator
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from helpers.display import timeline, timelines

matplotlib.use("agg")


def requests(*rows: tuple[float, float, str]) -> pd.DataFrame:
    """Some requests: start (s), latency (ms), error."""
    return pd.DataFrame(rows, columns=["start", "latency", "error"])


@pytest.fixture
def some() -> pd.DataFrame:
    return requests((100, 40, ""), (101, 0, "connection refused"), (102, 60, ""))


@pytest.fixture(autouse=True)
def no_picture_is_left() -> Iterator[None]:
    yield
    plt.close("all")


def legend(of: Axes | Figure) -> list[str]:
    found = of.legends[0] if isinstance(of, Figure) else of.get_legend()
    assert found
    return [text.get_text() for text in found.get_texts()]


def times(line: Line2D) -> list[float]:
    return np.asarray(line.get_xdata(), float).tolist()


def vertical(ax: Axes) -> list[float]:
    """Where the marks of a panel are."""
    return [times(line)[0] for line in ax.lines if line.get_linestyle() == "--"]


def test_timeline_shows_failures_and_marks(some: pd.DataFrame) -> None:
    ax: Axes = Figure().subplots()
    assert timeline(some, {"killed": 101.5, "back": [101.7, 101.9]}, ax=ax) is None  # type: ignore[func-returns-value]
    assert legend(ax) == ["answered: 2", "failed: 1", "killed", "back"]
    answered, failed = ax.lines[:2]
    assert [answered.get_marker(), failed.get_marker()] == [".", "x"]
    assert times(answered) == [0, 2]
    assert np.asarray(failed.get_ydata()).tolist() == [0.1]  # a logarithmic axis has no 0
    assert vertical(ax) == pytest.approx([1.5, 1.7, 1.9])
    assert ax.get_legend_handles_labels()[1] == ["answered", "failed", "killed", "back"]


def test_timeline_makes_its_own_picture_and_may_start_at_any_moment(some: pd.DataFrame) -> None:
    timeline(some, {"killed": 101.5}, since=101.5)
    assert vertical(plt.gca()) == [0]
    assert times(plt.gca().lines[0]) == [-1.5, 0.5]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (40, 60, ["30", "100"]),
        (30, 30, ["10", "30", "100"]),
        (0.5, 7, ["0.3", "1", "3", "10"]),
        (0.2, 20_000, ["0.1", "1", "10", "100", "1000", "10000"]),
    ],
)
def test_ticks_of_the_latency_enclose_it(low: float, high: float, ticks: list[str]) -> None:
    timeline(requests((1, low, ""), (2, high, "")), {"killed": 1.5})
    ax = plt.gca()
    assert [label.get_text() for label in ax.get_yticklabels()] == ticks
    bottom, top = ax.get_ylim()
    assert bottom < low and high < top
    assert not list(ax.get_yticks(minor=True))
    assert ax.get_ylabel() == "latency (ms)"


def test_axes_that_are_shared_have_room_for_all(some: pd.DataFrame) -> None:
    axes = Figure().subplots(2, sharey=True)
    timeline(requests((1, 5000, "")), ax=axes[0])
    timeline(some, ax=axes[1])
    assert axes[0].get_ylim()[0] < 0.1 and axes[0].get_ylim()[1] > 5000


def test_timelines_start_each_with_its_first_request(some: pd.DataFrame) -> None:
    later = some.assign(start=some["start"] + 1000, error="")
    marks = {"first": {"killed": 101}, "second": {"back": 1101.5, "killed": 1100.5}}
    assert timelines({"first": some, "second": later}, marks) is None  # type: ignore[func-returns-value]
    figure = plt.gcf()
    first, second = figure.axes
    assert [ax.get_title("left") for ax in figure.axes] == ["first", "second"]
    assert [ax.get_title("right") for ax in figure.axes] == ["2 answered, 1 failed", "3 answered"]
    assert times(first.lines[0]) == [0, 2]
    assert times(second.lines[0]) == [0, 1, 2]
    assert vertical(first) == [1] and vertical(second) == [1.5, 0.5]
    killed = {
        line.get_color() for ax in figure.axes for line in ax.lines if line.get_label() == "killed"
    }
    assert len(killed) == 1
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    assert (first.get_xlabel(), second.get_xlabel()) == ("", "time (s)")


def test_timelines_have_one_legend_that_covers_nothing(some: pd.DataFrame) -> None:
    timelines({"first": some.assign(error=""), "second": some}, {"killed": 101})
    figure = plt.gcf()
    assert legend(figure) == ["answered", "failed", "killed"]
    assert not any(ax.get_legend() for ax in figure.axes)
    figure.canvas.draw()
    frame = figure.legends[0].get_window_extent()
    assert not any(frame.overlaps(ax.get_window_extent()) for ax in figure.axes)


def test_timelines_may_share_a_clock_or_have_one_each(some: pd.DataFrame) -> None:
    later = some.assign(start=some["start"] + 5)
    clocks: list[tuple[Any, list[float]]] = [(100, [0, 5]), ({"second": 104}, [0, 1])]
    for since, starts in clocks:
        timelines({"first": some, "second": later}, {"killed": 101}, since=since)
        assert [times(ax.lines[0])[0] for ax in plt.gcf().axes] == starts


def test_panels_that_there_are_not_are_refused(some: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no panel 'secnd': they are first, second"):
        timelines({"first": some, "second": some}, {"secnd": {"killed": 1}})
    with pytest.raises(ValueError, match="no panel 'secnd'"):
        timelines({"first": some, "second": some}, since={"secnd": 1})


def test_a_load_without_requests_is_refused() -> None:
    with pytest.raises(ValueError, match="no request was made"):
        timeline(requests())
