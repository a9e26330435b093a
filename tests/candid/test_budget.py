"""Hostile messages: few bytes that ask for much. Each ends as CandidError, with little work done.

Work is counted as lines of Python run, since a test must not look at the clock.
"""

import random
import sys
import tracemalloc

import pytest

from bridge import candid as c
from bridge.candid.leb128 import encode_unsigned as leb

BILLION = leb(1_000_000_000)


def doubling(levels, bottom):
    """A table where each record holds the one before twice: 2**levels values of no bytes."""
    return [
        bottom,
        *(b"\x6c\x02\x00" + leb_ref(level) + b"\x01" + leb_ref(level) for level in range(levels)),
    ]


def head(entries, *args):
    return b"DIDL" + leb(len(entries)) + b"".join(entries) + leb(len(args)) + b"".join(args)


def deep_table(levels, opcode=b"\x6e"):
    """opt opt opt ... nat, each level an entry of its own."""
    return [opcode + b"\x7d", *(opcode + leb_ref(level) for level in range(levels))]


def leb_ref(index):
    out = bytearray()
    while True:
        low, index = index & 0x7F, index >> 7
        if index == 0 and not low & 0x40:
            return bytes([*out, low])
        out.append(low | 0x80)


def work_of(call):
    """How many lines of Python a call runs, and the most memory it holds."""
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        lines += event == "line"
        return trace

    old = sys.gettrace()
    tracemalloc.start()
    sys.settrace(trace)
    try:
        with pytest.raises(c.CandidError) as refused:
            call()
    finally:
        sys.settrace(old)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert refused.value.offset is not None
    return lines, peak


BOMBS = {
    "a billion nulls": head([b"\x6d\x7f"], b"\x00") + BILLION,
    "a billion reserved": head([b"\x6d\x70"], b"\x00") + BILLION,
    "a billion empty records": head([b"\x6d\x01", b"\x6c\x00"], b"\x00") + BILLION,
    "2**32 nulls": head([b"\x6d\x7f"], b"\x00") + leb(1 << 32),
    "10**30 nulls": head([b"\x6d\x7f"], b"\x00") + leb(10**30),
    "a vec of vecs of nulls": head([b"\x6d\x01", b"\x6d\x7f"], b"\x00")
    + b"\x05"
    + leb(1 << 20) * 5,
    "a record of 2**40 nulls": head(doubling(40, b"\x6c\x01\x00\x7f"), leb_ref(40)),
    "opts of records of 2**18 nulls": head(
        [*doubling(18, b"\x6c\x00"), b"\x6e\x12", b"\x6d\x13"], b"\x14"
    )
    + b"\x05"
    + b"\x01" * 5,
    "a text of a billion bytes": head([], b"\x71") + BILLION + b"abc",
    "a billion bools": head([b"\x6d\x7e"], b"\x00") + BILLION + b"\x00" * 9,
    "a billion nat64": head([b"\x6d\x78"], b"\x00") + BILLION + b"\x00" * 9,
    "a type table of a billion entries": b"DIDL" + BILLION,
    "a record of a billion fields": b"DIDL\x01\x6c" + BILLION,
    "a function of a billion arguments": b"DIDL\x01\x6a" + BILLION,
    "a billion arguments": b"DIDL\x00" + BILLION,
    "a type table of 300,000 entries": head([b"\x6e\x7d"] * 50_000, b"\x00") + b"\x00",
    "vecs in vecs without end": head([b"\x6d\x00"], b"\x00") + b"\x01" * 12_000,
    "opts in opts without end": head([b"\x6e\x00"], b"\x00") + b"\x01" * 12_000,
    "variants in variants without end": head([b"\x6b\x01\x00\x00"], b"\x00") + b"\x00" * 12_000,
}
EXPECTED = {
    "nothing": [],
    "an opt": [c.Opt(c.Nat)],
    "reserved": [c.Reserved],
    "a vec of opts": [c.Vec(c.Opt(c.Nat))],
    "nulls": [c.Vec(c.Null)],
    "empty records": [c.Vec(c.Record())],
    "itself": None,
}


@pytest.mark.parametrize("expected", EXPECTED)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_ends_soon_in_the_one_error(bomb, expected):
    data = BOMBS[bomb]
    types = EXPECTED[expected]

    def read():
        if types is None:
            c.decode_untyped(data)
        else:
            c.Codec(types).decode(data)

    lines, peak = work_of(read)
    assert lines < 50_000 + 100 * len(data)
    assert peak < (4 << 20) + 600 * len(data)


def test_deep_nesting_of_values_is_read_within_the_budget_and_refused_beyond():
    knot = c.Recursive("knot")
    knot.define(c.Opt(knot))
    message = head([b"\x6e\x00"], b"\x00")
    (value,) = c.decode([knot], message + b"\x01" * 5000 + b"\x00")
    depth = 0
    while value is not None:
        value = value.value
        depth += 1
    assert depth == 5000
    shallow = c.Codec([knot], budget=c.Budget(depth=100))
    assert shallow.decode(message + b"\x01" * 100 + b"\x00")
    with pytest.raises(c.CandidError, match="nested") as refused:
        shallow.decode(message + b"\x01" * 200 + b"\x00")
    assert len(message) + 100 <= refused.value.offset <= len(message) + 102


def test_deep_values_are_encoded_and_read_back_whatever_stack_is_left():
    chain = c.Recursive("chain")
    chain.define(c.Opt(c.Record({"head": c.Int, "tail": chain})))
    value = None
    for number in range(3000):
        value = {"head": number, "tail": value}

    def down(levels):
        if levels:
            return down(levels - 1)
        return c.decode([chain], c.encode([chain], [value]))

    free = sys.getrecursionlimit() - 250
    (back,) = down(max(0, free - len(__import__("inspect").stack())))
    count = 0
    while back is not None:
        count += 1
        back = back["tail"]
    assert count == 3000


def test_a_misfit_far_down_is_caught_by_its_own_option():
    def chain(cases):
        knot = c.Recursive("chain")
        return knot.define(
            c.Opt(c.Record({"head": c.Variant(dict.fromkeys(cases, c.Null)), "tail": knot}))
        )

    value = None
    for number in range(3000):
        value = {"head": c.Case("b" if number == 500 else "a"), "tail": value}
    data = c.encode([chain("ab")], [value])
    (back,) = c.decode([chain("a")], data)
    count = 0
    while back is not None:
        count += 1
        back = back["tail"]
    assert count == 2499
    with pytest.raises(c.CandidError, match="opt begins") as caught:
        c.decode([chain("a")], data[:-1] + b"\x02")
    assert caught.value.path.startswith("[0].tail.tail")
    assert len(str(caught.value)) < 500


def test_a_value_that_contains_itself_is_refused():
    chain = c.Recursive("chain")
    chain.define(c.Opt(c.Record({"tail": chain})))
    value = {}
    value["tail"] = value
    with pytest.raises(c.CandidError, match="contains itself"):
        c.encode([chain], [value])


def test_a_deep_type_table_is_read_and_passed_over():
    for opcode in (b"\x6e", b"\x6d"):
        data = head(deep_table(5000, opcode), leb_ref(5000)) + b"\x00"
        assert c.decode([], data) == []
        assert c.decode([c.Opt(c.Nat)], data) in ([None], [[]])
        assert len(c.message_types(data)) == 1
        assert c.decode_untyped(data) in ([None], [[]])


def test_a_deep_type_met_by_a_recursive_type_is_paid_for():
    knot = c.Recursive("knot")
    knot.define(c.Opt(knot))

    def deep(levels):
        return head(deep_table(levels), leb_ref(levels)) + b"\x01" * 40 + b"\x00"

    (value,) = c.decode([knot], deep(200))
    for _ in range(40):
        value = value.value
    assert value is None
    with pytest.raises(c.CandidError, match="budget"):
        c.decode([knot], deep(5000))
    trusting = c.Codec([knot], budget=c.Budget(parts=5000))
    assert trusting.decode(deep(2000)) == c.decode([knot], deep(200))


def test_wide_types_of_strangers_are_cheap_to_pass_over():
    """Thousands of fields or cases that nobody asked for."""
    wide = c.Record({number: c.Text if number % 2 else c.Nat8 for number in range(4000)})
    value = {number: "x" if number % 2 else 7 for number in range(4000)}
    data = c.encode([wide], [tuple(value.values())])
    assert c.decode([c.Record({6: c.Nat8, 3999: c.Text})], data) == [{6: 7, 3999: "x"}]
    with pytest.raises(c.CandidError, match="ends inside"):
        c.decode([c.Record({6: c.Nat8})], data[:-1])
    many = c.Variant(dict.fromkeys(range(4000), c.Nat8))
    expected = c.Variant(dict.fromkeys(range(0, 4000, 400), c.Nat8))
    for label in (0, 400, 3600):
        data = c.encode([many], [c.Case(label, 5)])
        assert c.decode([expected], data) == [c.Case(label, 5)]
    for label in (1, 399, 3999):
        data = c.encode([many], [c.Case(label, 5)])
        assert c.decode([c.Opt(expected)], data) == [None]
    fields = b"".join(leb(number) + b"\x7d" for number in range(9000))
    stranger = head([b"\x6c" + leb(9000) + fields], b"\x00")
    lines, _ = work_of(lambda: c.decode([c.Record({"a": c.Nat})], stranger))
    assert lines < 3_000_000


def test_types_that_share_many_parts_are_within_the_budget():
    shared = c.Record({f"f{number}": c.Opt(c.Nat) for number in range(20)})
    broad = c.Record({f"r{number}": c.Vec(shared) for number in range(300)})
    value = {f"r{number}": [] for number in range(300)}
    assert c.decode([broad], c.encode([broad], [value])) == [value]


def test_trying_again_after_each_misfit_is_paid_for():
    """Options within options that all fail at their end would be read once per level."""
    inner = c.Record({"a": c.Opt(c.Nat), "z": c.Variant({"bad": c.Null})})
    wire = inner
    for _ in range(40):
        wire = c.Record({"a": c.Opt(wire), "b": c.Blob, "z": c.Variant({"bad": c.Null})})
    knot = c.Recursive("knot")
    knot.define(c.Record({"a": c.Opt(knot), "b": c.Opt(c.Blob), "z": c.Variant({"good": c.Null})}))
    value = {"a": None, "z": c.Case("bad")}
    for _ in range(40):
        value = {"a": value, "b": b"x" * 2000, "z": c.Case("bad")}
    data = c.encode([wire], [value])
    with pytest.raises(c.CandidError, match="budget"):
        c.decode([c.Opt(knot)], data)
    trusting = c.Codec([c.Opt(knot)], budget=c.Budget(base=10_000_000))
    assert trusting.decode(data) == [None]


def test_types_that_multiply_when_compared_are_paid_for():
    """Two cycles of types, of lengths without common divisor, meet in every combination."""

    def cycle(length):
        entries = [b"\x6a\x01" + leb_ref((i + 1) % length) + b"\x00\x00" for i in range(length)]
        return head(entries, b"\x00") + b"\x01\x01\x00\x01m"

    (expected,) = c.message_types(cycle(499))
    with pytest.raises(c.CandidError, match="budget"):
        c.decode([expected], cycle(509))
    assert c.decode([expected], cycle(499))


def test_budgets_can_be_set():
    nulls = head([b"\x6d\x7f"], b"\x00") + leb(1000)
    assert c.decode([c.Vec(c.Null)], nulls) == [[None] * 1000]
    with pytest.raises(c.CandidError, match="budget"):
        c.Codec([c.Vec(c.Null)], budget=c.Budget(base=500, per_byte=0)).decode(nulls)
    many = head([b"\x6d\x7f"], b"\x00") + leb(500_000)
    with pytest.raises(c.CandidError, match="budget"):
        c.decode([c.Vec(c.Null)], many)
    wide = c.Codec([c.Vec(c.Null)], budget=c.Budget(base=1_000_000))
    assert wide.decode(many) == [[None] * 500_000]
    with pytest.raises(c.CandidError, match="type table"):
        c.Codec([], budget=c.Budget(type_nodes=3)).decode(head([b"\x6e\x7d"] * 5))
    with pytest.raises(c.CandidError, match="negative"):
        c.Budget(base=-1)


def test_large_honest_messages_are_within_the_budget():
    chance = random.Random(0)
    rows = [{"id": n, "note": None, "kind": c.Case("a"), "more": []} for n in range(20_000)]
    type_ = c.Vec(
        c.Record(
            {
                "id": c.Nat,
                "note": c.Opt(c.Text),
                "kind": c.Variant({"a": c.Null, "b": c.Nat}),
                "more": c.Vec(c.Null),
            }
        )
    )
    assert c.decode([type_], c.encode([type_], [rows])) == [rows]
    blob = chance.randbytes(2_000_000)
    assert c.decode([c.Blob], c.encode([c.Blob], [blob])) == [blob]
    # All options of another type: each is passed over once.
    wire, expected = c.Vec(c.Opt(c.Text)), c.Vec(c.Opt(c.Nat))
    assert c.decode([expected], c.encode([wire], [["abc"] * 20_000])) == [[None] * 20_000]


def test_heads_of_megabytes_are_read_and_not_kept():
    codec = c.Codec([c.Opt(c.Nat)])
    size = 200_000
    for number in range(3):
        future = b"\x67" + leb(size) + bytes([number]) * size
        head = b"DIDL\x02" + future + b"\x6e\x7d\x01\x01"
        assert codec.decode(head + b"\x01\x05") == [5]
    assert not codec._layouts._entries
    assert codec._latest == ()


def test_many_arguments_that_nobody_asked_for_are_passed_over_and_checked():
    codec = c.Codec([c.Nat])
    data = c.encode([c.Nat, *[c.Text] * 500, c.Null, c.Nat16], [1, *["x"] * 500, None, 2])
    assert codec.decode(data) == [1]
    for bad in (data[:-1], data + b"\0", data.replace(b"\x01x", b"\x01\xff", 1)):
        with pytest.raises(c.CandidError):
            codec.decode(bad)


def test_caches_are_bounded():
    codec = c.Codec([c.Opt(c.Nat)])
    for number in range(300):
        wire = c.Record({number: c.Nat})
        assert codec.decode(c.encode([wire], [{number: 1}])) == [None]
    from bridge.candid import codec as module

    assert len(codec._layouts._entries) <= 32
    assert len(module._by_identity._entries) <= 256
    assert len(module._by_layout._entries) <= 256
