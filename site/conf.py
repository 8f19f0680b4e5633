"""The web site: `make site` builds it from the notebooks as they are stored, and runs none."""

from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from types import GenericAlias

from docutils import nodes
from IPython.lib.lexers import IPython3Lexer
from pygments.lexers import get_lexer_for_filename
from pygments.token import Comment, Error, Text, _TokenType
from pygments.util import ClassNotFound
from sphinx.application import Sphinx
from sphinx_design.shared import create_component

from tools.site import REPOSITORY, URL, page

project = "MLServer and Ray Serve, side by side"
extensions = ["myst_nb", "sphinx_design", "sphinx_copybutton", "sphinx.ext.autodoc", "numpydoc"]
highlight_language = "none"  # an indented block is a command, or what a program says

nb_execution_mode = "off"
nb_merge_streams = True
myst_heading_anchors = 3
myst_heading_slug_func = "tools.site.anchor"

default_role = "py:obj"  # what docstrings have in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstring tells
numpydoc_show_class_members = False  # autodoc does

html_theme = "sphinx_book_theme"
html_title = project
html_baseurl = URL
html_static_path = ["_static", "../build/site/static"]  # the second is made by the Makefile
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}  # light or dark as the reader's system has it
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_use_index = html_domain_indices = False  # the search finds names, and better
html_show_sphinx = html_show_copyright = False
html_theme_options = {
    "repository_url": REPOSITORY,
    "use_repository_button": True,
    "home_page_in_toc": True,
    "show_toc_level": 2,
}
copybutton_selector = "div:not(.output) > div.highlight pre"

SIDES = {"tag_mlserver": "MLServer", "tag_ray-serve": "Ray Serve"}


class CellLexer(IPython3Lexer):
    """IPython; what `%%writefile` writes is in the language of that file."""

    name = "A cell of a notebook"
    aliases = ["cell"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        """Return the tokens of a cell."""
        first, _, body = text.partition("\n")
        try:
            lexer = get_lexer_for_filename(first.removeprefix("%%writefile ").strip())
        except ClassNotFound:
            yield from super().get_tokens_unprocessed(text)
            return
        yield 0, Comment, f"{first}\n"
        for at, kind, value in lexer.get_tokens_unprocessed(body):
            yield at + len(first) + 1, Text if kind is Error else kind, value


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """Let Sphinx read what `page` makes of a file."""
    source[0] = page(name, source[0])


def side_by_side(app: Sphinx, document: nodes.document) -> None:
    """Put neighbouring cells that are tagged `mlserver` and `ray-serve` behind two tabs."""

    def side(node: nodes.Node) -> str:
        classes = node["classes"] if isinstance(node, nodes.container) else []
        return next((SIDES[each] for each in classes if each in SIDES), "")

    for section in list(document.findall(nodes.section)):
        halves = [(name, list(cells)) for name, cells in groupby(list(section), key=side)]
        for pair in pairwise(halves):
            if [name for name, _ in pair] == list(SIDES.values()):
                tabs = create_component("tab-set", classes=["sd-tab-set"])
                section.insert(section.index(pair[0][1][0]), tabs)
                for name, cells in pair:
                    for cell in cells:
                        section.remove(cell)
                    label = nodes.rubric(name, name, classes=["sd-tab-label"])
                    content = create_component("tab-content", ["sd-tab-content"], children=cells)
                    item = create_component("tab-item", ["sd-tab-item"], selected=False)
                    item += [label, content]
                    tabs += item


def skip(app: Sphinx, what: str, name: str, member: object, *rest: object) -> bool | None:
    """Leave out a constant that is a path of this machine, and another name for `dict`."""
    return True if isinstance(member, (Path, GenericAlias)) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of what is above."""
    app.add_lexer("cell", CellLexer)
    app.connect("source-read", read)
    app.connect("doctree-read", side_by_side)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
