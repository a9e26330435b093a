"""The published package: the same bytes each time, all that it needs inside, and it works alone."""

import email
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from bridge import __version__

PROJECT = Path(__file__).resolve().parents[2]

# Building and installing happens once, in whichever test comes first.


@pytest.fixture
def names(published):
    with zipfile.ZipFile(published.wheel) as archive:
        return set(archive.namelist())


@pytest.fixture
def metadata(published):
    with zipfile.ZipFile(published.wheel) as archive:
        text = archive.read(f"ic_bridge-{__version__}.dist-info/METADATA").decode()
    return email.message_from_string(text)


# --- What is built ------------------------------------------------------------------------------


def test_two_builds_give_the_same_bytes(published) -> None:
    assert published.sdist.read_bytes() == published.sdist_again.read_bytes()


def test_the_source_distribution_gives_the_very_wheel_that_the_tree_gives(published) -> None:
    # The released wheel was built from the source distribution, the other one from the tree.
    assert published.wheel.read_bytes() == published.wheel_of_tree.read_bytes()


def test_the_wheel_holds_the_package_its_data_and_nothing_else(names) -> None:
    top = {name.split("/")[0] for name in names}
    assert top == {"bridge", f"ic_bridge-{__version__}.dist-info"}
    assert "bridge/py.typed" in names
    assert f"ic_bridge-{__version__}.dist-info/licenses/LICENSE" in names
    for folder, packaged in (
        ("candid", "candid"),
        ("motoko_reference/wasm", "motoko"),
        ("rust_reference/wasm", "rust"),
    ):
        for file in (PROJECT / folder).iterdir():
            if file.suffix in (".did", ".wasm") or file.name == "SHA256SUMS":
                assert f"bridge/_data/{packaged}/{file.name}" in names
    for file in (PROJECT / "bridge").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert file.relative_to(PROJECT).as_posix() in names


def test_the_source_distribution_holds_all_that_the_commands_need(published) -> None:
    with tarfile.open(published.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        *("LICENSE", "Makefile", "README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md"),
        *("make/dist.mk", "tests/conftest.py", "requirements/constraints.txt", ".ci/run"),
        *("motoko_reference/mops.toml", "rust_reference/Cargo.lock", "docs/protocol.md"),
    ):
        assert name in held, name
    assert not [name for name in held if ".venv" in name or "node_modules" in name]


def test_the_metadata_say_what_it_is(metadata) -> None:
    assert metadata["Name"] == "ic-bridge"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier")


def targets(text):
    """What the links and pictures of a page in Markdown point to."""
    for block in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        for token in block.children or []:
            yield from (token.attrs[name] for name in ("href", "src") if name in token.attrs)


def test_the_page_of_a_registry_has_no_link_to_what_does_not_lie_beside_it(metadata) -> None:
    page, readme = metadata.get_payload(), (PROJECT / "README.md").read_text(encoding="utf-8")
    assert not [target for target in targets(page) if not target.startswith(("https://", "#"))]
    linked = {target for target in targets(readme) if not target.startswith(("http", "#"))}
    told = set(re.findall(r"`([^`\n]+)`", page))
    assert {name for name in linked if name.endswith(".md")} <= told  # instead, by its path
    headings = re.findall(r"^## .*$", readme, re.MULTILINE)
    assert headings == re.findall(r"^## .*$", page, re.MULTILINE)


def test_every_extra_is_there_and_all_of_them_are_in_all(metadata) -> None:
    needs = {extra: set() for extra in metadata.get_all("Provides-Extra")}
    for line in metadata.get_all("Requires-Dist"):
        requirement, _, extra = line.partition("; extra == ")
        if extra:
            needs[extra.strip("'")].add(requirement)
    together = needs.pop("all")
    assert all(needs.values())
    assert together == set().union(*needs.values())


# --- What is installed --------------------------------------------------------------------------


def test_the_command_and_the_package_come_from_the_environment(run_outside, published) -> None:
    assert run_outside("ic-bridge", "--version").split()[-1] == __version__
    told = run_outside("python", "-c", "import bridge; print(bridge.__file__)").strip()
    assert Path(told).is_relative_to(published.bin.parent)


def test_the_demo_runs(run_outside) -> None:
    run_outside("ic-bridge", "demo", "--seed", "1")


TYPED = """
from importlib.resources import files
from bridge import MemoryStore, SQLiteStore, contracts

assert (files("bridge") / "py.typed").is_file()
assert "asyncFlow" in contracts.interface("unified")
assert contracts.motoko_canister("receiver").startswith(b"\\0asm")
assert contracts.rust_canister("mailbox").startswith(b"\\0asm")
"""


def test_the_packaged_data_are_found(run_outside) -> None:
    run_outside("python", "-W", "error", "-c", TYPED)


PROJECT_OF_A_USER = """
from ic.identity import Identity  # ic-py's, of the extra of that name

def test_a_canister(ic_canister, ic_agent):
    theirs = Identity()
    agent = ic_agent(theirs)
    assert str(agent.principal) == str(theirs.sender())
    mailbox = ic_canister("rust:mailbox", {"owner": agent.principal}, agent=agent)
    assert mailbox.mailbox_status()["waiting"] == 0

def test_another(ic_canister):
    assert ic_canister("echo").asyncFlow_status()["version"]
"""


def test_a_users_own_tests_run_with_the_plugin(run_outside, tmp_path) -> None:
    (tmp_path / "test_mine.py").write_text(PROJECT_OF_A_USER)
    assert "2 passed" in run_outside("pytest", "-q", "-p", "no:cacheprovider")
