"""Reading a message at types other than its own: the specification's rules, one by one."""

import pytest

from bridge import candid as c


def coerced(wire, values, expected):
    """What values of the first types become when read at the second."""
    types = c.parse_types(wire)
    data = c.encode(types, c.parse_values(values, types))
    into = c.parse_types(expected)
    return c.values_text(c.decode(into, data), into, annotate=False)


def refused(wire, values, expected):
    with pytest.raises(c.CandidError) as caught:
        coerced(wire, values, expected)
    return caught.value


@pytest.mark.parametrize(
    ("wire", "values", "expected", "result"),
    [
        # nat is an int; nothing else among numbers is another
        ("(nat)", "(5)", "(int)", "(5)"),
        ("(vec nat)", "(vec { 200; 1 })", "(vec int)", "(vec { 200; 1 })"),
        # anything is reserved
        ("(nat)", "(5)", "(reserved)", "(null)"),
        ("(record { text })", '(record { "a" })', "(reserved)", "(null)"),
        # null, reserved and null values at opt
        ("(null)", "(null)", "(opt nat)", "(null)"),
        ("(reserved)", "(null)", "(opt nat)", "(null)"),
        ("(opt nat)", "(null)", "(opt text)", "(null)"),
        # an opt's content is read by the rules too
        ("(opt nat)", "(opt 5)", "(opt int)", "(opt 5)"),
        ("(opt opt nat)", "(opt opt 5)", "(opt opt int)", "(opt opt 5)"),
        ("(opt opt nat)", "(opt null)", "(opt opt int)", "(opt null)"),
        # content that does not fit is null
        ("(opt text)", '(opt "a")', "(opt nat)", "(null)"),
        ("(opt int)", "(opt 5)", "(opt nat)", "(null)"),
        ("(opt opt text)", '(opt opt "a")', "(opt opt nat)", "(opt null)"),
        ("(blob)", '(blob "abc")', "(opt blob)", '(opt blob "abc")'),
        ("(opt vec text)", '(opt vec { "a" })', "(opt vec nat)", "(null)"),
        ("(opt vec text)", "(opt vec {})", "(opt vec nat)", "(opt vec {})"),
        (
            "(opt record { a : text })",
            '(opt record { a = "x" })',
            "(opt record {})",
            "(opt record {})",
        ),
        ("(opt record {})", "(opt record {})", "(opt record { a : nat })", "(null)"),
        # an empty vec of anything is an empty vec of anything else
        ("(vec text)", "(vec {})", "(vec nat8)", '(blob "")'),
        ("(vec empty)", "(vec {})", "(opt blob)", '(opt blob "")'),
        ("(blob)", '(blob "")', "(vec text)", "(vec {})"),
        # a plain value is the content of an opt, unless that could be null itself
        ("(nat)", "(5)", "(opt nat)", "(opt 5)"),
        ("(nat)", "(5)", "(opt int)", "(opt 5)"),
        ("(text)", '("a")', "(opt nat)", "(null)"),
        ("(bool)", "(true)", "(opt opt bool)", "(null)"),
        ("(nat)", "(5)", "(opt reserved)", "(null)"),
        # records: fields that are not expected are passed over
        (
            "(record { a : nat; b : text })",
            '(record { a = 1; b = "x" })',
            "(record { a : nat })",
            "(record { a = 1 })",
        ),
        # fields that are missing are null where they may be
        ("(record {})", "(record {})", "(record { a : opt nat })", "(record { a = null })"),
        ("(record {})", "(record {})", "(record { a : null })", "(record { a = null })"),
        ("(record {})", "(record {})", "(record { a : reserved })", "(record { a = null })"),
        # arguments are like the fields of a record
        ("(nat, text)", '(1, "x")', "(nat)", "(1)"),
        ("()", "()", "(opt nat, null, reserved)", "(null, null, null)"),
        ("(nat)", "(1)", "(int, opt text)", "(1, null)"),
        # variants: what counts is the case that is there
        (
            "(variant { a : nat; b })",
            "(variant { a = 1 })",
            "(variant { a : int })",
            "(variant { a = 1 })",
        ),
        ("(variant { a; b })", "(variant { a })", "(variant { a; b; c })", "(variant { a })"),
        ("(opt variant { a; b })", "(opt variant { b })", "(opt variant { a })", "(null)"),
        ("(variant { a; b })", "(variant { b })", "(opt variant { a })", "(null)"),
        (
            "(vec opt variant { a; b })",
            "(vec { opt variant { b }; opt variant { a } })",
            "(vec opt variant { a })",
            "(vec { null; opt variant { a } })",
        ),
        # a misfit deep within is caught by the nearest opt
        (
            "(opt record { x : opt vec text; y : nat })",
            '(opt record { x = opt vec { "a" }; y = 7 })',
            "(opt record { x : opt vec nat; y : nat })",
            "(opt record { x = null; y = 7 })",
        ),
        (
            "(opt record { x : vec text; y : nat })",
            '(opt record { x = vec { "a" }; y = 7 })',
            "(opt record { x : vec nat; y : nat })",
            "(null)",
        ),
        # a service is a principal
        ("(service {})", '(service "aaaaa-aa")', "(principal)", '(principal "aaaaa-aa")'),
    ],
)
def test_values_are_read_as_the_specification_says(wire, values, expected, result):
    assert coerced(wire, values, expected) == result


@pytest.mark.parametrize(
    ("wire", "values", "expected"),
    [
        ("(int)", "(5)", "(nat)"),
        ("(nat8)", "(5)", "(nat)"),
        ("(nat)", "(5)", "(nat8)"),
        ("(nat32)", "(5)", "(nat64)"),
        ("(float32)", "(5)", "(float64)"),
        ("(text)", '("a")', "(blob)"),
        ("(nat)", "(5)", "(null)"),
        ("(opt nat)", "(null)", "(null)"),
        ("(opt nat)", "(opt 5)", "(nat)"),
        ("(reserved)", "(null)", "(null)"),
        ("(vec nat8)", '(blob "a")', "(vec nat)"),
        ("(vec nat)", "(vec { 1 })", "(blob)"),
        ("(record { a : nat })", "(record { a = 1 })", "(record { a : text })"),
        ("(record { a : nat })", "(record { a = 1 })", "(record { b : nat })"),
        ("(record {})", "(record {})", "(variant {})"),
        ("(variant { a })", "(variant { a })", "(variant { b })"),
        ("(variant { a })", "(variant { a })", "(variant {})"),
        ("(variant { a })", "(variant { a })", "(variant { a : nat })"),
        ("()", "()", "(nat)"),
        ("(nat)", "(1)", "(nat, text)"),
        ("(principal)", '(principal "aaaaa-aa")', "(service {})"),
        ("(nat)", "(1)", "(empty)"),
    ],
)
def test_values_that_do_not_fit_are_refused(wire, values, expected):
    refused(wire, values, expected)


def test_what_does_not_fit_is_still_checked():
    # opt bool, present, with a byte that is no bool: not null, but malformed.
    for expected in ("(opt nat)", "(opt bool)", "(reserved)", "()"):
        with pytest.raises(c.CandidError, match="bool"):
            c.decode(c.parse_types(expected), bytes.fromhex("4449444c016e7e01000102"))


def test_a_type_without_values_never_is_one():
    endless = bytes.fromhex("4449444c016c0100000100")  # a record that contains itself
    for expected in ("(opt nat)", "(reserved)", "()"):
        with pytest.raises(c.CandidError, match="no values"):
            c.decode(c.parse_types(expected), endless)
    # ... but a vec of it may be empty.
    assert c.decode([c.Vec(c.Empty)], bytes.fromhex("4449444c026d016c010001010000")) == [[]]
    with pytest.raises(c.CandidError, match="without values"):
        c.decode([c.Vec(c.Empty)], bytes.fromhex("4449444c026d016c010001010001"))


def test_an_option_of_itself():
    knot = c.Recursive("knot")
    knot.define(c.Opt(knot))
    value = c.Some(c.Some(None))
    assert c.decode([knot], c.encode([knot], [value])) == [value]
    assert c.decode([knot], c.encode([c.Bool], [True])) == [None]


def test_the_fault_is_told_with_path_and_offset():
    error = refused(
        "(record { list : vec record { n : nat } })",
        "(record { list = vec { record { n = 1 }; record { n = 2 } } })",
        "(record { list : vec record { n : text } })",
    )
    assert error.path == "[0].list[0].n"
    assert error.offset is not None
    data = c.encode(c.parse_types("(vec variant { ok : text })"), [[c.Case("ok", "a")]])
    with pytest.raises(c.CandidError) as caught:
        c.decode(c.parse_types("(vec variant { ok : text })"), data[:-1] + b"\xff")
    assert caught.value.path == "[0][0].ok"
    assert caught.value.offset == len(data) - 1


def test_after_a_misfit_the_path_is_right_again():
    data = c.encode(c.parse_types("(opt vec text, record { a : bool })"), [["x", "y"], {"a": True}])
    with pytest.raises(c.CandidError) as caught:
        c.decode(c.parse_types("(opt vec nat, record { a : bool })"), data[:-1] + b"\x05")
    assert caught.value.path == "[1].a"


def test_untyped_reading_gives_numbers_for_labels_unless_names_are_known():
    types = c.parse_types("(record { id : nat; state : variant { open; closed : text } })")
    data = c.encode(types, [{"id": 1, "state": c.Case("closed", "x")}])
    assert c.decode_untyped(data) == [
        {c.field_id("id"): 1, c.field_id("state"): c.Case(c.field_id("closed"), "x")}
    ]
    named = c.decode_untyped(data, names=["id", "state", "closed"])
    assert named == [{"id": 1, "state": c.Case("closed", "x")}]
    assert c.message_types(data) == types


def test_message_types_tell_recursive_types():
    chain = c.Recursive("chain")
    chain.define(c.Opt(c.Record({"head": c.Nat8, "tail": chain})))
    tree = c.Recursive("tree")
    tree.define(c.Variant({"leaf": chain, "node": c.Vec(tree)}))
    data = c.encode([tree, chain, c.Opt(tree)], [c.Case("node", []), None, None])
    assert c.message_types(data) == [tree, chain, c.Opt(tree)]


def test_another_layout_is_read_after_the_first_and_the_first_again():
    codec = c.Codec([c.Record({"a": c.Nat, "b": c.Opt(c.Text)})])
    plain = codec.encode({"a": 1, "b": "x"})
    wide = c.parse_types("(record { a : nat; b : text; c : bool })")
    wider = c.encode(wide, [{"a": 2, "b": "y", "c": True}])
    narrow = c.encode(c.parse_types("(record { a : nat })"), [{"a": 3}])
    for _ in range(3):
        assert codec.decode(plain) == [{"a": 1, "b": "x"}]
        assert codec.decode(wider) == [{"a": 2, "b": "y"}]
        assert codec.decode(narrow) == [{"a": 3, "b": None}]


def test_any_bytes_like_message_is_read():
    data = c.encode([c.Text], ["a"])
    assert c.decode([c.Text], bytearray(data)) == ["a"]
    assert c.decode([c.Text], memoryview(data)) == ["a"]
    with pytest.raises(c.CandidError, match="bytes"):
        c.decode([c.Text], "DIDL")
