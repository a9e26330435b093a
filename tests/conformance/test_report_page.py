"""The page of a report in a real browser: wide and narrow, by mouse and by keys, offline."""

import dataclasses
import re
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from bridge.conformance import reports
from bridge.conformance.results import Implementation

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; make browser installs it"
)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser, sample_report, tmp_path):
    """Opens the page of a report; a word on the console, a fault or a request fails the test."""
    contexts, heard = [], []

    def opened(report=sample_report, *, width=1280, address="", scheme="light"):
        path = tmp_path / "report.html"
        path.write_text(reports.to_page(report), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: heard.append(request.url))
        url = path.as_uri() + address
        page.goto(url)
        heard.remove(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert heard == []


def cell(page, scenario, receiver="theirs", dialect="maf"):
    label = f"{scenario}, motoko to {receiver}, {dialect}: "
    return page.locator(f'button.mark[aria-label^="{label}"]')


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


# --- A cell ---------------------------------------------------------------------------------------


def test_a_cell_opens_what_was_expected_and_seen_its_danger_and_its_timeline(open_page):
    page = open_page()
    cell(page, "S6").click()
    dialog = page.locator("dialog")
    expect(dialog).to_be_visible()
    assert dialog.locator("h2").inner_text().split() == ["S6", "FIN", "lost", "[Outgoing", "4]"]
    words = dialog.inner_text()
    for said in (
        "motoko → theirs · maf",
        "the next ACK is echoed with FIN",
        "processed once",
        'the handler ran 2 times <script>alert("&")</script>',
        "the ACK goes on for ever",
        "Money may move twice.",
        "Keep a tombstone.",
        "--scenario S6 --seed 7",
        "0002 NEW executed",
        "0.2 s of real time",
    ):
        assert said in words
    picture = dialog.locator(".drawing svg")
    assert picture.count() == 1
    drawn = picture.locator("text").all_text_contents()
    assert {"flow 1", "motoko", "theirs", "NEW · 5 B · lost", "ACK · 12 B", "330 s"} <= set(drawn)
    box = picture.bounding_box()
    assert box["width"] > 300
    assert box["height"] > 150


@pytest.mark.parametrize("width", [320, 1280])
def test_a_cell_that_was_not_judged_in_all_is_marked_and_listed_and_says_why(
    open_page, sample_report, width
):
    why = "somebody-elses-implementation cannot be asked how often its handler ran"
    passed = sample_report.cells[0]
    marked = dataclasses.replace(passed, unjudged=(why,))
    page = open_page(
        dataclasses.replace(sample_report, cells=(marked, *sample_report.cells[1:])), width=width
    )
    assert overflow(page) == 0
    section = page.locator("section", has=page.locator("#in-part"))
    section.locator("summary").click()
    assert overflow(page) == 0
    section.locator("button.link").click()
    dialog = page.locator("dialog")
    expect(dialog).to_be_visible()
    words = dialog.inner_text()
    assert why in words
    assert "passed, but not judged in all" in words
    page.keyboard.press("Escape")
    mark = page.locator('button.mark[aria-label*="not judged in all"]')
    assert mark.all_inner_texts() == ["✓°"]


def test_escape_closes_a_cell_and_the_focus_is_where_it_was(open_page):
    page = open_page()
    cell(page, "S6").click()
    expect(page.locator("#cell-title")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    expect(cell(page, "S6")).to_be_focused()


def test_steps_lead_from_cell_to_cell_and_end_at_the_last(open_page):
    page = open_page()
    first = page.locator("button.mark").first
    first.click()
    back, on = page.locator('[data-step="-1"]'), page.locator('[data-step="1"]')
    where = page.locator(".where")
    expect(back).to_be_disabled()
    begin = where.inner_text()
    on.click()
    expect(where).not_to_have_text(begin)
    second = where.inner_text()
    page.keyboard.press("ArrowRight")
    expect(where).to_have_text("motoko → theirs · unified")
    page.keyboard.press("ArrowLeft")
    expect(where).to_have_text(second)
    page.keyboard.press("ArrowLeft")
    expect(where).to_have_text(begin)


def test_an_address_leads_to_its_cell(open_page):
    page = open_page(address="#S6/theirs/theirs/unified")
    expect(page.locator(".where")).to_have_text("theirs → theirs · unified")
    page.locator(".close").click()
    page.wait_for_url(lambda url: "#" not in url)
    cell(page, "F1").click()
    page.wait_for_url("**#F1/motoko/theirs/maf")


def test_the_command_that_plays_it_again_is_copied(open_page):
    page = open_page(address="#R1/theirs/theirs/maf")
    page.locator(".copy").click()
    page.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(
        "ic-bridge conformance --sender theirs --receiver theirs --dialect maf"
    )


def test_of_many_flows_the_longest_are_drawn_and_the_rest_is_told(open_page, sample_report):
    first = sample_report.cells[0]
    timeline = [
        dataclasses.replace(record, flow=f"flow {number}")
        for number in range(30)
        for record in first.timeline * (20 if number == 7 else 1)
    ]
    cells = (dataclasses.replace(first, timeline=tuple(timeline)), *sample_report.cells[1:])
    page = open_page(
        dataclasses.replace(sample_report, cells=cells), address="#F1/motoko/motoko/unified"
    )
    drawing = page.locator(".drawing")
    expect(drawing.locator("svg")).to_have_count(4)
    assert "flow 7" in drawing.locator(".title").all_text_contents()
    assert "Of 30 flows the 4 with the most messages" in drawing.inner_text()
    assert "the first 40 messages" in drawing.inner_text()


# --- The matrix -----------------------------------------------------------------------------------


def test_arrow_keys_move_through_the_matrix_and_enter_opens(open_page):
    page = open_page()
    page.locator("#matrix").scroll_into_view_if_needed()
    page.locator("button.mark[tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "End", "Home", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.get_by_label("S6, motoko to motoko, unified: passed")).to_be_focused()
    expect(page.locator("button.mark[tabindex='0']")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_be_visible()


def test_only_failed_cells_are_shown_when_asked_for(open_page):
    page = open_page()
    page.locator(".chip.failed").click()
    rows = page.locator(".matrix tbody tr:not(.group):visible")
    expect(rows).to_have_count(1)
    expect(rows.locator("button.mark:not(.off)")).to_have_count(4)
    page.locator(".chip").first.click()
    expect(rows).to_have_count(4)


def test_a_pair_is_shown_alone_when_chosen(open_page):
    page = open_page()
    page.get_by_label("theirs → motoko: 8 passed").click()
    expect(page.locator("button.mark:visible")).to_have_count(8)
    page.get_by_label("theirs → motoko: 8 passed").click()
    expect(page.locator("button.mark:visible")).to_have_count(32)


def test_a_danger_leads_to_the_cells_that_show_it(open_page):
    page = open_page()
    page.get_by_text("Seen in 4 cells").click()
    page.get_by_role("button", name=re.compile("S6 theirs → theirs · maf")).click()
    expect(page.locator(".where")).to_have_text("theirs → theirs · maf")


# --- On every screen ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(open_page, width, scheme):
    page = open_page(width=width, scheme=scheme)
    assert overflow(page) == 0
    page.locator("button.mark:visible").nth(3).click()
    dialog = page.locator("dialog")
    expect(dialog).to_be_visible()
    assert overflow(page) == 0
    assert dialog.evaluate("node => node.scrollWidth - node.clientWidth") == 0


def test_a_crowd_with_long_names_fits_a_phone(open_page, sample_report):
    name = "somebody-elses-implementation-of-the-protocol"
    crowd = [f"{name}-{number}" for number in range(7)]
    model = sample_report.cells[4]
    report = dataclasses.replace(
        sample_report,
        implementations=tuple(
            Implementation(who, "x" * 200, "both", ("maf",), "y" * 200, "own", "unsupported")
            for who in crowd
        ),
        cells=tuple(
            dataclasses.replace(
                model,
                key=dataclasses.replace(model.key, sender=sender, receiver=receiver),
                observed="z" * 400,
                rerun="ic-bridge conformance --sender " + "w" * 200,
                log=("v" * 300,),
            )
            for sender in crowd
            for receiver in crowd
        ),
    )
    page = open_page(report, width=360)
    assert overflow(page) == 0
    page.locator("button.mark:visible").first.click()
    expect(page.locator("dialog")).to_be_visible()
    assert page.locator("dialog").evaluate("node => node.scrollWidth - node.clientWidth") == 0


def test_on_a_phone_one_pair_is_shown_and_fingers_hit_its_cells(open_page):
    page = open_page(width=360)
    marks = page.locator("button.mark:visible")
    expect(marks).to_have_count(8)
    expect(page.locator('.pair[aria-pressed="true"]')).to_have_count(1)
    assert marks.first.bounding_box()["width"] >= 36
    page.get_by_label("theirs → motoko: 8 passed").click()
    expect(marks).to_have_count(8)
    expect(page.locator(".matrix th.who:visible")).to_have_text(re.compile(r"theirs\s*→\s*motoko"))


def luminance(colour):
    def linear(channel):
        part = int(channel) / 255
        return part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(c) for c in re.findall(r"\d+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(open_page, scheme):
    page = open_page(scheme=scheme, address="#S6/motoko/theirs/maf")
    colours = page.evaluate(
        """() => {
          const ground = (node) => {
            for (; node; node = node.parentElement) {
              const found = getComputedStyle(node).backgroundColor;
              if (!/rgba\\(.*, 0(\\.\\d+)?\\)/.test(found)) return found;
            }
          };
          const wanted = ".lede, .hint, .mark.passed, .mark.failed:not(.half), .mark.error, " +
            ".chip .n, .fact h3, .fact p, .card p, .where, .matrix tbody th span, footer p";
          return [...document.querySelectorAll(wanted)].map(
            (node) => [node.className, getComputedStyle(node).color, ground(node)]);
        }"""
    )
    assert len(colours) > 40
    for name, ink, paper in colours:
        dark, bright = sorted((luminance(ink), luminance(paper)))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (name, ink, paper)


def test_the_page_asks_for_nothing_and_carries_all_it_needs(sample_report):
    page = reports.to_page(sample_report)
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert "url(http" not in page
    assert "<script>alert" not in page


def test_one_report_makes_one_page(sample_report):
    assert reports.to_page(sample_report) == reports.to_page(sample_report)
