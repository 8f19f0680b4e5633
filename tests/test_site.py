"""The web site: what goes into its pages, what is in them, and how they behave in a browser.

`make site` runs all of it, `make test` what needs no browser and, where it was not built, no site.
"""

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from nbformat import v4

from helpers.results import findings
from tools.notebooks import ROOT, find, stored_findings
from tools.site import (
    REPOSITORY,
    anchor,
    contents,
    findings_table,
    first_screen,
    for_the_web,
    page,
)

BUILT = ROOT / "build" / "site" / "html"


# --- what goes into the pages ---


@pytest.mark.parametrize(
    "text, shown",
    [
        ("[a](../helpers/server.py)", f"[a]({REPOSITORY}/blob/main/helpers/server.py)"),
        ("[a](../models)", f"[a]({REPOSITORY}/tree/main/models)"),
        ("[a](../README.md#two-commands)", f"[a]({REPOSITORY}/blob/main/README.md#two-commands)"),
        ("[a](07_replicas_and_workers.ipynb#Tuned)", "[a](07_replicas_and_workers.ipynb#Tuned)"),
        ("![a](throughput.svg)", "![a](throughput.svg)"),
        ("[a](https://host/README.md)", "[a](https://host/README.md)"),
        ("[a](no_such_file.md)", "[a](no_such_file.md)"),
        ("[![Open](https://host/a.svg)](https://host/b)", "[Open](https://host/b)"),
        ("```mermaid\na[<br>]\n```", '<pre class="mermaid">\na[&lt;br&gt;]\n</pre>'),
        ("```yaml\na: b\n```", "```yaml\na: b\n```"),
    ],
)
def test_what_a_reader_without_the_repository_gets(text: str, shown: str) -> None:
    assert for_the_web(text, "notebooks") == shown


def test_a_heading_is_linked_to_as_in_jupyter() -> None:
    assert anchor("Kill one of two") == "Kill-one-of-two"


def test_a_picture_is_described_by_the_heading_above_it() -> None:
    cells = [
        v4.new_markdown_cell("# Try\n\n**What you'll do:** try *it*."),
        v4.new_markdown_cell("## Now `it`\n```sh\n# no heading\n```"),
        v4.new_code_cell("draw()", outputs=[v4.new_output("display_data", {"image/png": ""})]),
        v4.new_code_cell("1"),
    ]
    notebook = nbformat.writes(v4.new_notebook(cells=cells))
    shown = json.loads(page("notebooks/99_try", notebook))
    described = shown["cells"][2]["metadata"]["mystnb"]["image"]["alt"]
    assert described == "The picture that the cell above draws, about “Now it”"
    assert "mystnb" not in shown["cells"][3]["metadata"]
    assert shown["metadata"]["myst"]["html_meta"]["property=og:description"] == "try it."


def test_what_a_cell_shows_as_markdown_leads_to_pages() -> None:
    output = v4.new_output("display_data", {"text/markdown": "[07](07_replicas.ipynb#Tuned)"})
    cells = [
        v4.new_markdown_cell("# Try\n\n**What you'll do:** try it."),
        v4.new_code_cell("1", outputs=[output]),
    ]
    shown = json.loads(page("notebooks/99_try", nbformat.writes(v4.new_notebook(cells=cells))))
    told = shown["cells"][1]["outputs"][0]["data"]["text/markdown"]
    assert told == "[07](07_replicas.html#Tuned)"


def test_the_first_page_is_the_readme_up_to_its_findings() -> None:
    text = first_screen()
    assert text.startswith("# ") and "](#" not in text and "badge" not in text
    assert "<!-- findings -->" not in text
    shown = page("index", "<!-- first screen -->\n")
    assert text in shown and "property=og:title" in shown.split("---")[1]


def test_every_notebook_is_in_one_group() -> None:
    listed = re.findall(r"^notebooks/(.+)", contents(), re.M)
    assert listed == [path.stem for path in find()]


def test_the_table_has_all_findings() -> None:
    rows = re.findall(r"^\| .*notebooks/.*\|$", findings_table(), re.M)
    assert len(rows) == len(findings(*stored_findings())) > 0
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}  # seven cells


# --- what is in them ---


class Page(HTMLParser):
    """The links, the pictures, the metadata and the places of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file, self.links, self.loaded = file, list[str](), list[str]()
        self.alts, self.ids, self.meta = list[str](), {"", "top"}, dict[str, str]()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        its = {name: value or "" for name, value in attrs}
        self.ids |= {its[name] for name in ("id", "name") if name in its}
        if tag == "a":
            self.links.append(its.get("href", ""))
        elif tag == "meta":
            self.meta[its.get("property") or its.get("name", "")] = its.get("content", "")
        elif tag == "img":
            self.alts.append(its.get("alt", ""))
        if tag in ("img", "script", "iframe") or "stylesheet" in its.get("rel", ""):
            self.loaded.append(its.get("src") or its.get("href", ""))


@pytest.fixture(scope="module")
def pages() -> dict[Path, Page]:
    if not (BUILT / "index.html").exists():
        pytest.skip("The site is not built: make site")
    files = [*BUILT.glob("*.html"), *BUILT.glob("notebooks/*.html")]
    return {file: Page(file) for file in files}


def test_there_is_a_page_for_each_notebook(pages: dict[Path, Page]) -> None:
    wanted = {BUILT / "notebooks" / f"{path.stem}.html" for path in find()}
    assert wanted <= pages.keys()


def test_inner_links_lead_somewhere(pages: dict[Path, Page]) -> None:
    for file, shown in pages.items():
        for link in shown.links + shown.loaded:
            url = urlsplit(link)
            if url.scheme:
                continue
            target = (file.parent / unquote(url.path)).resolve() if url.path else file
            assert target.exists(), (file.name, link)
            if target in pages:
                assert unquote(url.fragment) in pages[target].ids, (file.name, link)


def test_nothing_comes_from_another_host(pages: dict[Path, Page]) -> None:
    for shown in pages.values():
        assert not [url for url in shown.loaded if urlsplit(url).netloc]


def test_no_page_shows_a_path_of_this_machine(pages: dict[Path, Page]) -> None:
    assert not [file.name for file in pages if str(ROOT) in file.read_text(encoding="utf-8")]


def test_pictures_are_described(pages: dict[Path, Page]) -> None:
    alts = [alt for shown in pages.values() for alt in shown.alts]
    assert len(alts) > 10
    assert not [alt for alt in alts if not alt.strip() or alt.endswith((".png", ".svg"))]


def test_a_link_to_a_page_can_be_shown_as_a_card(pages: dict[Path, Page]) -> None:
    for path in [BUILT / "index.html", BUILT / "findings.html", *BUILT.glob("notebooks/*.html")]:
        meta = pages[path].meta
        assert meta["og:title"] and len(meta["og:description"]) > 40, path
        assert meta["og:url"].endswith(path.relative_to(BUILT).as_posix())


# --- how they behave in a browser ---


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(pages: dict[Path, Page]) -> Iterator[str]:
    """The address of the built site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(BUILT)))
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(params=[1280, 390], ids=["desktop", "telephone"])
def tab(request: pytest.FixtureRequest, browser: Any, site: str) -> Iterator[Any]:
    """A browser's tab in which nothing goes wrong and that talks to nobody else."""
    tab = browser.new_page(base_url=site, viewport={"width": request.param, "height": 900})
    wrong: list[str] = []
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda sent: None if sent.url.startswith(site) else wrong.append(sent.url))
    yield tab
    tab.close()
    assert wrong == []


def test_pages_are_no_wider_than_the_window(tab: Any, pages: dict[Path, Page]) -> None:
    wider = {}
    for file in pages:
        tab.goto(file.relative_to(BUILT).as_posix())
        tab.wait_for_load_state("networkidle")
        wider[file.name] = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert not {name: by for name, by in wider.items() if by > 0}


def test_the_first_page(tab: Any) -> None:
    tab.goto("")
    assert tab.locator("article h1").count() == 1
    assert tab.locator("article img").first.evaluate("picture => picture.naturalWidth") > 0
    for group in ["The tour", "The comparison", "What came out"]:
        assert tab.get_by_text(group, exact=True).count()


def test_a_notebook(tab: Any) -> None:
    tab.goto("notebooks/01_install.html")
    assert tab.get_by_role("link", name="Open in Colab").count() == 1
    assert tab.get_by_role("link", name="Open in GitHub Codespaces").count() == 1
    tab.locator("pre.mermaid svg").wait_for()
    assert tab.locator(".cell_input button.copybtn").count()
    assert not tab.locator(".cell_output button.copybtn").count()
    assert tab.locator(".cell_input .k").count()  # what %%writefile writes is highlighted


def test_search_finds_a_word(tab: Any) -> None:
    tab.goto("search.html?q=HAProxy")
    tab.locator("#search-results li").first.wait_for()
    assert tab.locator("#search-results a[href*='notebooks/']").count()


def test_the_findings_can_be_sorted_and_filtered(tab: Any) -> None:
    tab.goto("findings.html")
    rows = tab.locator("#findings tbody tr:visible")
    number = rows.count()

    def column() -> list[str]:
        cells: list[str] = tab.locator("#findings td:nth-child(2)").all_inner_texts()
        return [cell.replace("✓ ", "") for cell in cells]

    head = tab.locator("#findings th").nth(1)
    for order in ["ascending", "descending"]:
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        values = [float(cell.split()[0]) for cell in column() if re.match(r"\d[\d.]*( \(|$)", cell)]
        assert len(values) > 10
        assert values == sorted(values, reverse=order == "descending")
    tab.get_by_role("searchbox", name="Filter the findings").fill("06 batching")
    assert 0 < rows.count() < number
    assert all("batching" in row.lower() for row in rows.all_inner_texts())
    assert tab.locator("#filter output").inner_text() == f"{rows.count()} of {number} findings"


def test_dark_mode_switches_and_the_diagrams_with_it(tab: Any) -> None:
    tab.goto("notebooks/01_install.html")
    tab.locator("pre.mermaid svg .node").first.wait_for()
    background = "getComputedStyle(document.body).backgroundColor"
    box = "getComputedStyle(document.querySelector('pre.mermaid .node :is(rect, path)')).fill"
    before = [tab.evaluate(background), tab.evaluate(box)]
    tab.get_by_role("button", name="Color mode").click()
    tab.get_by_role("button", name="Dark").click()
    for colour, was in zip([background, box], before, strict=True):
        tab.wait_for_function(f"was => {colour} !== was", arg=was)
    assert tab.locator("pre.mermaid svg").evaluate("it => getComputedStyle(it).filter") == "none"


def test_both_halves_are_behind_two_tabs(tab: Any) -> None:
    tab.goto("notebooks/07_replicas_and_workers.html")
    both = tab.locator(".sd-tab-set").first
    mlserver, ray_serve = both.locator(".cell").all()
    assert mlserver.is_visible() and not ray_serve.is_visible()
    both.get_by_text("Ray Serve", exact=True).click()
    assert ray_serve.is_visible() and not mlserver.is_visible()
