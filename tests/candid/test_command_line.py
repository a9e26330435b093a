"""``ic-bridge candid``: what each command prints, and with which code it leaves."""

import json

import pytest
from click.testing import CliRunner

from bridge import candid as c
from bridge.cli import root
from bridge.errors import BridgeError

DID = """
import "types.did";
type List = opt record { head : int; tail : List };
service : {
  place : (Order, opt nat) -> (variant { ok : nat; err : text });
  all : () -> (List) query;
}
"""
TYPES = "type Order = record { id : nat; note : opt text };"


@pytest.fixture
def interface(tmp_path):
    (tmp_path / "types.did").write_text(TYPES)
    path = tmp_path / "shop.did"
    path.write_text(DID)
    return str(path)


def run(*args, stdin=None):
    """The output and the exit code; an error of the package leaves as the command line would."""
    result = CliRunner().invoke(root, ["candid", *args], input=stdin)
    if isinstance(result.exception, BridgeError):
        return str(result.exception), result.exception.exit_code
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output.strip(), result.exit_code


def out(*args, stdin=None):
    text, code = run(*args, stdin=stdin)
    assert code == 0, text
    return text


def test_encode_and_decode_are_inverse(interface):
    values = '(record { id = 5; note = opt "x" }, null)'
    data = out("encode", values, "-d", interface, "-m", "place")
    assert bytes.fromhex(data).startswith(b"DIDL")
    text = out("decode", data, "-d", interface, "-m", "place", "--args")
    assert text == '(record { id = (5 : nat); note = opt "x" }, null)'
    assert out("encode", text, "-d", interface, "-m", "place") == data


def test_values_and_messages_come_from_standard_input_too():
    data = out("encode", "-t", "nat", stdin="(300)")
    assert data == "4449444c00017dac02"
    assert out("decode", "-t", "(nat)", stdin=data) == "(300 : nat)"
    assert out("decode", "-", stdin=data + "\n") == "(300 : nat)"
    assert out("decode", "-", "-t", "(int)", stdin=bytes.fromhex(data)) == "(300)"
    assert out("decode", "0x" + data) == "(300 : nat)"


def test_messages_are_printed_as_asked():
    result = CliRunner().invoke(root, ["candid", "encode", "(1 : nat)", "-f", "raw"])
    assert result.stdout_bytes == b"DIDL\x00\x01\x7d\x01"
    assert out("encode", "(1 : nat)", "-f", "blob") == 'blob "DIDL\\00\\01}\\01"'
    assert json.loads(out("encode", "(1 : nat)", "--json")) == {"hex": "4449444c00017d01"}


def test_types_are_inferred_or_read_from_the_message(interface):
    assert out("encode", "(1)") == "4449444c00017c01"
    data = out("encode", "(record { id = 5; note = null }, null)", "-d", interface, "-m", "place")
    assert out("decode", data) == "(record { 23515 = (5 : nat); 1224749721 = null }, null)".replace(
        "1224749721", str(c.field_id("note"))
    )
    assert "id = (5 : nat)" in out("decode", data, "-d", interface)


def test_decoded_values_as_json(interface):
    data = out(
        "encode",
        '(variant { ok = record { 1; blob "\\01"; principal "aaaaa-aa"; opt 2; inf } })',
    )
    found = json.loads(out("decode", data, "--json"))
    assert found["values"] == [{"24860": [1, "01", "aaaaa-aa", 2, "inf"]}]
    assert found["types"][0].startswith("variant")
    chain = out("encode", "(opt record { head = 1; tail = null })", "-d", interface, "-t", "(List)")
    assert json.loads(out("decode", chain, "-d", interface, "-m", "all", "--json"))["values"] == [
        {"head": 1, "tail": None}
    ]


def test_check_reads_a_file_and_its_imports(interface, tmp_path):
    assert run("check", interface) == ("", 0)
    broken = tmp_path / "broken.did"
    broken.write_text("type A = nat\ntype B = B2;")
    text, code = run("check", str(broken))
    assert code == 2
    assert "line 2" in text
    broken.write_bytes(b"\xff")
    assert run("check", str(broken))[1] == 2


def test_check_compares_two_services(interface, tmp_path):
    new = tmp_path / "new.did"
    new.write_text(DID.replace("opt nat)", "opt nat, opt text)"))
    assert run("check", str(new), interface) == ("", 0)
    text, code = run("check", str(new), interface, "--strict")
    assert code == 1
    assert "not equal" in text
    new.write_text(DID.replace("all :", "any :"))
    text, code = run("check", str(new), interface)
    assert code == 1
    assert "method all" in text
    found = json.loads(run("check", str(new), interface, "--json")[0])
    assert found == {"compatible": False, "faults": [text], "warnings": []}


def test_subtype_answers_by_its_exit_code(interface):
    assert run("subtype", "nat", "int") == ("", 0)
    text, code = run("subtype", "record { a : int }", "record { a : nat }")
    assert code == 1
    assert text == "field a: int is not a subtype of nat"
    assert run("subtype", "List", "opt record { int; List }", "-d", interface)[1] == 0
    assert json.loads(out("subtype", "nat", "nat", "--json")) == {
        "subtype": True,
        "faults": [],
        "warnings": [],
    }
    text, code = run("subtype", "text", "opt nat")
    assert code == 0
    assert text == "warning: text would be read as null where opt nat is expected"
    assert run("subtype", "nat", "natt")[1] == 2


def test_hash_prints_numbers():
    assert out("hash", "id", "☃") == f"23515\n{c.field_id('☃')}"
    assert json.loads(out("hash", "id", "--json")) == {"id": 23515}


def test_random_values_come_again_from_a_seed(interface):
    first = out("random", "-d", interface, "-m", "place", "--seed", "1")
    assert out("random", "-d", interface, "-m", "place", "--seed", "1") == first
    assert out("encode", first, "-d", interface, "-m", "place")
    found = json.loads(out("random", "-t", "(vec nat8, List)", "-d", interface, "--json"))
    assert out("encode", found["text"], "-t", "(vec nat8, List)", "-d", interface) == found["hex"]
    assert out("random", "-d", interface, "-m", "all", "--results", "--depth", "0") == "(null)"


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_values_too_deep_to_be_printed_are_refused(form):
    message = b"DIDL\x01\x6e\x00\x01\x00" + b"\x01" * 3000 + b"\x00"
    text, code = run("decode", *form, stdin=message)
    assert code == 2
    assert "nested too deeply" in text


@pytest.mark.parametrize(
    "args",
    [
        ("encode", "(1", "-t", "(nat)"),
        ("encode", "(1)", "-t", "(nat)", "-m", "place"),
        ("encode", "(1)", "-m", "place"),
        ("decode", "zz"),
        ("decode", "4449444c"),
        ("random",),
        ("hash",),
        ("random", "-t", "(empty)"),
    ],
)
def test_bad_usage_leaves_with_2(args):
    assert run(*args)[1] == 2


def test_an_unknown_method_is_told_with_those_there_are(interface):
    text, code = run("encode", "()", "-d", interface, "-m", "nothing")
    assert code == 2
    assert "all, place" in text


def test_a_fault_of_a_file_is_told_with_the_files_name(tmp_path):
    (tmp_path / "types.did").write_text("type Order = record { id : nta };")
    shop = tmp_path / "shop.did"
    shop.write_text(DID)
    text, code = run("check", str(shop))
    assert code == 2
    assert "types.did: line 1, column 28: the type 'nta' is not defined" in text
    shop.write_text("service : { ? }")
    text, _ = run("decode", "4449444c0000", "-d", str(shop))
    assert text.startswith("shop.did: line 1, column 13: unexpected character '?'")


def test_an_argument_that_the_locale_could_not_read_is_told_as_such():
    text, code = run("encode", '("\udcc3\udca9")')
    assert code == 2
    assert "LC_ALL=C.UTF-8" in text
