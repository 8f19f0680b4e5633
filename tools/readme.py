"""What the README says of the findings that are stored with the notebooks."""

import re
from collections.abc import Iterable
from pathlib import Path

from helpers.results import findings
from helpers.verdict import in_markdown, sentences, short_verdict

FOLDER = "notebooks/"


def with_findings(text: str, stored: Iterable[Path]) -> str:
    """Put the verdict and the headlines among the stored findings into the README.

    Parameters
    ----------
    text : str
        The README, with two pairs of comments between which they go.
    stored : iterable of Path
        The files of findings.

    Returns
    -------
    str
        The README with a new verdict, in which what does not hold is struck out, and a new table,
        in which the better side is in bold. As it was, if there are no findings.

    Raises
    ------
    ValueError
        If the README does not say where one of them goes.
    """
    files = list(stored)
    if not files or (table := findings(*files)).empty:
        return text
    choices = [sentence for sentence in sentences() if sentence.choose != "either"]
    text = _put(text, "verdict", short_verdict(table, choices, FOLDER))
    machines = sorted(set(table.attrs["machine"].values()))
    rows = in_markdown(table[table["headline"]], FOLDER)
    return _put(text, "findings", f"{rows}\n\nMeasured on {' and '.join(machines)}.")


def _put(text: str, name: str, block: str) -> str:
    """Put a block between the two comments of its name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    if not (place := re.search(f"(?<={begin}).*?(?={end})", text, re.DOTALL)):
        raise ValueError(f"The README needs two lines, {begin.strip()} and {end}.")
    return f"{text[: place.start()]}{block}\n{text[place.end() :]}"
