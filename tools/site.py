"""What the web site reads in place of a file: `site/conf.py` asks `page` for each.

The pages are the notebooks and the README as they are. Only what a reader of the repository has and
a reader of the site has not is put in another way: a file beside the page, a picture that another
host keeps, a program that draws diagrams.
"""

import html
import json
import re
from typing import Any

from helpers.results import findings
from tools.badges import slug
from tools.notebooks import ROOT, find, stored_findings

REPOSITORY = f"https://github.com/{slug()}"
OWNER, NAME = slug().split("/")
URL = f"https://{OWNER.lower()}.github.io/{NAME}/"  # where GitHub Pages puts it

GROUPS = {"The tour": range(1, 6), "The comparison": range(6, 15), "The decision": range(15, 100)}

_BADGE = re.compile(r"\[!\[([^]]+)\]\(https:[^)]+\)\](?=\()")
_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_TO_NOTEBOOK = re.compile(r"\]\((\d\d_\w+)\.ipynb")  # Sphinx does not look into outputs
_LINK = re.compile(r"\]\(([^():#\s]+)(#[^)\s]*)?\)")


def page(name: str, text: str) -> str:
    """Return what the site shows of a file.

    Parameters
    ----------
    name : str
        The page's name, such as ``"notebooks/01_install"``.
    text : str
        The file: a notebook's JSON, or Markdown in which a comment names a part to be put there.

    Returns
    -------
    str
        The same format as before, with metadata for whoever links to the page.
    """
    if name.startswith("notebooks/"):
        return json.dumps(_notebook(name, json.loads(text)))
    parts = {
        "first screen": first_screen,
        "notebooks": contents,
        "findings": findings_table,
        "helpers": reference,
    }
    for part, make in parts.items():
        if (comment := f"<!-- {part} -->") in text:
            text = text.replace(comment, make())
    metadata = {"myst": {"html_meta": _social(name, text)}}  # YAML understands JSON
    return f"---\n{json.dumps(metadata)}\n---\n{text}"


def first_screen() -> str:
    """Return the README up to the section with its findings, which have a page of their own."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text[: text.rindex("\n## ", 0, text.index("<!-- findings -->"))]
    return for_the_web(text.replace("](#", "](README.md#"), "")


def contents() -> str:
    """Return the notebooks in their groups, for the list at the side of each page."""
    lists = []
    for group, numbers in GROUPS.items():
        names = [f"notebooks/{path.stem}" for path in find() if int(path.stem[:2]) in numbers]
        if names:  # Sphinx does not want an empty one
            lists += ["```{toctree}", ":hidden:", f":caption: {group}", "", *names, "```", ""]
    return "\n".join(lists)


def findings_table() -> str:
    """Return all stored findings as one table, and what they were measured on."""
    table = findings(*stored_findings())
    head = ["question", "MLServer", "Ray Serve", "unit", "pairs of runs", "how", "notebook"]
    rows = [head, ["---"] * len(head)]
    for row in table.to_dict("records"):
        if row["better"]:
            row[row["better"]] = f"✓ {row[row['better']]}"
        told = ["question", "MLServer", "Ray Serve", "unit", "compared", "how"]
        cells = [re.sub(r"([\\`*_<|\[\]])", r"\\\1", row[column]) for column in told]
        link = f"[{row['notebook'].replace('_', ' ')}](notebooks/{row['notebook']}.ipynb)"
        rows.append([*cells, link])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    machines = " and ".join(sorted(set(table.attrs["machine"].values())))
    return "\n".join([*lines, "", f"Measured on {machines}."])


def reference() -> str:
    """Return a section for each module of helpers, which autodoc fills."""
    names = sorted(file.stem for file in (ROOT / "helpers").glob("[!_]*.py"))
    return "\n\n".join(
        f"## {name}\n\n```{{eval-rst}}\n.. automodule:: helpers.{name}\n   :members:\n```"
        for name in names
    )


def for_the_web(text: str, folder: str) -> str:
    """Put into Markdown what a reader without the repository has.

    Parameters
    ----------
    text : str
        Markdown.
    folder : str
        Where its links begin, in the repository.

    Returns
    -------
    str
        A badge is a link with its words, a diagram is what `site.js` looks for, and a link to
        a file that is no page leads to the repository.

    Examples
    --------
    >>> for_the_web("[![Open](https://host/badge.svg)](https://codespaces.new/you)", "")
    '[Open](https://codespaces.new/you)'
    """

    def to_repository(link: re.Match[str]) -> str:
        file = (ROOT / folder / link[1]).resolve()
        if file.suffix in (".ipynb", ".png", ".svg") or not file.exists():
            return link[0]  # Sphinx knows the pages and the pictures, and what is missing
        kind = "tree" if file.is_dir() else "blob"
        return f"]({REPOSITORY}/{kind}/main/{file.relative_to(ROOT).as_posix()}{link[2] or ''})"

    text = _BADGE.sub(r"[\1]", text)
    text = _DIAGRAM.sub(lambda found: f'<pre class="mermaid">\n{html.escape(found[1])}</pre>', text)
    return _LINK.sub(to_repository, text)


def anchor(title: str) -> str:
    """Return what Jupyter calls a heading in a link: ``02_ray_serve.ipynb#Two-replicas``."""
    return title.replace(" ", "-")


def _notebook(name: str, notebook: dict[str, Any]) -> dict[str, Any]:
    heading = ""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        for output in cell.get("outputs", []):
            if markdown := "".join(output.get("data", {}).get("text/markdown", "")):
                output["data"]["text/markdown"] = _TO_NOTEBOOK.sub(r"](\1.html", markdown)
        if cell["cell_type"] == "markdown":
            cell["source"] = for_the_web(source, "notebooks")
            heading = [heading, *re.findall(r"^#+ (.+)", _FENCE.sub("", source), re.M)][-1]
        elif any(
            kind.startswith("image/") for out in cell["outputs"] for kind in out.get("data", {})
        ):
            alt = f"The picture that the cell above draws, about “{_plain(heading)}”"
            cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
    # No "%%writefile" is Python: conf.py has a lexer for such cells.
    notebook["metadata"]["language_info"] = {"name": "python", "pygments_lexer": "cell"}
    notebook["metadata"]["myst"] = {"html_meta": _social(name, notebook["cells"][0]["source"])}
    return notebook


def _social(name: str, text: str) -> dict[str, str]:
    """Return what a chat or a search engine shows of a page: its title and what it says first."""
    title = re.search(r"^# (.+)", text, re.M)
    says = re.search(r"^\*\*What you'll do:\*\* (.+)", text, re.M)
    says = says or re.search(r"^# .+\n+(.+)", text, re.M)
    assert title and says, f"{name} has no title, or nothing below it"
    told = _plain(says[1])
    return {
        "description": told,
        "property=og:title": _plain(title[1]),
        "property=og:description": told,
        "property=og:type": "article",
        "property=og:site_name": "MLServer and Ray Serve, side by side",
        "property=og:url": f"{URL}{name}.html",
        "twitter:card": "summary",  # no picture: the README's is an SVG, which cards do not show
    }


def _plain(markdown: str) -> str:
    """Return the words of a line of Markdown."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown).replace("*", "").replace("`", "")
