"""The verdict says nothing that its findings do not say."""

import pandas as pd
import pytest
from test_notebooks import MEASURED

from helpers.results import findings
from helpers.verdict import TITLES, Sentence, in_markdown, sentences, short_verdict, verdict
from tools.notebooks import find, stored_findings

COLUMNS = ["notebook", "question", "MLServer", "Ray Serve", "unit", "compared", "better"]
SAME = "p50: no difference seen (0.90 to 1.18 times, 5 pairs)"


def table(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    """Findings of one notebook: MLServer's answer, Ray Serve's, what pairs say, who is better."""
    named = [("06_batching", f"q{n}", m, r, "ms", *rest) for n, (m, r, *rest) in enumerate(rows)]
    return pd.DataFrame(named, columns=COLUMNS)


def sentence(*needs: str) -> Sentence:
    """One that rests on the findings of `table`, in turn."""
    grounds = [["06_batching", f"q{n}", each] for n, each in enumerate(needs)]
    return Sentence("MLServer", "it rains", "It is *dry* there.", grounds)


FASTER = ("1 (1 – 2)", "5 (4 – 6)", "", "MLServer")
SLOWER = ("5 (4 – 6)", "1 (1 – 2)", "", "Ray Serve")
ALIKE = ("1 (1 – 2)", "1 (1 – 2)", SAME, "")
NOT_SURE = ("1 (1 – 2)", "1 (1 – 2)", "p50: MLServer 2 times Ray Serve in 2 pairs: too few", "")


@pytest.mark.parametrize(
    "finding, says, says_not",
    [
        (FASTER, ["MLServer", "more than 0"], ["Ray Serve", "no difference", ""]),
        (SLOWER, ["Ray Serve"], ["MLServer", "no difference"]),
        (ALIKE, ["no difference"], ["MLServer", "Ray Serve"]),
        (NOT_SURE, ["more than 0"], ["MLServer", "Ray Serve", "no difference"]),
        (("yes", "no", "", ""), ["yes | no"], ["yes", "no", "no | yes", "more than 0"]),
        (("0 (0 – 1)", "2", "", ""), ["0 (0 – 1) | 2", "not always 0"], ["more than 0"]),
        (("0 (0 – 0)", "2", "", ""), [], ["not always 0"]),
        (("since 1.7.1", "yes", "", ""), ["since 1.7.1 | yes"], ["more than 0", "not always 0"]),
        (("–", "2", "", ""), [], ["more than 0", "not always 0"]),
    ],
)
def test_what_a_finding_says(
    finding: tuple[str, str, str, str], says: list[str], says_not: list[str]
) -> None:
    for needs in says + says_not:
        assert sentence(needs).check(table(finding))["holds"].item() == (needs in says), needs


def test_a_finding_that_is_missing_says_nothing() -> None:
    found = sentence("MLServer", "no difference").check(table(FASTER))
    assert list(found["holds"]) == [True, False]
    assert list(found["MLServer"]) == ["1 (1 – 2)", ""]


def test_a_sentence_that_holds_is_shown_with_its_notebooks() -> None:
    shown = verdict(table(FASTER, ALIKE), [sentence("MLServer", "no difference")])
    assert shown == (
        "**Choose MLServer when**\n\n- … *it rains.* It is *dry* there. ([06](06_batching.ipynb))"
    )


@pytest.mark.parametrize(
    "rows, against",
    [
        ([FASTER, SLOWER], "*q1*: MLServer 5 (4 – 6), Ray Serve 1 (1 – 2)"),
        ([FASTER, ALIKE], f"*q1*: MLServer 1 (1 – 2), Ray Serve 1 (1 – 2) ({SAME})"),
        ([FASTER], "*q1*: not found"),
    ],
)
def test_a_sentence_that_does_not_hold_is_struck_out(
    rows: list[tuple[str, str, str, str]], against: str
) -> None:
    both = sentence("MLServer", "MLServer")
    shown = verdict(table(*rows), [both])
    assert "- … <s>*it rains.* It is *dry* there.</s> Not by these findings: " in shown
    assert f"findings: {against}. ([06]" in shown
    short = short_verdict(table(*rows), [both, sentence("MLServer")], "notebooks/")
    link = "([06](notebooks/06_batching.ipynb))"
    assert short == f"- **Choose MLServer when** <s>it rains</s> {link}; it rains {link}."


def test_findings_as_a_table() -> None:
    lines = in_markdown(table(FASTER, ("a|b", "c", "", ""))).splitlines()
    assert lines[2] == "| [06](06_batching.ipynb) | q0 (ms) | **1 (1 – 2)** | 5 (4 – 6) |  |"
    assert r"| a\|b | c |" in lines[3]


# --- the sentences that there are ---

GROUNDS = [(each, n) for each in sentences() for n in range(len(each.rests_on))]


def test_there_are_sentences_of_every_kind_and_each_rests_on_something() -> None:
    assert list(dict.fromkeys(each.choose for each in sentences())) == list(TITLES)
    assert all(each.rests_on for each in sentences())


def test_no_sentence_has_a_measured_number() -> None:
    for each in sentences():
        assert not MEASURED.findall(f"{each.when}. {each.because}")


def test_the_verdict_holds_for_the_stored_findings() -> None:
    table = findings(*stored_findings())
    for each in sentences():
        found = each.check(table)
        assert found["holds"].all(), found[~found["holds"]].to_string()


@pytest.mark.parametrize("each, n", GROUNDS, ids=lambda value: getattr(value, "when", str(value)))
def test_a_finding_that_turns_round_makes_its_sentence_fail(each: Sentence, n: int) -> None:
    stored = findings(*stored_findings())
    notebook, question, _ = each.rests_on[n]
    [row] = stored.index[(stored["notebook"] == notebook) & (stored["question"] == question)]
    better = {"MLServer": "Ray Serve", "Ray Serve": "MLServer", "": "MLServer"}
    turned = ["0", "1", "turned round", better[stored.loc[row, "better"]]]
    stored.loc[row, ["MLServer", "Ray Serve", "compared", "better"]] = turned
    assert list(each.check(stored)["holds"]) == [k != n for k in range(len(each.rests_on))]
    assert "<s>" in verdict(stored, [each]) and "<s>" in short_verdict(stored, [each])


def test_the_notebook_shows_the_whole_verdict_and_none_of_it_struck_out() -> None:
    [notebook] = [path for path in find() if path.stem.endswith("_choosing")]
    text = notebook.read_text(encoding="utf-8")
    shown = verdict(findings(*stored_findings()), sentences())
    for line in filter(None, shown.splitlines()):
        assert line.replace('"', '\\"') in text, "run `make outputs NOTEBOOKS=16`"
    assert "<s>" not in text
