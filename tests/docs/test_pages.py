"""The built site in a real browser, wide and narrow: what ``make docs-check`` runs."""

import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import sync_playwright

SITE = os.environ.get("DOCS_SITE")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (360, 1280)

pytestmark = [
    pytest.mark.skipif(SITE is None, reason="there is no built site; make docs-check builds it"),
]

# What a page shows, read where it is shown.
LOOK = """() => ({
  overflow: document.documentElement.scrollWidth - innerWidth,
  wide: [...document.querySelectorAll("article *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1
      && !e.closest("pre, table, .table-wrapper, svg, .mermaid, .highlight"))
    .slice(0, 3).map(e => e.outerHTML.slice(0, 120)),
  ids: [...document.querySelectorAll("[id]")].map(e => e.id),
  links: [...document.querySelectorAll("a[href], img[src], link[href], script[src]")]
    .map(e => e.href || e.src),
  hidden: [...document.querySelectorAll("article .table-wrapper, pre.mermaid")]
    .filter(e => e.scrollWidth > e.clientWidth + 1)
    .map(e => [e.innerText.slice(0, 80), e.classList.contains("more"), e.tabIndex === 0]),
  cards: [...document.querySelectorAll("article table.cards")]
    .map(e => [getComputedStyle(e.tHead).display === "none",
               [...e.querySelectorAll("td:not(:first-child)")]
                 .every(cell => !cell.textContent.trim() || cell.dataset.column)]),
  sequences: [...document.querySelectorAll(".timeline svg:not(.heads)")]
    .map(e => e.getBoundingClientRect().width),
  headings: document.querySelectorAll("article h1").length,
  drawn: [...document.querySelectorAll("pre.mermaid")]
    .map(e => [e.querySelector("svg")?.getBoundingClientRect().width ?? 0,
               e.textContent.includes("Syntax error")]),
  images: [...document.images].map(e => [e.src, e.naturalWidth]),
})"""


DRAWN = "[...document.querySelectorAll('pre.mermaid')].every(e => e.dataset.processed)"


def look(context, paths, heard):
    """What each of the pages shows; what is heard on the way goes to ``heard``."""
    page = context.new_page()
    page.on("console", lambda message: heard.append((page.url, message.text)))
    page.on("pageerror", lambda error: heard.append((page.url, str(error))))

    def asked(request):
        if not request.url.startswith(("file:", "data:")):
            heard.append((page.url, request.url))

    page.on("request", asked)
    for path in paths:
        page.goto(path.as_uri())
        if page.locator("pre.mermaid").count():
            page.wait_for_function(DRAWN)
        yield path, page.evaluate(LOOK)


@pytest.fixture(scope="module")
def seen():
    """What each page shows at each width, and what was heard on the way."""
    paths = sorted(Path(SITE).resolve().rglob("*.html"))
    shown, heard = {}, []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in WIDTHS:
            context = running.new_context(viewport={"width": width, "height": 800})
            shown |= {(path, width): found for path, found in look(context, paths, heard)}
            context.close()
        running.close()
    return shown, heard


def test_no_page_is_wider_than_its_window(seen):
    shown, _ = seen
    wide = {
        (path.name, width): (found["overflow"], found["wide"])
        for (path, width), found in shown.items()
        if found["overflow"] > 0 or found["wide"]
    }
    assert wide == {}


def test_what_scrolls_says_so_and_can_be_scrolled_by_keys(seen):
    shown, _ = seen
    hidden = [one for found in shown.values() for one in found["hidden"]]
    assert len(hidden) > 10
    assert [words for words, faded, reached in hidden if not (faded and reached)] == []


def test_a_table_of_text_is_cards_where_there_is_little_room_each_cell_with_its_columns_name(seen):
    shown, _ = seen
    for width in WIDTHS:
        cards = [one for (_, at), found in shown.items() if at == width for one in found["cards"]]
        assert len(cards) > 20
        assert {without_head for without_head, _ in cards} == {width < 500}
        assert all(named for _, named in cards)


def test_message_sequences_are_as_wide_as_they_can_be_read(seen):
    shown, _ = seen
    for width in WIDTHS:
        widths = [
            one for (_, at), found in shown.items() if at == width for one in found["sequences"]
        ]
        assert len(widths) == 5
        assert min(widths) > 300  # of 402 units: text of 13 is 10 pixels or more


def test_no_page_complains_or_asks_another_machine(seen):
    _, heard = seen
    assert heard == []


def test_every_link_that_stays_in_the_site_leads_somewhere(seen):
    shown, _ = seen
    ids = {path: set(found["ids"]) for (path, _), found in shown.items()}
    lost = set()
    for (path, _), found in shown.items():
        for link in found["links"]:
            target = urlsplit(link)
            if target.scheme != "file":
                continue
            place = Path(unquote(target.path))
            fragment = unquote(target.fragment)
            there = place.is_file() and (not fragment or fragment in ids.get(place, {fragment}))
            if not there:
                lost.add((path.name, link))
    assert lost == set()


def test_every_page_has_a_title_and_its_pictures_are_drawn(seen):
    shown, _ = seen
    diagrams = 0
    for (path, width), found in shown.items():
        assert found["headings"] == 1 or path.name in {"search.html", "genindex.html"}, path
        for drawn, failed in found["drawn"]:
            assert drawn > 50, (path, width)
            assert not failed, path
            diagrams += 1
        assert all(natural for _, natural in found["images"]), path
    assert diagrams > len(WIDTHS)
