"""Links: those within the repository lead somewhere, and `make links` asks for all others."""

import os
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from tools.badges import slug
from tools.notebooks import ROOT, find

CONF = ROOT / "tools" / "links"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("models/*/README.md"))]

_FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?")

each_page = pytest.mark.parametrize(
    "path", [*PAGES, *find()], ids=lambda path: str(path.relative_to(ROOT))
)


def prose(path: Path) -> str:
    """All Markdown of a file, without blocks of code; of a notebook also what its cells show so."""
    if path.suffix == ".md":
        texts = [path.read_text(encoding="utf-8")]
    else:
        cells = nbformat.read(path, as_version=4).cells
        texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        texts += [output.get("data", {}).get("text/markdown", "") for output in outputs]
    return _FENCE.sub("", "\n\n".join(texts))


def anchors(path: Path) -> set[str]:
    """What a link may name in a file; GitHub and Jupyter make it of the headings, in two ways."""
    if path.suffix not in (".md", ".ipynb"):
        return set()
    headings = [each.replace("`", "") for each in re.findall(r"^#+ (.+)$", prose(path), re.M)]
    if path.suffix == ".md":
        headings = [re.sub(r"[^\w\- ]", "", each).lower() for each in headings]
    return {each.replace(" ", "-") for each in headings}


def dead(text: str, path: Path) -> list[str]:
    """Return the links in a text, as part of a file, that lead nowhere in the repository."""
    found = []
    for name, anchor in _LINK.findall(_CODE.sub("", text)):
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(f"{name}#{anchor}" if anchor else name)
    return found


@each_page
def test_links_within_the_repository_lead_somewhere(path: Path) -> None:
    assert dead(prose(path), path) == []


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[a](no_such.md) [b](README.md)", ["no_such.md"]),
        ("[`a`](helpers) [b](helper)", ["helper"]),
        ("[a](#two-commands) [b](#Two-commands)", ["#Two-commands"]),
        (
            "[a](notebooks/02_ray_serve.ipynb#Write-the-deployment) "
            "[b](notebooks/02_ray_serve.ipynb#write-the-deployment)",
            ["notebooks/02_ray_serve.ipynb#write-the-deployment"],
        ),
        ("[a](Makefile#nowhere)", ["Makefile#nowhere"]),
        ("[a](https://host/no_such.md) and `[b](no_such.md)`", []),
    ],
)
def test_a_link_that_leads_nowhere_is_found(text: str, expected: list[str]) -> None:
    assert dead(text, ROOT / "README.md") == expected


@each_page
def test_links_are_written_in_the_one_way_that_is_looked_at(path: Path) -> None:
    assert not re.findall(r"<a |<img |^\[[^]]+\]: ", _CODE.sub("", prose(path)), re.M)


# --- links to other places: `make links` ---


def test_every_page_is_read() -> None:
    patterns = runpy.run_path(str(CONF / "conf.py"))["include_patterns"]
    git = ["git", "ls-files", "*.md", "*.ipynb"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not listed:
        pytest.skip("This is no clone with git.")
    read = {path for pattern in patterns for path in ROOT.glob(pattern)}
    assert {ROOT / name for name in listed} <= read


class Other(BaseHTTPRequestHandler):
    """Another place, with one page."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/there" else 404)
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def other() -> Iterator[str]:
    """The address of another place."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("dead_in", ["README.md", "notebooks/01_a.ipynb", "models/a/README.md", ""])
def test_an_address_that_is_gone_is_found(dead_in: str, other: str, tmp_path: Path) -> None:
    if not find_spec("myst_nb"):
        pytest.skip("The site's own environment has Sphinx: make site")
    for name in ["README.md", "notebooks/01_a.ipynb", "models/a/README.md"]:
        text = f"# A\n\n[a]({other}/{'gone' if name == dead_in else 'there'})"
        text += f" [b](https://github.com/{slug()}/blob/main/x)\n"  # ourselves: not asked for
        if name.endswith(".ipynb"):
            cells = [nbformat.v4.new_markdown_cell(text)]
            text = nbformat.writes(nbformat.v4.new_notebook(cells=cells))
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "sphinx", "--quiet", "--builder", "linkcheck"]
    command += ["--conf-dir", str(CONF), str(tmp_path), str(tmp_path / "build" / "links")]
    direct = {**os.environ, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(command, cwd=ROOT, env=direct, capture_output=True, text=True)
    assert done.returncode == (1 if dead_in else 0), done.stderr
    assert done.stderr.count("broken link") == (1 if dead_in else 0)
    assert dead_in in done.stderr and bool(dead_in) == (f"{other}/gone" in done.stderr)
