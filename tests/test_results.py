"""What notebooks record is what the last one and the README show."""

import json
from pathlib import Path

import pytest

from helpers import findings, record, results


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like notebooks/work, in the middle of a run of 06_batching."""
    monkeypatch.setattr(results, "RUN", tmp_path)
    monkeypatch.setattr(results, "STORED", tmp_path / "stored")
    (tmp_path / "06_batching").mkdir()
    monkeypatch.chdir(tmp_path / "06_batching")
    return tmp_path


def test_a_finding_is_recorded_with_the_machine() -> None:
    record("batch size", mlserver=8, ray_serve=5, unit="requests", how="largest that was seen")
    table = findings()
    assert table.to_dict("records") == [
        {
            "notebook": "06_batching",
            "question": "batch size",
            "MLServer": "8",
            "Ray Serve": "5",
            "unit": "requests",
            "how": "largest that was seen",
            "headline": False,
        }
    ]
    machine = table.attrs["machine"]["06_batching"]
    assert "cores" in machine and "mlserver 1." in machine and "ray 2." in machine


def test_recording_again_replaces() -> None:
    record("same", mlserver=1, ray_serve=1, how="first")
    record("other", mlserver=1, ray_serve=1, how="first")
    record("same", mlserver=2, ray_serve=2, how="second")
    assert list(findings()["how"]) == ["first", "second"]


@pytest.mark.parametrize(
    "value, text",
    [
        ("refused", "refused"),
        (3, "3"),
        (3.14159, "3.1"),
        (1234.5, "1234"),
        ([3, 1, 2], "2 (1 – 3)"),
        (float("nan"), "–"),
    ],
)
def test_how_values_are_written(value: results.Value, text: str) -> None:
    record("q", mlserver=value, ray_serve=0, how="h")
    assert findings()["MLServer"].item() == text


def test_what_was_not_run_now_comes_from_the_repository(run: Path) -> None:
    (run / "stored").mkdir()
    row = dict.fromkeys(results.COLUMNS, "")
    for name in ["05_before", "06_batching"]:
        stored = {"machine": "another", "findings": [{**row, "notebook": name}]}
        (run / "stored" / f"{name}.json").write_text(json.dumps(stored))
    record("q", mlserver=1, ray_serve=2, how="h")
    table = findings()
    assert list(table["notebook"]) == ["05_before", "06_batching"]
    assert list(table["question"]) == ["", "q"]
    assert table.attrs["machine"]["05_before"] == "another"
    assert list(findings(run / "stored" / "06_batching.json")["question"]) == [""]


def test_without_any_run_there_are_no_findings() -> None:
    assert findings().empty
