"""What the README says of the stored findings, and of how long a notebook takes."""

import re
from collections.abc import Iterable
from pathlib import Path

from helpers.results import findings
from helpers.verdict import grouped, in_markdown, sentences, short_verdict

FOLDER = "notebooks/"
COUNT = "no a two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
QUARTERS = ("no", "a quarter of an hour", "half an hour", "three quarters of an hour", "an hour")


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
        by what the findings are about, in which the better side is in bold. As it was, if there
        are no findings.

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
    shown = table[table["headline"]]
    lines = in_markdown(shown.head(0)).splitlines()
    for group, rows in grouped(shown).groupby("group", sort=False):
        lines += [f"| **{group}** | | | | |", *in_markdown(rows, FOLDER).splitlines()[2:]]
    rows = "\n".join(lines)
    return _put(text, "findings", f"{rows}\n\nMeasured on {' and '.join(machines)}.")


def in_words(seconds: float) -> str:
    """Say how long something takes, as one says it to a friend.

    Parameters
    ----------
    seconds : float
        At most an hour or so; more is not told apart.
    """
    if seconds < 30:
        return "a few seconds"
    minutes, words = round(seconds / 60), COUNT.split()
    if minutes >= len(words):
        return QUARTERS[min(round(minutes / 15), 4)]
    return f"{words[max(minutes, 1)]} minute{'s' * (minutes > 1)}"


def with_time(text: str, notebook: str, seconds: float) -> str:
    """Put how long a notebook takes into its row of the README, or into its own first cell.

    Parameters
    ----------
    text : str
        One of the two.
    notebook : str
        The notebook's name, ``"06_batching"``.
    seconds : float
        How long it took.
    """
    known = [*(f"{word} minutes?" for word in COUNT.split()), *QUARTERS, "a few seconds"]
    time, new = f"(?:{'|'.join(known)})", in_words(seconds)
    row = rf"(\({FOLDER}{notebook}\.ipynb\) \|[^|\n]*\| ){time}(?= \|)"
    text = re.sub(row, rf"\g<1>{new}", text)
    said = new if new == "a few seconds" else f"about {new}"
    need = rf"(\*\*What you'll need:\*\*.*; )(?:about )?{time}(?=\.)"
    return re.sub(need, rf"\g<1>{said}", text)


def _put(text: str, name: str, block: str) -> str:
    """Put a block between the two comments of its name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    if not (place := re.search(f"(?<={begin}).*?(?={end})", text, re.DOTALL)):
        raise ValueError(f"The README needs two lines, {begin.strip()} and {end}.")
    return f"{text[: place.start()]}{block}\n{text[place.end() :]}"
