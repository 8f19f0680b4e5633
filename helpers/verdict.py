"""What the findings allow to say, in Markdown: as a table, and as the verdict."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from helpers.results import SIDES

FILE = Path(__file__).resolve().parent.parent / "notebooks" / "verdict.yaml"
"""The sentences, and the findings that each rests on."""

TITLES = {
    "MLServer": "Choose MLServer when",
    "Ray Serve": "Choose Ray Serve when",
    "neither": "Choose neither when",
    "either": "Either will do when",
}
"""What a sentence may choose, and how its paragraph begins."""

# What comes first in the list wins; what fits nowhere is about speed.
_GROUPS = {
    "Memory": "customer",
    "Failures": "08_|killed|is lost|response cache|Redis|asks again|shadow hangs|bad member|"
    "different lengths",
    "Change": "10_|rolling update|canary",
    "Scale": "number of processes|one stage|to two models|new machine|503",
    "Protocols": "09_",
    "Effort": "12_.*(?:metrics|histogram|log lines|JSON log|traced)",
    "Speed": "",
}

_SHOWN = ["notebook", "question", *SIDES.values(), "compared", "better"]


@dataclass(frozen=True)
class Sentence:
    """One reason for a choice.

    Attributes
    ----------
    choose : str
        One of `TITLES`.
    when : str
        The case that it is about, to go on after the title.
    because : str
        What was found.
    rests_on : list of list of str
        Notebook, question, and what that finding must say, for each of its findings.
    """

    choose: str
    when: str
    because: str
    rests_on: list[list[str]]

    def check(self, table: pd.DataFrame) -> pd.DataFrame:
        """Look up the findings that the sentence rests on.

        Parameters
        ----------
        table : pandas.DataFrame
            What `findings` returns.

        Returns
        -------
        pandas.DataFrame
            A row per finding: ``notebook``, ``question``, what the sentence ``needs`` it to say,
            ``MLServer``, ``Ray Serve``, ``compared`` and ``better`` (empty if there is no such
            finding), and whether the sentence ``holds`` as far as this one goes.
        """
        needs = pd.DataFrame(self.rests_on, columns=["notebook", "question", "needs"])
        found = needs.merge(table[_SHOWN], how="left", on=["notebook", "question"]).fillna("")
        found["holds"] = [row["needs"] in _says(row) for row in found.to_dict("records")]
        return found

    def links(self, folder: str = "") -> str:
        """Link to the notebooks of its findings, which lie in that folder."""
        notebooks = dict.fromkeys(notebook for notebook, *_ in self.rests_on)
        return ", ".join(link(notebook, folder) for notebook in notebooks)


def sentences() -> list[Sentence]:
    """Read the sentences of the verdict, whether they hold or not."""
    return [Sentence(**each) for each in yaml.safe_load(FILE.read_text(encoding="utf-8"))]


def verdict(table: pd.DataFrame, chosen: Iterable[Sentence]) -> str:
    """Write the verdict in full.

    Parameters
    ----------
    table : pandas.DataFrame
        What `findings` returns.
    chosen : iterable of Sentence
        In this order, under the title of what they choose.

    Returns
    -------
    str
        Markdown. A sentence that does not hold is struck out, and followed by what was found.
    """
    lines: dict[str, list[str]] = {}
    for sentence in chosen:
        found = sentence.check(table)
        text = f"*{sentence.when}.* {sentence.because}"
        if not found["holds"].all():
            against = "; ".join(map(_answer, found[~found["holds"]].to_dict("records")))
            text = f"<s>{text}</s> Not by these findings: {against}."
        lines.setdefault(sentence.choose, []).append(f"- … {text} ({sentence.links()})")
    return "\n\n".join("\n".join([f"**{TITLES[c]}**", "", *each]) for c, each in lines.items())


def short_verdict(table: pd.DataFrame, chosen: Iterable[Sentence], folder: str = "") -> str:
    """Write the verdict as a line for each choice, without what was found.

    Parameters
    ----------
    table, chosen
        As for `verdict`.
    folder : str
        Where the notebooks are, seen from the page: ``"notebooks/"``.

    Returns
    -------
    str
        Markdown. A sentence that does not hold is struck out.
    """
    lines: dict[str, list[str]] = {}
    for sentence in chosen:
        holds = sentence.check(table)["holds"].all()
        when = sentence.when if holds else f"<s>{sentence.when}</s>"
        lines.setdefault(sentence.choose, []).append(f"{when} ({sentence.links(folder)})")
    return "\n".join(f"- **{TITLES[c]}** {'; '.join(each)}." for c, each in lines.items())


def grouped(table: pd.DataFrame) -> pd.DataFrame:
    """Say of each finding what it is about.

    Parameters
    ----------
    table : pandas.DataFrame
        What `findings` returns, or some rows of it.

    Returns
    -------
    pandas.DataFrame
        The same with a column ``group`` (str): ``"Speed"``, ``"Memory"``, ``"Failures"``,
        ``"Change"``, ``"Scale"``, ``"Protocols"`` or ``"Effort"``.
    """
    about = table["notebook"] + " " + table["question"]
    return table.assign(
        group=[next(g for g, words in _GROUPS.items() if re.search(words, each)) for each in about]
    )


def in_markdown(table: pd.DataFrame, folder: str = "") -> str:
    """Write findings as a table, the better side in bold where that is earned.

    Parameters
    ----------
    table : pandas.DataFrame
        What `findings` returns, or some rows of it.
    folder : str
        Where the notebooks are, seen from the page: ``"notebooks/"``.

    Returns
    -------
    str
        A table in Markdown, with a link to its notebook in each row.
    """
    lines = ["| | | MLServer | Ray Serve | |", "|---|---|---|---|---|"]
    for row in table.to_dict("records"):
        unit, question = row["unit"], row["question"]
        if unit and not re.search(rf"(?<!\w){re.escape(unit)}(?![\w/])", question):
            question += f" ({unit})"
        if row["better"]:
            row[row["better"]] = f"**{row[row['better']]}**"
        cells = [question, *(row[side] for side in SIDES.values()), row["compared"]]
        escaped = [cell.replace("|", "\\|") for cell in cells]  # would end the cell
        lines.append(f"| {' | '.join([link(row['notebook'], folder), *escaped])} |")
    return "\n".join(lines)


def link(notebook: str, folder: str = "") -> str:
    """Link to a notebook by its number."""
    return f"[{notebook.partition('_')[0]}]({folder}{notebook}.ipynb)"


def _says(row: dict[str, Any]) -> set[str]:
    """Tell what a sentence can rest on: all that a finding says, in the words of the file."""
    answers = [row[side] for side in SIDES.values()]
    said = {row["better"], " | ".join(answers)} - {""}
    if "no difference seen" in row["compared"]:
        said.add("no difference")
    numbers = [[float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", answer)] for answer in answers]
    if all(numbers) and all(number > 0 for side in numbers for number in side):
        said.add("more than 0")
    if all(any(number > 0 for number in side) for side in numbers):
        said.add("not always 0")
    return said


def _answer(row: dict[str, Any]) -> str:
    """Write what a finding says against a sentence."""
    sides = ", ".join(f"{side} {row[side]}" for side in SIDES.values() if row[side])
    compared = f" ({row['compared']})" if row["compared"] else ""
    return f"*{row['question']}*: {sides or 'not found'}{compared}"
