"""The README shows the headlines among the stored findings, the verdict, and the times."""

import re
from pathlib import Path

import pytest

from helpers import results
from helpers.results import record
from helpers.verdict import Sentence
from tools import readme
from tools.notebooks import ROOT, find
from tools.readme import in_words, with_findings, with_time

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
    record(
        "a customer's memory",
        mlserver=[1, 2, 4],
        ray_serve="no",
        unit="MB",
        how="h",
        headline=True,
    )
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
        "| **Memory** | | | | |\n"
        "| [03](notebooks/03_compare.ipynb) | a customer's memory (MB) | 2 (1 – 4) | no |  |\n"
        "| **Speed** | | | | |\n"
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


@pytest.mark.parametrize(
    "seconds, words",
    [
        (4, "a few seconds"),
        (31, "a minute"),
        (100, "two minutes"),
        (900, "fifteen minutes"),
        (1000, "a quarter of an hour"),
        (2760, "three quarters of an hour"),
        (9000, "an hour"),
    ],
)
def test_a_time_is_told_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_the_time_of_a_run_goes_into_the_readme_and_the_notebook() -> None:
    rows = [f"| [0{n}](notebooks/0{n}_it.ipynb) | do it | two minutes | [Colab](x) |" for n in "12"]
    new = with_time("\n".join(rows), "02_it", 500)
    assert new.splitlines() == [rows[0], rows[1].replace("two", "eight")]
    assert with_time(new, "02_it", 120).splitlines() == rows
    need = "**What you'll need:** nothing but this notebook; about {}. Linux.\n\nabout a minute."
    assert with_time(need.format("half an hour"), "02_it", 60) == need.format("a minute")
    soon = need.replace("about {}", "a few seconds")
    assert with_time(need.format("a minute"), "02_it", 4) == soon
    assert with_time(soon, "02_it", 60) == need.format("a minute")


def test_the_readme_says_of_each_notebook_the_time_that_the_notebook_says() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in find():
        [row] = re.findall(rf"^.*\(notebooks/{path.name}\) \|.*\[Colab\].*$", text, re.MULTILINE)
        time, first = row.split("|")[3].strip(), path.read_text(encoding="utf-8")
        assert f"; about {time}." in first or time == "a few seconds", path.stem
