"""The pages that are printed from the code are what the code says."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
BRIDGE = TESTS.parent / "bridge"
DOCS = TESTS.parent / "docs"


@pytest.fixture(autouse=True, scope="module")
def _site_on_path():
    sys.path.insert(0, str(DOCS / "_site"))
    yield
    sys.path.remove(str(DOCS / "_site"))


@pytest.fixture(scope="module")
def generated(_site_on_path):
    return importlib.import_module("generated")


@pytest.fixture(scope="module")
def stage(_site_on_path):
    return importlib.import_module("stage")


@pytest.fixture(scope="module")
def declarations(_site_on_path):
    return importlib.import_module("declarations")


def test_the_sites_order_names_each_page_once_and_no_other(stage):
    pages = {page.removesuffix(".md") for page in stage.written()}
    pages |= {"reference/python", "modules"}  # which stand in no file
    assert ":caption: Reference" in stage.navigation(pages)
    with pytest.raises(SystemExit, match=r"without a place in the site's order: .'new'"):
        stage.navigation(pages | {"new"})
    with pytest.raises(SystemExit, match=r"names pages that are not there: .'protocol'"):
        stage.navigation(pages - {"protocol"})


def test_the_page_of_contracts_has_each_of_them_and_pages_that_name_one_lead_to_it(
    generated, stage
):
    files = sorted((TESTS.parent / "candid").glob("*.did"))
    readme = (TESTS.parent / "candid" / "README.md").read_text(encoding="utf-8")
    page = generated.contracts(readme)
    for file in files:
        text = file.read_text(encoding="utf-8").rstrip()
        assert f"## `{file.name}`\n\n```candid\n{text}\n```\n" in page
        assert f"[`{file.name}`]({file.name})" in readme, "the table has no row of it"
    assert len(files) > 10
    told = "`candid/watch.did`, [types](../candid/unified.did)"
    assert stage.in_site(told, "docs/page.md", "page.md") == (
        "[`watch.did`](reference/contracts.md#watchdid), [types](reference/contracts.md#unifieddid)"
    )


def test_a_drawn_trace_becomes_part_of_the_page_with_every_word_of_it(stage):
    drawing = (DOCS / "images" / "demo.svg").read_text(encoding="utf-8")
    page = stage.in_site('![What is "seen"](images/demo.svg)\n', "docs/page.md", "page.md")
    assert page.startswith(
        '<div class="timeline" role="img" aria-label="What is &quot;seen&quot;">'
    )
    assert "\n" not in page.rstrip()  # a blank line would end it
    words = re.compile(r"<text[^>]*>([^<]*)</text>")
    assert len(words.findall(page)) > 30
    assert words.findall(page) == words.findall(drawing)
    with pytest.raises(SystemExit, match="no drawn trace"):
        stage.panels("nothing", "<svg></svg>")


def test_the_python_pages_list_each_name_once_and_lead_to_where_it_is_told(generated):
    pages = generated.python_api()
    top = pages.pop("reference/python.md")
    told = [
        name
        for page in pages.values()
        for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)$", page, re.MULTILINE)
    ]
    assert len(told) == len(set(told)) > 50
    assert re.findall(r"\{py:obj\}`~([\w.]+)`", top) == told
    assert {f"reference/{place}" for place in re.findall(r"\]\((python/.+?)\)", top)} == set(pages)


# --- Public names of the two libraries ------------------------------------------------------------


def test_the_page_of_the_motoko_library_has_what_canisters_use_and_no_internals(generated):
    page = generated.motoko_api()
    for name in (
        "Node",
        "receiver",
        "sender",
        "both",
        "upToDate",
        "Reply",
        "Handler",
        "OutboxEntry",
    ):
        assert f"### {name}\n" in page
    assert "public func send(to : Principal, payload : Blob) : async* Outcome<Nat>\n```" in page
    assert "public query ({ caller }) func asyncFlow_status() : async Watch.Status" in page
    assert "public func drop(id : Nat)" in page  # which has no comment of its own
    assert "public let none : Application\n" in page  # declared elsewhere, passed on
    for inside in ("### InFlight", "seenTo", "postpone"):
        assert inside not in page


def test_the_page_of_the_rust_crate_has_what_it_exports_and_no_internals(generated):
    page = generated.rust_api()
    for name in ("Application", "start", "send_as", "Memories", "read_outbox", "endpoint!"):
        assert f"### {name}\n" in page
    signature = "pub fn send_as(\n    id: u128,\n    to: Principal,\n"
    assert signature in page
    assert "pub const fn receiver(handler: fn(&Request) -> Reply) -> Application" in page
    assert "## `async_flow::policy`" in page
    for inside in ("pub(crate)", "fn seen_to", "fn take_work", "mod tests"):
        assert inside not in page


RUST = """\
//! What it is.

/// A thing.
///
/// # Errors
/// None.
#[derive(Clone)]
pub struct Thing<T> {
    /// Seen.
    pub seen: Vec<(T, u8)>,
    hidden: u8,
}

pub struct Bare(u8);

impl<T: Ord> Thing<T> {
    /// Makes it; a string may hold "{".
    pub fn made(of: [u8; 2], and: &str) -> Result<Thing<T>, String>
    where
        T: Copy,
    {
        if and == "{" { inner() }
    }

    fn inner() {}

    pub(crate) fn for_us() {}
}

impl Clone for Bare {
    pub fn never() {}
}
"""


def test_a_declaration_ends_where_its_body_begins(declarations, tmp_path):
    (tmp_path / "thing.rs").write_text(RUST)
    thing, bare = declarations.rust(tmp_path / "thing.rs")
    assert "pub seen: Vec<(T, u8)>," in thing.code
    assert "hidden" not in thing.code
    assert thing.comment == "A thing.\n\n# Errors\nNone."
    (made,) = thing.members
    assert made.code == (
        "pub fn made(of: [u8; 2], and: &str) -> Result<Thing<T>, String>\nwhere\n    T: Copy,"
    )
    assert (bare.name, bare.members) == ("Bare", [])
    assert declarations.opening_comment(tmp_path / "thing.rs") == "What it is."


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["settings.md", "command-line.md", "errors.md"])
def test_a_kept_page_is_what_the_code_prints(generated, page):
    kept = (DOCS / "reference" / page).read_text(encoding="utf-8")
    assert kept == generated.KEPT[page](), "rewrite it with: make docs-reference"


def test_every_error_class_tells_its_cause_and_cure(generated):
    for error in generated.error_classes():
        cause, cure = generated.cause_and_cure(error)
        assert cause.endswith("."), error
        if error.__name__ != "BridgeError":  # which is what all are
            assert cure.endswith("."), error


def test_every_error_class_is_provoked_by_a_test_that_reads_its_text(generated):
    read = {}
    for file in TESTS.rglob("test_*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr == "raises"
                and any(keyword.arg == "match" for keyword in call.keywords)
            ):
                for name in ast.walk(call.args[0]):
                    if isinstance(name, ast.Name | ast.Attribute):
                        read[getattr(name, "id", None) or getattr(name, "attr", None)] = file
    code = "".join(file.read_text(encoding="utf-8") for file in BRIDGE.rglob("*.py"))
    classes = {one.__name__ for one in generated.error_classes()}
    raised = {name for name in classes if f"{name}(\n" in code or f"raise {name}(" in code}
    assert classes - raised == {"TrustError"}  # whose subclasses say what is not to be trusted
    assert raised - read.keys() == set()
