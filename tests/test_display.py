"""Tables and progress, as a notebook shows them."""

import math
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from kernel import in_a_kernel

from helpers import display
from helpers.display import progress, show, use_tables


def column(*values: object, name: str = "x") -> list[str]:
    """The texts of one column as they are shown."""
    table = show(pd.DataFrame({name: values}))
    return [line.strip() for line in repr(table).splitlines()[1:]]


def test_html_is_small_and_plain() -> None:
    html = show(pd.DataFrame([["one", 1, 2.5]] * 3, columns=["name", "n", "ms"]))._repr_html_()
    assert len(html) < 600
    for word in ["<style", "id=", "class=", "color", "border"]:
        assert word not in html
    assert html.splitlines()[3] == (
        '<tr><td style="text-align:left">one</td><td>1</td><td>2.5</td></tr>'
    )


def test_html_of_text_alone_is_small_too() -> None:
    frame = pd.DataFrame([["one", "two", "three"]] * 3, columns=["a", "b", "c"])
    assert len(show(frame)._repr_html_()) < 600


def test_text_is_escaped_and_keeps_the_indentation_of_a_process_tree() -> None:
    html = show(pd.DataFrame({"<a>": ["\u2003\u2003python & <b>"]}))._repr_html_()
    assert ">&lt;a&gt;</th>" in html
    assert ">\u2003\u2003python &amp; &lt;b&gt;</td>" in html


def test_text_is_to_the_left_and_numbers_are_to_the_right() -> None:
    frame = pd.DataFrame({"server": ["MLServer", "Ray"], "p95": [5.2313, 48.07]})
    assert repr(show(frame)).splitlines() == [
        "server     p95",
        "MLServer   5.2",
        "Ray       48.1",
    ]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1, 20], ["1", "20"]),
        ([1.0, 20.0], ["1", "20"]),
        ([1.0, math.nan], ["1", "–"]),
        ([2.0, 3.5], ["2.0", "3.5"]),
        ([0.43, 5.2, 48.07, 1408.3], ["0.43", "5.2", "48.1", "1408"]),
        ([0.5, 0.043, 0.0], ["0.50", "0.043", "0.0"]),
        ([9.94, 9.96, 999.96], ["9.9", "10.0", "1000"]),
        ([-0.43, -48.07], ["-0.43", "-48.1"]),
        ([1234567.0, 0.5], ["1234567", "0.50"]),
        ([math.inf, 0.5], ["inf", "0.50"]),
        ([True, False], ["True", "False"]),
        ([None, "0 failed"], ["–", "0 failed"]),
        ([1, 2.53, "text", None], ["1.0", "2.5", "text", "–"]),
        ([pd.NaT, pd.NA], ["–", "–"]),
        ([[1, 2], []], ["[1, 2]", "[]"]),
    ],
)
def test_values_are_as_exact_as_they_deserve(values: list[object], shown: list[str]) -> None:
    assert column(*values) == shown


def test_numbers_of_numpy_and_nullable_integers_are_numbers() -> None:
    frame = pd.DataFrame(
        {"a": np.array([0.5, 12.25], "float32"), "b": pd.array([1, None], "Int64")}
    )
    assert repr(show(frame)).splitlines() == ["   a  b", "0.50  1", "12.2  –"]


def test_the_share_of_the_client_has_two_decimals() -> None:
    assert column(0.0, 1.234, name="client") == ["0.00", "1.23"]
    assert column(0, 1, name="client") == ["0.00", "1.00"]


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(ValueError, match="not a dict"):
        show({"a": [1]})


def test_an_index_is_shown_if_it_says_something() -> None:
    frame = pd.DataFrame({"p50": [1.5, 2.5]})
    without = repr(show(frame))
    assert without == "p50\n1.5\n2.5"
    assert repr(show(frame.set_index(pd.Index([7, 3])))) == without  # as after sort_values
    assert repr(show(frame.rename_axis("run"))) == "run  p50\n  0  1.5\n  1  2.5"
    assert repr(show(frame.set_index(pd.Index(["a", "b"])))) == "   p50\na  1.5\nb  2.5"


def test_a_multi_index_becomes_columns_and_its_titles_one_line() -> None:
    frame = pd.concat({"MLServer": pd.DataFrame({"p50": [1, 2]})}, names=["server", None])
    assert repr(show(frame)) == "server    p50\nMLServer    1\nMLServer    2"
    frame["users"] = [1, 8]
    table = frame.groupby(["server", "users"]).agg({"p50": ["min", "max"]})
    table["answers"] = 3
    assert repr(show(table)).splitlines() == [
        "server    users  p50 min  p50 max  answers",
        "MLServer      1        1        1        3",
        "MLServer      8        2        2        3",
    ]


def test_a_series_is_a_table_of_one_column() -> None:
    assert repr(show(pd.Series({"Ray": 2.5}, name="p50"))) == "     p50\nRay  2.5"
    assert repr(show(pd.Series({"Ray": 2.5}))) == "\nRay  2.5"


def test_columns_of_the_same_name_and_of_numbers_are_shown() -> None:
    assert repr(show(pd.DataFrame([[1, 2, 3]], columns=["a", "a", 0]))) == "a  a  0\n1  2  3"


def test_a_table_without_rows_has_its_titles() -> None:
    table = show(pd.DataFrame({"server": [], "p50": []}))
    assert repr(table) == "server  p50"
    assert table._repr_html_().endswith("</thead><tbody>\n</tbody></table>")
    assert repr(show(pd.DataFrame())) == ""


@pytest.fixture
def formatter(monkeypatch: pytest.MonkeyPatch) -> DisplayFormatter:
    """What turns a value into outputs, of an IPython that nobody else uses."""
    formatter = DisplayFormatter()
    shell = SimpleNamespace(display_formatter=formatter)
    monkeypatch.setattr(display, "get_ipython", lambda: shell)
    return formatter


def test_plain_frames_look_the_same_in_ipython(formatter: DisplayFormatter) -> None:
    frame = pd.DataFrame({"server": ["Ray"], "p50": [5.2313]})
    series = formatter.format(frame["p50"])
    use_tables()
    data, _ = formatter.format(frame)
    assert data == {"text/plain": repr(show(frame)), "text/html": show(frame)._repr_html_()}
    assert formatter.format(show(frame))[0] == data
    assert formatter.format(frame["p50"]) == series


def test_long_frames_are_cut_as_pandas_cuts_them(formatter: DisplayFormatter) -> None:
    use_tables()
    data, _ = formatter.format(pd.DataFrame({"n": range(61)}))
    shown = ["n", "0", "1", "2", "3", "4", "…", "56", "57", "58", "59", "60"]
    assert data["text/plain"].split() == shown
    assert data["text/html"].count("<td>") == 11
    data, _ = formatter.format(pd.DataFrame({"n": range(60)}))
    assert data["text/html"].count("<td>") == 60


def test_without_ipython_frames_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "get_ipython", lambda: None)
    use_tables()


class Cell:
    """What a notebook's cell gets to show: displays that may be updated."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.shell = SimpleNamespace(kernel="a kernel", execution_count=1)
        self.history: list[list[str]] = []

    def display(self, data: dict[str, str], **_: Any) -> SimpleNamespace:
        self.texts.append("")
        number = len(self.texts) - 1

        def update(data: dict[str, str], **_: Any) -> None:
            self.texts[number] = data["text/plain"]
            self.history.append(list(self.texts))

        update(data)
        return SimpleNamespace(update=update)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    cell = Cell()
    monkeypatch.setattr(display, "PATIENCE", 0)
    monkeypatch.setattr(display, "get_ipython", lambda: cell.shell)
    monkeypatch.setattr(display, "display", cell.display)
    monkeypatch.delenv("TUTORIAL_PROGRESS", raising=False)
    monkeypatch.setattr(display, "_board", type(display._board)())
    return cell


def test_a_line_replaces_the_one_before_and_is_gone_in_the_end(cell: Cell) -> None:
    for wait in ("a", "b"):  # one output for both
        with progress() as line:
            line.show(f"{wait}: 1 s")
            line.show(f"{wait}: 1 s")
            line.show(f"{wait}: 2 s")
    assert cell.history == [["a: 1 s"], ["a: 2 s"], [""], ["b: 1 s"], ["b: 2 s"], [""]]


def test_a_line_is_gone_when_the_wait_fails(cell: Cell) -> None:
    with pytest.raises(KeyboardInterrupt), progress() as line:
        line.show("1 s")
        raise KeyboardInterrupt
    assert cell.history == [["1 s"], [""]]


def test_waits_at_once_share_a_line(cell: Cell) -> None:
    with progress() as outer:
        outer.show("pair 1 of 5")
        with progress() as inner:
            inner.show("load: 1 of 3 s")
    assert cell.history == [
        ["pair 1 of 5"],
        ["pair 1 of 5 · load: 1 of 3 s"],
        ["pair 1 of 5"],
        [""],
    ]


def test_a_short_wait_shows_nothing(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "PATIENCE", 0.2)
    with progress() as line:
        line.show("1 s")
    assert cell.history == []
    with progress() as outer:
        outer.show("pair 1 of 5")
        time.sleep(0.25)
        with progress() as inner:  # this one is short, but not the first
            inner.show("load")
    assert cell.history[0] == ["pair 1 of 5 · load"]
    assert cell.texts == [""]


def test_a_thread_that_outlives_its_cell_goes_on_in_the_next(cell: Cell) -> None:
    with progress() as line:
        line.show("1 s")
        cell.shell.execution_count = 2
        line.show("2 s")
        assert cell.texts == ["", "2 s"]
    assert cell.texts == ["", ""]


def test_many_threads_leave_nothing(cell: Cell) -> None:
    def wait(name: str) -> None:
        with progress() as line:
            for number in range(50):
                line.show(f"{name}{number}")

    threads = [threading.Thread(target=wait, args=[name]) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cell.texts == [""]
    assert len(cell.history) > 8


def test_whoever_stores_outputs_turns_it_off(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_PROGRESS", "off")
    with progress() as line:
        line.show("1 s")
    assert cell.history == []


def test_a_terminal_has_a_line_that_is_erased(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "get_ipython", lambda: None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with progress() as line:
        line.show("a file is no terminal")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    with progress() as line:
        line.show("longer than the terminal")
    assert capsys.readouterr().err == "\r\033[Klonger than the ter\r\033[K"


WAITING = """
import threading, time
from helpers.display import progress

def wait(name):
    with progress() as line:
        begin = time.monotonic()
        while time.monotonic() < begin + 2:
            line.show(f"{name}: {time.monotonic() - begin:.1f} s")
            time.sleep(0.05)

threads = [threading.Thread(target=wait, args=[name]) for name in ("one", "two")]
print("before")
for thread in threads:
    thread.start()
time.sleep(1.8)
print("while")
for thread in threads:
    thread.join()
print("after")
"""


def test_what_a_cell_prints_survives_in_a_real_kernel(tmp_path: Path) -> None:
    switch = "import os; os.environ['TUTORIAL_PROGRESS'] = "
    cells = [f"{switch}'on'\n{WAITING}", f"{switch}'off'\n{WAITING}"]
    (on, lines), (off, silence) = in_a_kernel(tmp_path, *cells)
    assert any("one: " in line and " · " in line and "two: " in line for line in lines)
    printed, line = on
    assert printed.text == "before\nwhile\nafter\n" and line.data == {"text/plain": ""}
    assert [output.text for output in off] == [printed.text] and not silence


def test_plain_frames_look_the_same_in_a_real_kernel(tmp_path: Path) -> None:
    source = "import pandas as pd; from helpers.display import use_tables; use_tables()\n"
    [([output], _)] = in_a_kernel(tmp_path, source + "pd.DataFrame({'p50': [5.2313]})")
    table = show(pd.DataFrame({"p50": [5.2313]}))
    assert output.data == {"text/plain": repr(table), "text/html": table._repr_html_()}
