"""What notebooks record is what they show, and what the last one and the README show."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers import results
from helpers.measure import Comparison, ratio_of_pairs
from helpers.results import compare_runs, findings, machine, read, record

NAMES = ("MLServer", "Ray Serve")


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like notebooks/work, in the middle of a run of 06_batching in full pace."""
    monkeypatch.setenv("TUTORIAL_PACE", "full")
    monkeypatch.setattr(results, "RUN", tmp_path)
    monkeypatch.setattr(results, "STORED", tmp_path / "stored")
    monkeypatch.setattr(results, "machine", lambda: "this one")
    (tmp_path / "06_batching").mkdir()
    (tmp_path / "stored").mkdir()
    monkeypatch.chdir(tmp_path / "06_batching")
    return tmp_path


def recorded() -> dict[str, Any]:
    return read(Path("findings.json"))


def store(file: Path, notebook: str) -> None:
    answer = {"mlserver": {"text": "yes"}, "ray_serve": {"text": "no"}, "ratio": None}
    rest = {"unit": "", "better": None, "how": "asked", "headline": False}
    finding = {"notebook": notebook, "question": "stored", **answer, **rest}
    file.write_text(json.dumps({"machine": "another", "pace": "full", "findings": [finding]}))


def pairs(first: list[float], second: list[float], names: tuple[str, str] = NAMES) -> Comparison:
    return ratio_of_pairs(first, second, names, measure="p50", better="lower")


def better(**answer: Any) -> str:
    """Record an answer, and tell which side is marked in the line and in the findings alike."""
    (line,) = repr(record("q", how="h", **answer)).splitlines()[1:]
    side = str(findings()["better"].item())
    marked = {"MLServer": line.startswith("q         ✓"), "Ray Serve": line.count("  ✓") == 1}
    assert line.count("✓") == bool(side)
    assert not side or marked[side]
    return side


def test_the_file_holds_numbers_the_machine_and_the_pace() -> None:
    record("size", mlserver=[3, 1, 2], ray_serve="none", unit="MB", how="ps", better="lower")
    assert recorded() == {
        "machine": "this one",
        "pace": "full",
        "findings": [
            {
                "notebook": "06_batching",
                "question": "size",
                "mlserver": {"value": 2.0, "low": 1.0, "high": 3.0, "n": 3},
                "ray_serve": {"text": "none"},
                "unit": "MB",
                "better": "lower",
                "ratio": None,
                "how": "ps",
                "headline": False,
            }
        ],
    }


def test_what_could_not_be_told_is_null_in_the_file_and_a_dash_when_shown() -> None:
    shown = repr(record("q", mlserver=math.nan, ray_serve=[1, math.nan, 2], how="h"))
    assert "NaN" not in Path("findings.json").read_text()
    (finding,) = recorded()["findings"]
    assert finding["mlserver"] == {"value": None, "low": None, "high": None, "n": 1}
    assert finding["ray_serve"] == {"value": None, "low": None, "high": None, "n": 3}
    assert shown.splitlines()[1].split() == ["q", "–", "–", "h"]


def test_the_machine_is_told_with_its_versions() -> None:
    assert re.search(r"\d cores of .+ GB, .+, Python 3.+, mlserver 1.+, ray 2", machine())


def test_recording_again_replaces() -> None:
    record("same", mlserver=1, ray_serve=1, how="first")
    record("other", mlserver=1, ray_serve=1, how="first")
    record("same", mlserver=2, ray_serve=2, how="second")
    assert list(findings()["how"]) == ["first", "second"]
    assert [path.name for path in Path.cwd().iterdir()] == ["findings.json"]


def test_a_ratio_is_kept_as_that_of_mlserver_by_ray_serve() -> None:
    mlserver, ray_serve = [2, 2.2, 2.1] * 2, [1.0] * 6
    forward = pairs(mlserver, ray_serve)
    backward = pairs(ray_serve, mlserver, ("Ray Serve, tuned", "MLServer, tuned"))
    for question, ratio in {"forward": forward, "backward": backward}.items():
        record(question, mlserver=2.1, ray_serve=1, how="h", ratio=ratio)
    first, second = (finding["ratio"] for finding in recorded()["findings"])
    assert list(findings()["compared"]) == [forward.sentence, backward.sentence]
    assert first["n"] == 6 and first["ratio"] == pytest.approx(2.1, rel=0.01)
    for key in ("ratio", "low", "high"):
        assert first[key] == pytest.approx(second[key])


def test_too_few_pairs_leave_no_nan_in_the_file() -> None:
    record("q", mlserver=2, ray_serve=1, how="h", ratio=pairs([2.0], [1.0]))
    ratio = recorded()["findings"][0]["ratio"]
    assert (ratio["low"], ratio["high"], ratio["n"]) == (None, None, 1)


@pytest.mark.parametrize(
    "mlserver, ray_serve, better_is, side",
    [
        ([1, 2, 2, 3], [4, 5, 5, 6], "lower", "MLServer"),
        ([1, 2, 2, 3], [4, 5, 5, 6], "higher", "Ray Serve"),
        ([7, 8, 8, 9], [4, 5, 5, 6], "lower", "Ray Serve"),
        ([7, 8, 8, 9], [4, 5, 5, 6], "higher", "MLServer"),
        ([1, 2, 2, 3], [4, 5, 5, 6], None, ""),  # nothing is better
        ([1, 2, 2, 4], [4, 5, 5, 6], "lower", ""),  # the ranges touch
        ([1, 2, 2, 9], [4, 5, 5, 6], "lower", ""),  # one holds the other
        ([1, 2, 3], [4, 5, 5, 6], "lower", ""),  # three are too few
        (1, 100, "lower", ""),
        ([1, 2, 2, 3], "none", "lower", ""),
        ([1, 2, 2, math.nan], [4, 5, 5, 6], "lower", ""),
    ],
)
def test_without_pairs_better_is_what_lies_apart(
    mlserver: results.Value, ray_serve: results.Value, better_is: str | None, side: str
) -> None:
    assert better(mlserver=mlserver, ray_serve=ray_serve, better=better_is) == side


def test_with_pairs_better_is_what_their_interval_says() -> None:
    slow, fast, both = [2.0, 2.2, 2.1] * 2, [1.0, 1.1, 1.0] * 2, [1.0, 2.3, 3.0] * 2
    values: dict[str, Any] = {"mlserver": 1, "ray_serve": 1, "better": "lower"}
    assert better(**values, ratio=pairs(slow, fast)) == "Ray Serve"
    assert better(**values, ratio=pairs(fast, slow)) == "MLServer"
    assert better(**values, ratio=pairs(fast, slow, NAMES[::-1])) == "Ray Serve"
    assert better(**values, ratio=pairs(slow, both)) == ""
    assert better(**values, ratio=pairs(slow[:2], fast[:2])) == ""
    assert better(mlserver=1, ray_serve=1, ratio=pairs(slow, fast)) == ""


def test_a_finding_is_shown_as_a_line_with_what_the_pairs_say() -> None:
    ratio = pairs([2.0, 2.2, 2.1] * 2, [1.0, 1.1, 1.0] * 2)
    answer = record(
        "a < b", mlserver=[2.0, 2.2, 2.1], ray_serve=1, how="h", better="lower", ratio=ratio
    )
    titles, line = repr(answer).splitlines()
    assert titles.split() == ["question", "MLServer", "Ray", "Serve", "compared", "how"]
    assert re.split("  +", line) == ["a < b", "2.1 (2 – 2.2)", "✓ 1", ratio.sentence, "h"]
    assert answer._repr_html_().count("<td") == 5 and "a &lt; b" in answer._repr_html_()


def test_a_table_is_recorded_row_by_row() -> None:
    table = pd.DataFrame(
        {
            "question": ["idle", "busy", "gone"],
            "mlserver": [np.float64(1.5), [3, 1, 2], None],
            "ray_serve": [7, "none", 9],
            "headline": [True, False, None],
        }
    )
    shown = record(table, unit="MB", how="ps", better="lower")
    assert len(repr(shown).splitlines()) == 4
    assert list(findings()["question"]) == ["idle", "busy", "gone"]
    assert list(findings()["MLServer"]) == ["1.5", "2 (1 – 3)", "–"]
    assert list(findings()["headline"]) == [True, False, False]
    assert set(findings()["unit"]) == {"MB"}
    assert {finding["better"] for finding in recorded()["findings"]} == {"lower"}


def test_a_column_goes_before_a_keyword() -> None:
    table = pd.DataFrame({"question": ["a", "b"], "mlserver": [1, 2], "how": ["first", None]})
    record(table, ray_serve="not tried", how="second")
    assert list(findings()["how"]) == ["first", "second"]
    assert list(findings()["Ray Serve"]) == ["not tried"] * 2


@pytest.mark.parametrize(
    "value, text",
    [
        ("refused", "refused"),
        (3, "3"),
        (3.14159, "3.1"),
        (0.0352, "0.035"),
        (0.04, "0.04"),
        (-0.4312, "-0.43"),
        (0.999, "1.0"),
        (99.97, "100"),
        (99.94, "99.9"),
        (1234.5, "1234"),
        (np.int64(5), "5"),
        ([3], "3"),
        ([3, 1, 2], "2 (1 – 3)"),
        ([6.5, 3.5, 13.6], "6.5 (3.5 – 13.6)"),
        (pd.Series([0.04, 0.05]), "0.045 (0.04 – 0.05)"),
    ],
)
def test_how_values_are_written(value: results.Value, text: str) -> None:
    record("q", mlserver=value, ray_serve=0, how="h")
    assert findings()["MLServer"].item() == text


@pytest.mark.parametrize(
    "change, what",
    [
        ({"question": " "}, "question must be a phrase"),
        ({"question": 3}, "question must be a phrase"),
        ({"how": ""}, "how='...'"),
        ({"better": "smaller"}, "'lower', 'higher' or None"),
        ({"mlserver": ""}, "mlserver must be a text, a number or several numbers"),
        ({"mlserver": None}, "mlserver must be"),
        ({"mlserver": True}, "mlserver must be"),
        ({"ray_serve": []}, "ray_serve must be"),
        ({"ray_serve": [1, "2"]}, "ray_serve must be"),
        ({"ray_serve": math.inf}, "ray_serve must be"),
        ({"ratio": pairs([1.0], [2.0], ("old", "new"))}, "let these begin with MLServer"),
        ({"ratio": pairs([1.0], [2.0]), "better": "higher"}, "made with better='lower'"),
    ],
)
def test_what_cannot_be_kept_is_refused(change: dict[str, Any], what: str) -> None:
    answer: dict[str, Any] = {"question": "q", "mlserver": 1, "ray_serve": 1, "how": "h", **change}
    with pytest.raises(ValueError, match=what):
        record(answer.pop("question"), **answer)
    assert not Path("findings.json").exists()


@pytest.mark.parametrize(
    "table, what",
    [
        ({"question": ["q"], "MLServer": [1]}, "not MLServer"),
        ({"mlserver": [1]}, "needs a column question"),
        ({"question": []}, "at least one row"),
        ({"question": ["q", "q"]}, "'q' is there twice"),
        ({"question": ["q", None]}, "question must be a phrase"),
    ],
)
def test_tables_that_cannot_be_kept_are_refused(table: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        record(pd.DataFrame(table), mlserver=1, ray_serve=1, how="h")
    assert not Path("findings.json").exists()


def test_findings_have_a_row_for_each_question() -> None:
    record("size", mlserver=8, ray_serve=[5, 6, 7], unit="MB", how="largest", headline=True)
    table = findings()
    assert table.to_dict("records") == [
        {
            "notebook": "06_batching",
            "question": "size",
            "MLServer": "8",
            "Ray Serve": "6 (5 – 7)",
            "unit": "MB",
            "compared": "",
            "how": "largest",
            "headline": True,
            "better": "",
        }
    ]
    assert table.attrs["machine"] == {"06_batching": "this one"}


def test_what_was_not_run_now_comes_from_the_repository(run: Path) -> None:
    for name in ["05_before", "06_batching"]:
        store(run / "stored" / f"{name}.json", name)
    record("q", mlserver=1, ray_serve=2, how="h")
    table = findings()
    assert list(table["notebook"]) == ["05_before", "06_batching"]
    assert list(table["question"]) == ["stored", "q"]
    assert table.attrs["machine"] == {"05_before": "another", "06_batching": "this one"}
    assert list(findings(run / "stored" / "06_batching.json")["question"]) == ["stored"]


def test_a_quick_run_does_not_count(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(run / "stored" / "06_batching.json", "06_batching")
    monkeypatch.setenv("TUTORIAL_PACE", "quick")
    record("q", mlserver=1, ray_serve=2, how="h")
    assert recorded()["pace"] == "quick"
    assert list(findings()["question"]) == ["stored"]
    assert findings(Path("findings.json")).empty


def test_without_any_run_there_are_no_findings() -> None:
    assert findings().empty
    assert findings()[findings()["headline"]].empty


@pytest.mark.parametrize(
    "older", [{"findings": []}, {"pace": "full", "findings": [{"ratio": {"sentence": "more"}}]}]
)
def test_an_older_file_is_refused(older: dict[str, object], run: Path) -> None:
    (run / "stored" / "06_batching.json").write_text(json.dumps(older))
    with pytest.raises(ValueError, match="06_batching.json is in an older format"):
        findings()


def two_runs(stored: results.Value, now: results.Value) -> pd.DataFrame:
    """Compare two runs that differ in MLServer's answer."""
    runs = []
    for value in (stored, now):
        record("q", mlserver=value, ray_serve="none", how="h")
        runs.append(recorded())
    return compare_runs(*runs)


@pytest.mark.parametrize(
    "stored, now, within",
    [
        ([10, 11, 12], [11, 11, 11], True),
        ([10, 11, 12], [8, 8, 8], True),  # as far away as the range is wide
        ([10, 11, 12], [7, 7.9, 7.9], False),
        ([10, 11, 12], [14.1, 14.1, 15], False),
        ([10, 11, 12], [12, 20, 30], True),  # the ranges overlap
        (5, 5, True),
        (5, 5.1, False),
    ],
)
def test_a_number_is_within_what_was_stored(
    stored: results.Value, now: results.Value, within: bool
) -> None:
    assert two_runs(stored, now)["within"].item() is within


def test_two_runs_are_compared_by_medians_of_the_same_questions() -> None:
    record("only once", mlserver=1, ray_serve=1, how="h")
    table = two_runs([2, 4, 9], 6)
    assert list(table)[:3] == ["notebook", "question", "side"]
    new = recorded()
    (row,) = table[table["question"] == "q"].to_dict("records")
    assert (row["notebook"], row["side"]) == ("06_batching", "MLServer")
    assert (row["stored"], row["now"], row["ratio"]) == (4, 6, 1.5)
    new["findings"] = [each for each in new["findings"] if each["question"] == "q"]
    assert list(compare_runs(recorded(), new)["question"]) == ["q"]


def test_what_is_no_number_in_both_runs_is_not_compared() -> None:
    cases: list[tuple[results.Value, results.Value]]
    cases = [("none", 1), (1, "none"), (math.nan, 1), (1, math.nan)]
    for stored, now in cases:
        assert two_runs(stored, now).empty


def test_a_ratio_to_nothing_cannot_be_told() -> None:
    assert math.isnan(two_runs(0, 3)["ratio"].item())
