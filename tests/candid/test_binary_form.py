"""The binary form, section by section: what bytes mean, and which bytes mean nothing."""

import math
import struct

import pytest

from bridge import candid as c


def message(types_and_values, table="00", count=1):
    return b"DIDL" + bytes.fromhex(table) + bytes([count]) + bytes.fromhex(types_and_values)


def read(types, data):
    return c.decode(c.parse_types(types), data)


@pytest.mark.parametrize(
    ("type_", "code", "body", "value"),
    [
        ("null", "7f", "", None),
        ("bool", "7e", "00", False),
        ("bool", "7e", "01", True),
        ("nat", "7d", "00", 0),
        ("nat", "7d", "7f", 127),
        ("nat", "7d", "8001", 128),
        ("nat", "7d", "ff7f", 16383),
        ("nat", "7d", "808001", 16384),
        ("nat", "7d", "80808080808080808080808080808080808004", 1 << 128),
        ("int", "7c", "3f", 63),
        ("int", "7c", "c000", 64),
        ("int", "7c", "40", -64),
        ("int", "7c", "bf7f", -65),
        ("int", "7c", "7f", -1),
        ("int", "7c", "8080808080808080807f", -(1 << 63)),
        ("nat8", "7b", "ff", 255),
        ("nat16", "7a", "0102", 0x0201),
        ("nat32", "79", "01020304", 0x04030201),
        ("nat64", "78", "0102030405060708", 0x0807060504030201),
        ("int8", "77", "80", -128),
        ("int16", "76", "feff", -2),
        ("int32", "75", "ffffff7f", 2**31 - 1),
        ("int64", "74", "0000000000000080", -(2**63)),
        ("float32", "73", "0000c03f", 1.5),
        ("float64", "72", "000000000000f8bf", -1.5),
        ("text", "71", "00", ""),
        ("text", "71", "04e29883" + "61", "☃a"),
        ("reserved", "70", "", None),
        ("principal", "68", "0100", c.Principal(b"")),
        ("principal", "68", "0102abcd", c.Principal(b"\xab\xcd")),
    ],
)
def test_each_primitive_value_has_its_bytes(type_, code, body, value):
    data = message(code + body)
    assert read(f"({type_})", data) == [value]
    assert c.encode(c.parse_types(f"({type_})"), [value]) == data


@pytest.mark.parametrize(
    ("type_", "code", "body"),
    [
        ("bool", "7e", ""),
        ("bool", "7e", "02"),
        ("bool", "7e", "ff"),
        ("nat", "7d", ""),
        ("nat", "7d", "80"),
        ("nat", "7d", "ffffff"),
        ("int", "7c", "80"),
        ("nat16", "7a", "00"),
        ("nat32", "79", "000000"),
        ("nat64", "78", "00000000000000"),
        ("float32", "73", "000000"),
        ("float64", "72", "00"),
        ("text", "71", "02" + "61"),
        ("text", "71", "01" + "ff"),
        ("text", "71", "03" + "eda080"),
        ("principal", "68", "00"),
        ("principal", "68", "02" + "00"),
        ("principal", "68", "0103abcd"),
        ("principal", "68", "011e" + "00" * 30),
        ("empty", "6f", ""),
    ],
)
def test_bytes_that_are_no_value_are_refused_even_where_ignored(type_, code, body):
    data = message(code + body)
    for expected in (f"({type_})", "(reserved)", "(opt int8)", "()"):
        with pytest.raises(c.CandidError):
            read(expected, data)


def test_overlong_numbers_are_read():
    assert read("(nat)", message("7d" + "8080808000")) == [0]
    assert read("(int)", message("7c" + "ffffff7f")) == [-1]
    assert read("(text)", message("71" + "818000" + "61")) == ["a"]
    assert c.decode([], b"DIDL\x80\x00\x80\x00") == []


def test_not_a_number_keeps_its_bits():
    data = message("72" + "010000000000f07f")
    (value,) = read("(float64)", data)
    assert math.isnan(value)
    assert c.encode([c.Float64], [value]) == data


@pytest.mark.parametrize(
    ("type_", "table", "body", "value"),
    [
        ("opt nat8", "01 6e7b", "00", None),
        ("opt nat8", "01 6e7b", "0105", 5),
        ("vec nat", "01 6d7d", "03010280" + "01", [1, 2, 128]),
        ("vec int16", "01 6d76", "020100ffff", [1, -1]),
        ("vec float64", "01 6d72", "01000000000000f03f", [1.0]),
        ("vec bool", "01 6d7e", "03010001", [True, False, True]),
        ("vec text", "01 6d71", "0201610162", ["a", "b"]),
        ("blob", "01 6d7b", "03000102", b"\x00\x01\x02"),
        ("vec null", "01 6d7f", "03", [None, None, None]),
        ("record {}", "01 6c00", "", {}),
        ("record { nat8; nat8 }", "01 6c02 007b 017b", "0102", (1, 2)),
        ("record { 7 : nat8; 0 : nat16 }", "01 6c02 007a 077b", "010002", {7: 2, 0: 1}),
        ("variant { 0 : nat8; 5 }", "01 6b02 007b 057f", "0007", c.Case(0, 7)),
        ("variant { 0 : nat8; 5 }", "01 6b02 007b 057f", "01", c.Case(5)),
        (
            "func (nat) -> () query",
            "01 6a 017d 00 0101",
            "0101 02abcd 0161",
            c.FuncRef(c.Principal(b"\xab\xcd"), "a"),
        ),
        (
            "service { m : () -> () }",
            "02 6901016d01 6a000000",
            "0100",
            c.ServiceRef(c.Principal(b"")),
        ),
    ],
)
def test_each_compound_value_has_its_bytes(type_, table, body, value):
    data = message("00" + body, table)
    assert read(f"({type_})", data) == [value]
    assert c.encode(c.parse_types(f"({type_})"), [value]) == data


def test_each_type_stands_before_its_parts_and_equal_ones_stand_once():
    types = c.parse_types("(vec record { opt bool; opt bool; vec nat8 }, opt bool)")
    table = "04 6d01 6c03 0002 0102 0203 6e7e 6d7b"
    assert c.encode(types, [[], None]) == bytes.fromhex(f"4449444c {table} 02 0002 0000")


def test_fields_are_numbered_by_the_hash_of_their_names():
    assert c.field_id("") == 0
    assert c.field_id("a") == 97
    assert c.field_id("id") == 105 * 223 + 100
    # Computed by hand from the definition, over UTF-8, modulo 2**32.
    total = 0
    for byte in "naïve ☃".encode():
        total = (total * 223 + byte) % 2**32
    assert c.field_id("naïve ☃") == total


def test_the_smallest_message():
    assert c.encode([], []) == b"DIDL\x00\x00"
    assert c.decode([], b"DIDL\x00\x00") == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"DID",
        b"DIDM\x00\x00",
        b"DIDL",
        b"DIDL\x00",
        b"DIDL\x00\x00\x00",
        b"DIDL\x00\x01",
        b"DIDL\x00\x01\x7f\x00",
        b"DIDL\x00\x01\x00",  # no such table entry
        b"DIDL\x00\x01\x6e",  # a compound type outside of the table
        b"DIDL\x00\x01\x5e",  # a future type outside of the table
        b"DIDL\x01\x7f\x00",  # a primitive type in the table
        b"DIDL\x01\x68\x00",
        b"DIDL\x01\x00\x00",  # a reference in the table
        b"DIDL\x01\x6e\x01\x00",  # past the end of the table
        b"DIDL\x01\x6e",
        b"DIDL\x01\x6c\x02\x00\x7f\x00\x7f\x00",  # a field twice
        b"DIDL\x01\x6c\x02\x01\x7f\x00\x7f\x00",  # fields out of order
        b"DIDL\x01\x6b\x02\x01\x7f\x00\x7f\x00",
        b"DIDL\x01\x6c\x01\x80\x80\x80\x80\x10\x7f\x00",  # a field number of 33 bits
        b"DIDL\x01\x6a\x00\x00\x01\x04\x00",  # an unknown mode
        b"DIDL\x01\x6a\x00\x01\x7f\x01\x02\x00",  # oneway with a result
        b"DIDL\x02\x6a\x00\x00\x00\x69\x02\x01b\x00\x01a\x00\x00",  # methods out of order
        b"DIDL\x02\x6a\x00\x00\x00\x69\x02\x01a\x00\x01a\x00\x00",  # a method twice
        b"DIDL\x02\x6a\x00\x00\x00\x69\x01\x01\xff\x00\x00",  # a method that is not UTF-8
        b"DIDL\x01\x69\x01\x01a\x7d\x00",  # a method that is no function
        b"DIDL\x02\x6e\x7d\x69\x01\x01a\x00\x00",
        b"DIDL\x01\x67\x05\x00",  # a future type past the end
    ],
)
def test_malformed_heads_are_refused_with_an_offset(data):
    with pytest.raises(c.CandidError) as caught:
        c.decode([], data)
    assert caught.value.offset is not None


def test_order_of_methods_is_that_of_their_names_not_their_hashes():
    service = c.Service({"foobarbaz": c.Func(), "foobar": c.Func()})
    data = c.encode([service], [c.ServiceRef(c.Principal(b""))])
    assert data.index(b"foobar") < data.index(b"foobarbaz")
    assert c.decode([service], data) == [c.ServiceRef(c.Principal(b""))]


def test_every_prefix_of_a_message_is_refused():
    types = c.parse_types(
        "(record { a : nat; b : opt text; c : vec variant { x : int; y }; d : principal;"
        " e : func () -> (); f : vec nat64; g : blob; h : float32 })"
    )
    value = {
        "a": 1 << 70,
        "b": "text",
        "c": [c.Case("x", -500), c.Case("y")],
        "d": c.Principal(b"abc"),
        "e": c.FuncRef(c.Principal(b"x"), "go"),
        "f": [1, 2],
        "g": b"bytes",
        "h": 0.5,
    }
    data = c.encode(types, [value])
    assert c.decode(types, data) == [value]
    for end in range(len(data)):
        for expected in (types, []):
            with pytest.raises(c.CandidError):
                c.decode(expected, data[:end])
    with pytest.raises(c.CandidError, match="left after"):
        c.decode(types, data + b"\x00")


def test_future_types_are_passed_over():
    # Opcode -25 with three bytes of its own; its value is two bytes, without references.
    data = b"DIDL\x01\x67\x03abc\x02\x00\x7e\x02\x00hi\x01"
    assert read("(opt nat, bool)", data) == [None, True]
    assert read("(reserved, bool)", data) == [None, True]
    for bad in (b"\x09\x00hi\x01", b"\x02\x01hi\x01", b"\x02"):
        with pytest.raises(c.CandidError):
            read("(opt nat, bool)", data[:-5] + bad)
    with pytest.raises(c.CandidError, match="future"):
        read("(nat, bool)", data)


def test_same_types_are_listed_once():
    pair = c.Record({"a": c.Vec(c.Nat), "b": c.Vec(c.Nat), "c": c.Opt(c.Vec(c.Nat))})
    data = c.encode([pair], [{"a": [], "b": [], "c": None}])
    assert data[4] == 3  # vec nat, opt of it, the record


def test_recursive_types_are_listed_finitely():
    chain = c.Recursive("chain")
    chain.define(c.Opt(c.Record({"head": c.Nat8, "tail": chain})))
    value = {"head": 1, "tail": {"head": 2, "tail": None}}
    data = c.encode([chain], [value])
    assert data[4] == 2
    assert c.decode([chain], data) == [value]


def test_numbers_of_any_size_in_vectors():
    values = [0, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**35, 2**63, 2**64, 2**200]
    assert c.decode([c.Vec(c.Nat)], c.encode([c.Vec(c.Nat)], [values])) == [values]
    assert c.decode([c.Vec(c.Int)], c.encode([c.Vec(c.Nat)], [values])) == [values]
    both = [sign * value for value in values for sign in (1, -1)]
    assert c.decode([c.Vec(c.Int)], c.encode([c.Vec(c.Int)], [both])) == [both]


def test_long_numbers_take_linear_time():
    value = (1 << 4_000_000) - 12345
    mixed = [5, value, 300, 1 << 140, 1 << 147, value]
    assert c.decode([c.Vec(c.Nat)], c.encode([c.Vec(c.Nat)], [mixed])) == [mixed]
    for type_, number in ((c.Nat, value), (c.Int, value), (c.Int, -value)):
        assert c.decode([type_], c.encode([type_], [number])) == [number]


def test_fixed_vectors_are_little_endian():
    data = c.encode([c.Vec(c.Nat32)], [[1, 2**32 - 1]])
    assert data.endswith(b"\x02" + struct.pack("<II", 1, 2**32 - 1))
