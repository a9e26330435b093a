"""Values as text: read at types, inferred without, printed, and refused with line and column."""

import math
import random

import pytest

from bridge import candid as c


def read(types, text, **options):
    return c.parse_values(text, c.parse_types(types), **options)


@pytest.mark.parametrize(
    ("types", "text", "values"),
    [
        ("()", "()", []),
        ("(nat)", "(1_000)", [1000]),
        ("(nat)", "(0xFF_ff,)", [65535]),
        ("(int)", "(-5)", [-5]),
        ("(int, int8)", "(+5, -128)", [5, -128]),
        ("(float64)", "(1.5e3)", [1500.0]),
        ("(float64, float64)", "(1., 2e-1)", [1.0, 0.2]),
        ("(float64)", "(-0x1.8p1)", [-3.0]),
        ("(float32)", "(3)", [3.0]),
        ("(float64)", "(-inf)", [-math.inf]),
        ("(bool, bool, null)", "(true, false, null)", [True, False, None]),
        ("(text)", r'("a\n\t\r\\\"\'\u{2603}\e2\98\83")', ["a\n\t\r\\\"'☃☃"]),
        ("(blob)", r'(blob "a\00\ff\u{e9}")', [b"a\x00\xff\xc3\xa9"]),
        ("(blob)", "(vec { 1; 2; 255 })", [b"\x01\x02\xff"]),
        ("(vec nat)", "(vec { 1; 2; })", [[1, 2]]),
        ("(opt nat)", "(opt 5)", [5]),
        ("(opt nat)", "(null)", [None]),
        ("(opt nat)", "(5)", [5]),
        ("(opt opt nat)", "(opt null)", [c.Some(None)]),
        ("(opt opt nat)", "(opt opt 5)", [c.Some(5)]),
        ("(record { a : nat; b : opt text })", "(record { a = 1 })", [{"a": 1, "b": None}]),
        ("(record { a : nat })", "(record { 97 = 1 })", [{"a": 1}]),
        ("(record { nat; text })", '(record { 1; "x" })', [(1, "x")]),
        ("(record { nat; text })", '(record { 1 = "x"; 0 = 1 })', [(1, "x")]),
        ('(record { "two words" : nat })', '(record { "two words" = 1 })', [{"two words": 1}]),
        ("(variant { ok : nat; err })", "(variant { ok = 5 })", [c.Case("ok", 5)]),
        ("(variant { ok : nat; err })", "(variant { err })", [c.Case("err")]),
        ('(record { "text" : nat })', "(record { text = 1 })", [{"text": 1}]),
        ("(variant { 5; 6 : nat })", "(variant { 5 })", [c.Case(5)]),
        ("(principal)", '(principal "aaaaa-aa")', [c.Principal(b"")]),
        ("(service {})", '(service "aaaaa-aa")', [c.ServiceRef(c.Principal(b""))]),
        ("(func () -> ())", '(func "aaaaa-aa".go)', [c.FuncRef(c.Principal(b""), "go")]),
        ("(func () -> ())", '(func "aaaaa-aa"."a b")', [c.FuncRef(c.Principal(b""), "a b")]),
        ("(reserved)", "(5)", [None]),
        ("(nat8)", "(5 : nat8)", [5]),
        ("(nat8)", "((5 : nat8))", [5]),
        ("(int)", "(5 : nat)", [5]),
        ("(opt nat8)", "(opt (5 : nat8))", [5]),
        ("(vec nat8)", '(/* c */ blob "" // d\n)', [b""]),
        ("(nat, opt nat, null)", "(1)", [1, None, None]),
    ],
)  # fmt: skip
def test_text_is_read_at_its_types(types, text, values):
    assert read(types, text) == values
    printed = c.values_text(values, c.parse_types(types))
    assert read(types, printed) == values
    assert read(types, c.values_text(values, c.parse_types(types), annotate=False)) == values


@pytest.mark.parametrize(
    ("types", "text", "place"),
    [
        ("(nat)", "1", "column 1"),
        ("(nat)", "(1", "column 3"),
        ("(nat)", "(1) 2", "column 5"),
        ("(nat)", "(-1)", "column 2"),
        ("(nat)", "(1.0)", "column 2"),
        ("(nat8)", "(256)", "column 2"),
        ("(int8)", "(-129)", "column 2"),
        ("(nat8)", "(5 : nat)", "column 2"),
        ("(nat8)", "(300 : nat8)", "column 2"),
        ("(nat)", '("1")', "column 2"),
        ("(nat)", "(-0x5)", "column 3"),
        ("(nat)", "(1__0)", "column 3"),
        ("(float32)", "(1e300)", "column 2"),
        ("(float64)", "(1e999)", "column 2"),
        ("(float64)", "(-0x1p9999)", "column 2"),
        ("(text)", "(a)", "column 2"),
        ("(text)", '("\\u{d800}")', "column 3"),
        ("(text)", '("\\u{110000}")', "column 3"),
        ("(text)", '("\\ff")', "column 2"),
        ("(text)", '("a\nb")', "column 4"),
        ("(bool)", "(1)", "column 2"),
        ("(vec nat)", "(vec { 1; -1 })", "column 11"),
        ("(vec nat)", "(vec { 1 2 })", "column 10"),
        ("(blob)", '("x")', "column 2"),
        ("(opt nat)", '(opt "x")', "column 6"),
        ("(opt opt nat)", "(5)", "column 2"),
        ("(record { a : nat })", "(record {})", "column 2"),
        ("(record { a : nat })", "(record { a = 1; b = 2 })", "column 2"),
        ("(record { a : nat })", "(record { a = 1; a = 2 })", "column 18"),
        ("(record { a : nat })", "(record { a = 1; 97 = 2 })", "column 18"),
        ("(record { a : nat })", "(record { opt = 1 })", "column 11"),
        ("(variant { a })", "(variant { b })", "column 2"),
        ("(variant { a })", "(variant {})", "column 11"),
        ("(variant { a })", "(variant { a; b })", "column 15"),
        ("(principal)", '(principal "xxx")', "column 12"),
        ("(service {})", '(principal "aaaaa-aa")', "column 2"),
        ("(func () -> ())", '(func "aaaaa-aa")', "column 17"),
        ("(empty)", "(null)", "column 2"),
        ("(nat)", "(1, 2)", "column 5"),
        ("(nat, nat)", "(1)", "column 4"),
        ("(nat)", "(1 : Unknown)", "column 6"),
    ],
)
def test_text_that_does_not_fit_is_refused_with_its_place(types, text, place):
    with pytest.raises(c.CandidError) as caught:
        read(types, text)
    assert place in str(caught.value)
    assert caught.value.offset is not None


@pytest.mark.parametrize(
    ("types", "text", "values"),
    [
        ("(record {})", "(record { whatever = 0 })", [{}]),
        ("(nat)", "(1, 2)", [1]),
        ("(opt nat)", '(opt "x")', [None]),
        ("(opt opt nat)", "(5)", [None]),
        ("(principal)", '(service "aaaaa-aa")', [c.Principal(b"")]),
        ("(opt nat)", "(5 : nat8)", [None]),
    ],
)
def test_reading_can_be_as_lenient_as_decoding(types, text, values):
    assert read(types, text, strict=False) == values
    with pytest.raises(c.CandidError):
        read(types, text)


@pytest.mark.parametrize(
    ("text", "types", "values"),
    [
        ("()", "()", []),
        ("(1, -1, 1.5)", "(int, int, float64)", [1, -1, 1.5]),
        ("(1 : nat8)", "(nat8)", [1]),
        ('("a", true, null, blob "x")', "(text, bool, null, blob)", ["a", True, None, b"x"]),
        ("(opt 1, opt null)", "(opt int, opt null)", [1, c.Some(None)]),
        ("(vec {}, vec { 1; 2 })", "(vec empty, vec int)", [[], [1, 2]]),
        ("(record { a = 1; 5 = true })", "(record { a : int; 5 : bool })", [{"a": 1, 5: True}]),
        ("(record { 1; true })", "(record { int; bool })", [(1, True)]),
        ("(variant { a })", "(variant { a })", [c.Case("a")]),
        ('(service "aaaaa-aa")', "(service {})", [c.ServiceRef(c.Principal(b""))]),
    ],
)
def test_types_are_inferred_as_far_as_the_text_tells(text, types, values):
    assert c.infer_values(text) == (c.parse_types(types), values)


def test_elements_of_different_types_are_not_guessed_at():
    with pytest.raises(c.CandidError, match="differ"):
        c.infer_values('(vec { 1; "a" })')


def test_names_of_an_interface_may_annotate():
    interface = c.parse_did("type Id = record { nat };")
    assert c.infer_values("(record { 5 } : Id)", interface=interface)[0] == [interface.types["Id"]]
    assert read("(record { nat })", "(record { 5 } : Id)", interface=interface) == [(5,)]


def test_printing_breaks_long_values_over_lines():
    types = c.parse_types("(vec record { name : text; n : nat })")
    values = [[{"name": "x" * 20, "n": n} for n in range(5)]]
    text = c.values_text(values, types)
    assert text.count("\n") > 5
    assert max(map(len, text.splitlines())) < 100
    assert c.parse_values(text, types) == values


def test_numbers_too_long_for_decimal_are_written_as_hexadecimal():
    value = 7**9000
    text = c.values_text([value], [c.Nat])
    assert c.parse_values(text, [c.Nat]) == [value]
    with pytest.raises(c.CandidError, match="hexadecimal"):
        c.parse_values(f"({'9' * 5000})", [c.Nat])


def test_only_values_of_the_types_are_printed():
    with pytest.raises(c.CandidError):
        c.values_text(["x"], [c.Nat])


def test_nesting_without_end_is_refused():
    for text in ("(" * 100_000, "(" + "opt " * 100_000 + "1)", "(" + "vec {" * 100_000):
        with pytest.raises(c.CandidError, match="deep"):
            c.parse_values(text, [c.Nat])
    knot = c.Recursive("knot")
    knot.define(c.Opt(knot))
    value = None
    for _ in range(3000):
        value = c.Some(value)
    with pytest.raises(c.CandidError, match="deep"):
        c.values_text([value], [knot])


def test_random_values_are_read_back_from_their_text(make_types):
    for seed in range(300):
        types = [make_types(seed, empty=False).make() for _ in range(2)]
        try:
            values = c.random_values(types, random.Random(seed))
        except c.CandidError:
            continue
        for annotate in (True, False):
            text = c.values_text(values, types, annotate=annotate)
            assert repr(c.parse_values(text, types)) == repr(values), (seed, text)
