"""What the README says of the findings that are stored with the notebooks."""

import re
from collections.abc import Iterable
from pathlib import Path

from helpers.results import findings

_BLOCK = re.compile(r"(?<=<!-- findings -->\n).*?(?=<!-- end of findings -->)", re.DOTALL)


def with_findings(text: str, stored: Iterable[Path]) -> str:
    """Put the headlines among the stored findings into the README, between its two comments.

    Parameters
    ----------
    text : str
        The README.
    stored : iterable of Path
        The files of findings.

    Returns
    -------
    str
        The README with a new table, grouped by notebook: the better side in bold, where that is
        earned. As it was, if there are no findings.

    Raises
    ------
    ValueError
        If the README does not say where the table goes.
    """
    files = list(stored)
    if not files or (table := findings(*files)).empty:
        return text
    if not _BLOCK.search(text):
        raise ValueError(
            "The README needs two lines, <!-- findings --> and <!-- end of findings -->, between "
            "which the table goes."
        )
    lines, notebook = ["| | MLServer | Ray Serve | |", "|---|---|---|---|"], ""
    for row in table[table["headline"]].to_dict("records"):
        if row["notebook"] != notebook:
            notebook = row["notebook"]
            number, _, topic = notebook.partition("_")
            title = f"{number} {topic.replace('_', ' ')}"
            lines.append(f"| [**{title}**](notebooks/{notebook}.ipynb) | | | |")
        unit, question = row["unit"], row["question"]
        if unit and not re.search(rf"(?<!\w){re.escape(unit)}(?![\w/])", question):
            question += f" ({unit})"
        if row["better"]:
            row[row["better"]] = f"**{row[row['better']]}**"
        cells = [question, row["MLServer"], row["Ray Serve"], row["compared"]]
        escaped = [cell.replace("|", "\\|") for cell in cells]  # would end the cell
        lines.append(f"| {' | '.join(escaped)} |")
    machines = sorted(set(table.attrs["machine"].values()))
    block = "\n".join([*lines, "", f"Measured on {' and '.join(machines)}.", ""])
    return _BLOCK.sub(lambda _: block, text)
