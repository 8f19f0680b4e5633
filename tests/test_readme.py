"""The headlines among the stored findings, and the verdict on them, are what the README shows."""

from pathlib import Path

import pytest

from helpers import results
from helpers.results import record
from helpers.verdict import Sentence
from tools import readme
from tools.readme import with_findings

README = """before
<!-- verdict -->
old
<!-- end of verdict -->
<!-- findings -->
| old |
<!-- end of findings -->
after"""


@pytest.fixture(autouse=True)
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of findings of a notebook that is about to record."""
    monkeypatch.setenv("TUTORIAL_PACE", "full")
    monkeypatch.setattr(results, "machine", lambda: "one machine")
    ground = ["03_compare", "requests/s", "MLServer"]
    sentences = [Sentence(choose, "it counts", "", [ground]) for choose in ("MLServer", "either")]
    monkeypatch.setattr(readme, "sentences", lambda: sentences)
    (tmp_path / "03_compare").mkdir()
    monkeypatch.chdir(tmp_path / "03_compare")
    return tmp_path / "03_compare" / "findings.json"


def test_headlines_are_in_the_readme_and_the_better_side_in_bold(stored: Path) -> None:
    record("dull", mlserver=1, ray_serve=2, how="h")
    record("memory", mlserver=[1, 2, 4], ray_serve="no", unit="MB", how="h", headline=True)
    record(
        "requests/s",
        mlserver=[7, 8, 8, 9],
        ray_serve=[1, 2, 2, 3],
        unit="requests/s",
        how="h",
        better="higher",
        headline=True,
    )
    new = with_findings(README, [stored])
    assert new == (
        "before\n"
        "<!-- verdict -->\n"
        "- **Choose MLServer when** it counts ([03](notebooks/03_compare.ipynb)).\n"
        "<!-- end of verdict -->\n"
        "<!-- findings -->\n"
        "| | | MLServer | Ray Serve | |\n"
        "|---|---|---|---|---|\n"
        "| [03](notebooks/03_compare.ipynb) | memory (MB) | 2 (1 – 4) | no |  |\n"
        "| [03](notebooks/03_compare.ipynb) | requests/s | **8 (7 – 9)** | 2 (1 – 3) |  |\n"
        "\n"
        "Measured on one machine.\n"
        "<!-- end of findings -->\n"
        "after"
    )
    assert with_findings(new, [stored]) == new


def test_a_bar_does_not_end_a_cell(stored: Path) -> None:
    record("a | b", mlserver=r"\1", ray_serve="x", how="h", headline=True)
    assert r"| a \| b | \1 | x |  |" in with_findings(README, [stored])


def test_what_does_not_hold_is_struck_out(stored: Path) -> None:
    record("requests/s", mlserver=1, ray_serve=2, how="h")
    assert "**Choose MLServer when** <s>it counts</s> (" in with_findings(README, [stored])


def test_without_findings_the_readme_stays_as_it_was(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_findings(README, []) == README
    monkeypatch.setenv("TUTORIAL_PACE", "quick")
    record("q", mlserver=1, ray_serve=2, how="h", headline=True)
    assert with_findings(README, [stored]) == README


@pytest.mark.parametrize("name", ["verdict", "findings"])
def test_a_readme_without_a_place_for_them_is_refused(name: str, stored: Path) -> None:
    record("q", mlserver=1, ray_serve=2, how="h", headline=True)
    with pytest.raises(ValueError, match=f"needs two lines, <!-- {name} -->"):
        with_findings(README.replace(f"<!-- {name} -->", ""), [stored])
