"""An implementation is data: five lines bring a stranger along, and a mistake names its field."""

from pathlib import Path

import pytest

from bridge.conformance import entries
from bridge.errors import UsageError

FIVE_LINES = """
name = "theirs"
wasm = "theirs.wasm"
role = "receiver"
dialects = ["maf"]
"""


def parse(text, place=Path("/somewhere")):
    return entries.parse(text, place=place, called="theirs.toml")


def test_five_lines_are_enough():
    entry = parse(FIVE_LINES)
    assert (entry.receives, entry.sends) == (True, False)
    assert entry.wasm == {"maf": Path("/somewhere/theirs.wasm")}
    assert entry.asked == "nothing"
    assert entry.first_retry == 330 * 10**9


def test_only_who_has_our_contracts_is_installed_with_our_settings():
    assert parse(FIVE_LINES).install == "()"
    assert parse(FIVE_LINES + 'asked = "watch"\n').install == "reference"
    assert parse('name = "x"\ndialects = ["maf"]\ncommand = ["x"]\n').install == "reference"


@pytest.mark.parametrize("name", entries.SHIPPED)
def test_the_package_brings_its_own(name):
    entry = entries.shipped(name)
    assert entry.name == name
    assert (entry.sends, entry.receives) == (True, True)
    assert entry.dialects == ("unified", "maf", "bounty", "positional")


def test_each_dialect_may_have_a_module_of_its_own():
    entry = parse(
        'name = "x"\ndialects = ["unified", "maf"]\n'
        '[wasm]\nunified = "a.wasm"\nmaf = "b.wasm"\n[lacks]\nG1 = "no saga"\n'
    )
    assert entry.wasm["maf"] == Path("/somewhere/b.wasm")
    assert entry.lacks == {"G1": "no saga"}


def test_payloads_are_texts_or_blobs():
    entry = parse(
        FIVE_LINES + """requests = ["pay 5", 'blob "\\00\\ff"']\nresponse = 'blob "ok"'\n"""
    )
    assert entry.requests == (b"pay 5", b"\x00\xff")
    assert entry.response == b"ok"
    assert (parse(FIVE_LINES).requests, parse(FIVE_LINES).response) == ((), None)


def test_a_canister_may_stand_on_a_network_of_its_own():
    text = 'name = "x"\ndialects = ["maf"]\ncanister = "aaaaa-aa"\n'
    entry = parse(text + 'url = "http://127.0.0.1:4943/"\n')
    assert entry.url == "http://127.0.0.1:4943"
    assert entry.source == "aaaaa-aa at http://127.0.0.1:4943"
    assert parse(text).url == ""


@pytest.mark.parametrize(
    ("change", "field", "why"),
    [
        ('requests = ["one"]', "requests", "must be at least two"),
        ('requests = ["one", "one"]', "requests", "must be at least two"),
        ("requests = ['blob 5', \"one\"]", "requests", "is no Candid text"),
        ('response = "blob null"', "response", "is no Candid text"),
        ('url = "http://127.0.0.1:4943"', "url", "needs canister"),
        ('url = "127.0.0.1"', "url", "is no network's"),
        ('name = ""', "name", "is missing"),
        ('name = "a/b"', "name", "cannot be"),
        ("name = 7", "name", "must be a text, not 7"),
        ("dialects = []", "dialects", "is missing"),
        ('dialects = "maf"', "dialects", "must be a list"),
        ("dialects = [1]", "dialects", "must be a list of texts"),
        ('dialects = ["klingon"]', "dialects", "names 'klingon', which is none"),
        ('role = "boss"', "role", "cannot be 'boss'"),
        ('canister = "aaaaa"', "canister", "is no canister id"),
        ('command = ["x"]', "wasm", "exactly one of the four"),
        ('first_retry = "soon"', "first_retry", "is no duration"),
        ('first_retry = "0 s"', "first_retry", "is no duration"),
        ("attempts = 0", "attempts", "from 1 to 1000"),
        ("attempts = true", "attempts", "must be a whole number"),
        ('asked = "politely"', "asked", "cannot be 'politely'"),
        ('application = "game"', "application", "cannot be 'game'"),
        ('application = { bounty = "echo" }', "application.bounty", "not among its dialects"),
        ('install = "(("', "install", "is no Candid text"),
        ('install_fields = "7 : nat"', "install_fields", "must be a record"),
        ("send = { arguments = '()' }", "send.method", "is missing"),
        ("send = { method = 'x', argument = '()' }", "send.argument", "is no field"),
        ("send = 3", "send", "must be a table"),
        ('answers = { handled = { method = "n" } }', "answers", "needs asked to be own"),
        ('answers = { weather = { method = "n" } }', "answers.weather", "cannot be asked"),
        ("lacks = { F1 = 7 }", "lacks.F1", "must be a text"),
        ('variants = { next = "x.wasm" }', "variants.next", "is none"),
        ('variants = { priced = { bounty = "x" } }', "variants.priced.bounty", "not among"),
        (
            "variants = { priced = { install_fields = '7' } }",
            "variants.priced.install_fields",
            "record",
        ),
        ("colour = 1", "colour", "is no field of an entry"),
    ],
)
def test_a_mistake_names_its_field(change, field, why):
    name = change.partition(" ")[0]
    lines = [line for line in FIVE_LINES.splitlines() if not line.startswith(f"{name} ")]
    with pytest.raises(UsageError) as caught:
        parse("\n".join([*lines, change]))
    assert f"theirs.toml: {field} " in caught.value.message
    assert why in str(caught.value)


def test_a_variant_is_another_build_or_the_same_one_installed_otherwise(tmp_path):
    own = {}
    for file in ("own", "unified", "maf"):
        own[file] = file.encode()
        (tmp_path / f"{file}.wasm").write_bytes(own[file])
    entry = parse(
        'name = "x"\ndialects = ["unified", "maf"]\nwasm = "own.wasm"\n[variants]\n'
        'previous = "unified.wasm"\n'
        'priced = { maf = "maf.wasm" }\n'
        "sender = { install_fields = 'record { alone = true }' }\n",
        tmp_path,
    )
    spoken = ("unified", "maf")
    assert [entry.variant("previous", dialect) for dialect in spoken] == [own["unified"], None]
    assert [entry.variant("priced", dialect) for dialect in spoken] == [None, own["maf"]]
    assert [entry.variant("sender", dialect) for dialect in spoken] == [own["own"], own["own"]]
    assert entry.variants["sender"].install_fields == "record { alone = true }"
    assert entry.variant("receiver", "maf") is None


def test_what_is_installed_already_has_no_other_way_to_be_installed():
    entry = parse(
        'name = "x"\ndialects = ["maf"]\ncanister = "rrkah-fqaaa-aaaaa-aaaaq-cai"\n'
        "variants = { sender = { install_fields = 'record { alone = true }' } }\n"
    )
    assert entry.variant("sender", "maf") is None


def test_what_is_no_toml_says_where():
    with pytest.raises(UsageError, match="line 1"):
        parse("name theirs")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.toml"):
        entries.load(tmp_path / "nowhere.toml")


def test_a_module_that_is_not_there_is_named_when_it_is_wanted():
    with pytest.raises(UsageError, match=r"theirs\.wasm"):
        parse(FIVE_LINES).module("maf")


def test_a_command_line_names_a_shipped_one_a_file_or_a_bare_module(tmp_path):
    file = tmp_path / "theirs.toml"
    file.write_text(FIVE_LINES)
    assert entries.of("rust", role="both").name == "rust"
    assert entries.of(str(file), role="both").name == "theirs"
    module = tmp_path / "mine.wasm"
    module.touch()
    bare = entries.of(str(module), role="receiver", dialects=("maf",))
    assert (bare.name, bare.role, bare.dialects) == ("mine", "receiver", ("maf",))
    with pytest.raises(UsageError, match="--dialect"):
        entries.of("mine.wasm", role="receiver")
    with pytest.raises(UsageError, match="is no implementation"):
        entries.of("nobody", role="receiver")


def test_an_entry_states_that_it_has_one_role_alone_and_a_bare_module_states_nothing(tmp_path):
    module = tmp_path / "mine.wasm"
    module.touch()
    bare = entries.of(str(module), role="receiver", dialects=("maf",))
    stated = parse(FIVE_LINES)
    assert (stated.role, stated.has_only("receiver")) == ("receiver", True)
    assert (bare.has_only("receiver"), bare.sends) == (False, False)


def test_a_bare_module_that_is_not_there_is_named_at_once():
    with pytest.raises(UsageError, match=r"there is no file some/where/mine\.wasm"):
        entries.of("some/where/mine.wasm", role="receiver", dialects=("maf",))
