"""Write the repository's name into all badges and links: `python -m tools.badges`."""

import re

from tools import notebooks
from tools.notebooks import find, write

# Where a text names the repository that it belongs to.
_SLUG = re.compile(
    r"(?:https://colab\.research\.google\.com/github/|https://codespaces\.new/"
    r"|git clone [^\n]*https://github\.com/)([\w.-]+/[\w.-]+)"
)
_COLAB_FILE = re.compile(r"(/blob/main/notebooks/)[\w.-]+\.ipynb")


def slug() -> str:
    """Return the repository's name on GitHub, ``owner/name``, from pyproject.toml."""
    text = (notebooks.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^repository = "(.+)"', text, re.MULTILINE)
    assert found, "pyproject.toml has no line: repository = ..."
    return found[1]


def badges() -> None:
    """Write the repository's name into every badge and link that names it."""
    for path in [notebooks.ROOT / "README.md", notebooks.ROOT / "CONTRIBUTING.md", *find()]:
        text = path.read_text(encoding="utf-8")
        new = with_badges(text, slug(), path.name)
        if new != text:
            write(path, new)
            print(f"{path.relative_to(notebooks.ROOT)}: now {slug()}")


def with_badges(text: str, slug: str, name: str) -> str:
    """Put the repository's name into the text of a file.

    Parameters
    ----------
    text : str
        The file, a notebook's JSON included.
    slug : str
        ``owner/name``.
    name : str
        The file's name. A notebook's own badge points at it.

    Returns
    -------
    str
        The text, in which every name that a badge or a ``git clone`` had is replaced everywhere.

    Examples
    --------
    >>> with_badges("https://codespaces.new/you/it?quickstart=1 by you/it", "me/this", "README.md")
    'https://codespaces.new/me/this?quickstart=1 by me/this'
    """
    for old in {match.removesuffix(".git") for match in _SLUG.findall(text)}:
        text = re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w-])", slug, text)
    if name.endswith(".ipynb"):
        text = _COLAB_FILE.sub(rf"\g<1>{name}", text)
    return text


if __name__ == "__main__":
    badges()
