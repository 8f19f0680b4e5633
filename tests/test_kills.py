"""Numbers and pictures of kills whose table is known."""

import math
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from fake_load import rows
from matplotlib.figure import Figure

from helpers import kills as kills_module
from helpers.kills import Kills, draw_kills, effects


def drawn(monkeypatch: pytest.MonkeyPatch, kills: Kills, number: int | None = None) -> Any:
    calls: list[Any] = []

    def timelines(panels: Any, marks: Any, since: Any) -> None:
        shown = panels["it"]["start"]
        calls.append((shown.min(), shown.max(), marks["it"], since["it"]))
        Figure().subplots()

    monkeypatch.setattr(kills_module, "timelines", timelines)
    monkeypatch.setattr(kills_module, "plt", SimpleNamespace(gcf=lambda: Figure(), close=None))
    with pytest.raises(ValueError, match="zip"):  # no axes to write above
        draw_kills({"it": kills}, number)
    return calls[0]


@pytest.fixture
def kills() -> Kills:
    requests = rows(1000)
    requests["start"] = requests.index / 10  # 0 to 99.9 s
    killed, back = [10.0, 20.0, 22.0, 50.0], [13.0, 20.5, 28.0, math.nan]
    table = pd.DataFrame({"killed": killed, "back": back}, pd.RangeIndex(1, 5))
    table["all are back after (s)"] = table["back"] - table["killed"]
    return Kills(requests, table.assign(requests=30, failed=[1, 2, 3, 4]))


def test_a_kill_is_drawn_with_its_surroundings(
    monkeypatch: pytest.MonkeyPatch, kills: Kills
) -> None:
    assert drawn(monkeypatch, kills, 1) == (9, 14.9, {"killed": 10, "all are back": 13}, 10)
    # neither the next kill nor the recovery before is in the picture
    assert drawn(monkeypatch, kills, 2) == (19, 21.9, {"killed": 20, "all are back": 20.5}, 20)
    assert drawn(monkeypatch, kills, 3) == (21, 29.9, {"killed": 22, "all are back": 28}, 22)
    assert drawn(monkeypatch, kills, 4) == (49, 57.9, {"killed": 50}, 50)  # never back
    with pytest.raises(ValueError, match="kills 1 to 4 of it, none of 5"):
        draw_kills({"it": kills}, 5)


def test_a_request_that_the_next_kill_has_met_belongs_to_that_one(
    monkeypatch: pytest.MonkeyPatch, kills: Kills
) -> None:
    kills.requests.loc[219, "latency"] = 500  # ms, from 21.9 s on; the third kill is at 22 s
    assert drawn(monkeypatch, kills, 2)[1] == 21.8


def test_the_median_kill_is_drawn_and_never_is_the_longest(
    monkeypatch: pytest.MonkeyPatch, kills: Kills
) -> None:
    assert kills.median() == 3  # 0.5, 3, 6, never: the longer of the two
    assert drawn(monkeypatch, kills)[3] == 22
    assert Kills(kills.requests, kills.table.drop(4)).median() == 1  # 0.5, 3, 6


def test_the_effects_of_many_kills_are_one_row(kills: Kills) -> None:
    kills.table["longest wait (s)"] = [0.1, 0.2, 3.0, 0.4]
    table = effects({"one": kills, "other": kills})
    assert list(table.index) == ["one", "other"]
    assert list(table.loc["one"]) == [4, 120, 10, 4, 3.0, 3.0, 6.0, 1]


def test_a_picture_says_what_the_table_says(kills: Kills) -> None:
    draw_kills({"one": kills, "other": kills}, 2)
    figure = plt.gcf()
    notes = [ax.get_title(loc="right") for ax in figure.axes]
    assert notes == ["30 requests met the kill, 2 failed"] * 2
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["one", "other"]
    plt.close(figure)
