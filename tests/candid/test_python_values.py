"""Python values for Candid types: what is taken, what is given, what is refused and where."""

import array
import collections
import enum
import pickle
import threading
import types as python_types
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from bridge import candid as c


def round_trip(type_, value):
    (back,) = c.decode([type_], c.encode([type_], [value]))
    return back


def test_case_reads_well_in_match():
    answer = c.Case("ok", {"sum": 5})
    match answer:
        case c.Case("err", message):
            total = message
        case c.Case("ok", {"sum": total}):
            pass
    assert total == 5
    assert c.Case("none") == c.Case("none", None)


def test_options_are_none_or_the_value():
    assert round_trip(c.Opt(c.Nat), None) is None
    assert round_trip(c.Opt(c.Nat), 5) == 5
    assert round_trip(c.Opt(c.Nat), c.Some(5)) == 5
    assert round_trip(c.Opt(c.Vec(c.Opt(c.Nat))), [None, 1]) == [None, 1]


@pytest.mark.parametrize("content", [c.Opt(c.Nat), c.Null, c.Reserved])
def test_an_option_that_may_hold_null_tells_both_nulls_apart(content):
    assert round_trip(c.Opt(content), None) is None
    assert round_trip(c.Opt(content), c.Some(None)) == c.Some(None)
    with pytest.raises(c.CandidError, match="Some"):
        c.encode([c.Opt(content)], [5])


def test_nested_options():
    three = c.Opt(c.Opt(c.Opt(c.Nat)))
    for value in (None, c.Some(None), c.Some(c.Some(None)), c.Some(c.Some(5))):
        assert round_trip(three, value) == value


@dataclass
class Point:
    x: int
    y: int
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Frozen:
    x: int
    y: int


class Pair(NamedTuple):
    x: int
    y: int = 7


@dataclass
class Strict:
    x: int

    def __post_init__(self):
        if self.x > 10:
            raise ValueError("too large")


XY = {"x": c.Nat, "y": c.Int}


def test_records_are_dicts_in_the_order_of_their_fields():
    type_ = c.Record({"z": c.Nat, "a": c.Nat, "m": c.Nat})
    back = round_trip(type_, {"a": 1, "m": 2, "z": 3})
    assert back == {"a": 1, "m": 2, "z": 3}
    assert list(back) == ["z", "a", "m"]


def test_records_become_the_class_that_is_asked_for():
    noted = c.Record({**XY, "note": c.Opt(c.Text)}, into=Point)
    assert round_trip(noted, Point(1, -2, "n")) == Point(1, -2, "n")
    assert round_trip(c.Record(XY, into=Point), Point(1, 2)) == Point(1, 2)
    assert round_trip(c.Record(XY, into=Frozen), Frozen(x=1, y=2)) == Frozen(x=1, y=2)
    back = round_trip(c.Record(XY, into=Pair), Pair(3, 4))
    assert back == Pair(3, 4)
    assert type(back) is Pair
    inner = c.Vec(c.Record({"p": c.Record(XY, into=Point)}))
    assert round_trip(inner, [{"p": Point(1, 2)}]) == [{"p": Point(1, 2)}]


def test_any_record_takes_dicts_dataclasses_and_named_tuples():
    plain = c.Record(XY)
    for value in (
        {"x": 1, "y": 2},
        Frozen(x=1, y=2),
        Pair(1, 2),
        collections.OrderedDict(x=1, y=2),
        python_types.MappingProxyType({"x": 1, "y": 2}),
    ):
        assert round_trip(plain, value) == {"x": 1, "y": 2}
    assert round_trip(c.Record(XY, into=Point), {"x": 1, "y": 2}) == Point(1, 2)


def test_a_class_that_does_not_match_is_refused_at_once():
    with pytest.raises(c.CandidError, match="z"):
        c.Record({"x": c.Nat, "z": c.Nat}, into=Point)
    with pytest.raises(c.CandidError, match="y"):
        c.Record({"x": c.Nat}, into=Frozen)
    with pytest.raises(c.CandidError, match="dataclass"):
        c.Record({"x": c.Nat}, into=int)
    with pytest.raises(c.CandidError, match="instance"):
        c.Record(XY, into=Point(1, 2))


def test_fields_of_a_class_beyond_the_record_are_not_in_the_way():
    class Wide(NamedTuple):
        a: object
        cached: int = 9

    record = c.Record({"a": c.Nat}, into=Wide)
    # A member of an enumeration is nothing that the plain code takes; the careful one does.
    one = enum.IntEnum("Number", {"ONE": 1}).ONE
    assert round_trip(record, Wide(one, cached=3)) == Wide(1)
    with pytest.raises(c.CandidError, match="negative") as refused:
        c.encode([record], [Wide(-1)])
    assert refused.value.path == "[0].a"


def test_what_a_class_refuses_is_told_as_any_other_fault():
    type_ = c.Record({"x": c.Nat}, into=Strict)
    data = c.encode([c.Vec(c.Record({"x": c.Nat}))], [[{"x": 1}, {"x": 11}]])
    with pytest.raises(c.CandidError, match="too large") as caught:
        c.decode([c.Vec(type_)], data)
    assert caught.value.path == "[0][1]"


def test_records_numbered_from_zero_are_tuples():
    pair = c.Record([c.Text, c.Nat])
    assert pair == c.Record({0: c.Text, 1: c.Nat})
    assert round_trip(pair, ("a", 1)) == ("a", 1)
    assert round_trip(pair, ["a", 1]) == ("a", 1)
    assert round_trip(pair, {0: "a", 1: 1}) == ("a", 1)
    assert dict(round_trip(c.Vec(pair), [("a", 1), ("b", 2)])) == {"a": 1, "b": 2}
    assert round_trip(c.Record({1: c.Text}), {1: "x"}) == {1: "x"}
    assert round_trip(c.Record(), {}) == {}


def test_fields_that_may_be_null_may_be_left_out():
    type_ = c.Record({"a": c.Nat, "b": c.Opt(c.Nat), "c": c.Null, "d": c.Reserved})
    assert round_trip(type_, {"a": 1}) == {"a": 1, "b": None, "c": None, "d": None}
    assert round_trip(type_, {"a": 1, "b": 2}) == {"a": 1, "b": 2, "c": None, "d": None}


def test_blobs_are_bytes():
    for value in (b"abc", bytearray(b"abc"), memoryview(b"abc"), [97, 98, 99], (97, 98, 99)):
        assert round_trip(c.Blob, value) == b"abc"
    assert isinstance(round_trip(c.Blob, [1]), bytes)


def test_sequences_are_lists():
    for value in ([1, 2], (1, 2), range(1, 3), array.array("I", [1, 2])):
        if not isinstance(value, array.array):
            assert round_trip(c.Vec(c.Nat), value) == [1, 2]
            assert round_trip(c.Vec(c.Nat32), value) == [1, 2]
    assert round_trip(c.Vec(c.Text), collections.UserList(["a"])) == ["a"]
    assert round_trip(c.Vec(c.Float64), [1.5, 2]) == [1.5, 2.0]


class Colour(enum.IntEnum):
    RED = 3


class Name(str):
    __slots__ = ()


def test_subclasses_count_as_what_they_are():
    assert round_trip(c.Nat, Colour.RED) == 3
    assert round_trip(c.Nat8, Colour.RED) == 3
    assert round_trip(c.Vec(c.Nat), [Colour.RED, 4]) == [3, 4]
    assert round_trip(c.Text, Name("x")) == "x"
    assert round_trip(c.Float64, 3) == 3.0


@pytest.mark.parametrize(
    ("type_", "value", "path"),
    [
        (c.Nat, -1, ""),
        (c.Nat, True, ""),
        (c.Nat, 1.0, ""),
        (c.Nat, "1", ""),
        (c.Nat, None, ""),
        (c.Int, False, ""),
        (c.Int, "x", ""),
        (c.Nat8, 256, ""),
        (c.Nat8, -1, ""),
        (c.Nat8, True, ""),
        (c.Int8, 128, ""),
        (c.Int16, -32769, ""),
        (c.Nat64, 1 << 64, ""),
        pytest.param(c.Nat64, 1 << 20_000, "", id="a very large nat64"),
        (c.Int64, 1.5, ""),
        (c.Float64, "1", ""),
        (c.Float64, True, ""),
        pytest.param(c.Float64, 1 << 20_000, "", id="a very large float64"),
        (c.Float64, (1 << 60) + 1, ""),
        (c.Float32, 1e300, ""),
        (c.Float32, (1 << 24) + 1, ""),
        (c.Bool, 1, ""),
        (c.Bool, None, ""),
        (c.Text, b"x", ""),
        (c.Text, "\ud800", ""),
        (c.Null, 0, ""),
        (c.Reserved, 5, ""),
        (c.Empty, None, ""),
        (c.PrincipalType, "aaaaa-aa", ""),
        (c.PrincipalType, b"", ""),
        (c.Func(), c.ServiceRef(c.Principal(b"")), ""),
        (c.Service(), c.Principal(b""), ""),
        (c.Blob, "abc", ""),
        (c.Blob, [256], "[0]"),
        (c.Blob, [True], "[0]"),
        (c.Blob, 5, ""),
        pytest.param(c.Blob, memoryview(array.array("H", [1])), "", id="a memoryview of others"),
        (c.Vec(c.Nat), "12", ""),
        (c.Vec(c.Nat), b"12", ""),
        (c.Vec(c.Nat), {1, 2}, ""),
        (c.Vec(c.Nat), {"a": 1}, ""),
        (c.Vec(c.Nat), None, ""),
        (c.Vec(c.Nat), [1, -2], "[1]"),
        (c.Vec(c.Nat), [1, True], "[1]"),
        (c.Vec(c.Nat16), [1, 70000], "[1]"),
        (c.Vec(c.Nat16), [1, True], "[1]"),
        (c.Vec(c.Float32), [1.0, "x"], "[1]"),
        (c.Vec(c.Text), ["a", 5], "[1]"),
        (c.Vec(c.Nat), c.Some([1]), ""),
        (c.Opt(c.Nat), "x", ""),
        (c.Opt(c.Nat), c.Some(None), ""),
        (c.Record(XY), {"x": 1}, ""),
        (c.Record(XY), {"x": 1, "y": 2, "z": 3}, ""),
        (c.Record(XY), {"x": 1, "z": 3}, ""),
        (c.Record(XY), {"x": 1, "y": "2"}, ".y"),
        (c.Record(XY), [1, 2], ""),
        (c.Record(XY), 5, ""),
        (c.Record({"a": c.Opt(c.Nat), "b": c.Nat}), {"b": 1, "A": 2}, ""),
        (c.Record([c.Nat, c.Nat]), (1,), ""),
        (c.Record([c.Nat, c.Nat]), (1, 2, 3), ""),
        (c.Record([c.Nat, c.Nat]), c.Case(1, 2), ""),
        (c.Record(XY, into=Point), Pair, ""),
        (c.Record(), {"a": 1}, ""),
        (c.Variant({"a": c.Null}), "a", ""),
        (c.Variant({"a": c.Null}), {"a": None}, ""),
        (c.Variant({"a": c.Null}), ("a", None), ""),
        (c.Variant({"a": c.Null}), c.Case("b"), ""),
        (c.Variant({"a": c.Null}), c.Case("a", 5), ".a"),
        (c.Variant({"a": c.Nat}), c.Case("a"), ".a"),
        (c.Variant({}), c.Case("a"), ""),
        (c.Vec(c.Record({"a": c.Opt(c.Vec(c.Nat))})), [{"a": [1]}, {"a": [1, 2, "x"]}], "[1].a[2]"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(type_, value, path):
    with pytest.raises(c.CandidError) as caught:
        c.encode([c.Bool, type_], [True, value])
    assert caught.value.path == "[1]" + path


def test_a_value_that_fails_when_it_is_read_is_told_with_its_place():
    class Broken(collections.UserDict):
        def __getitem__(self, key):
            raise RuntimeError("no such luck")

    with pytest.raises(c.CandidError, match="no such luck") as caught:
        c.encode([c.Vec(c.Record(XY))], [[Broken(x=1, y=2)]])
    assert caught.value.path == "[0][0]"


def test_the_number_of_arguments_must_match():
    with pytest.raises(c.CandidError, match="expected 2 arguments, not 1"):
        c.encode([c.Nat, c.Nat], [1])
    with pytest.raises(c.CandidError, match="expected 0 arguments, not 1"):
        c.Codec([]).encode(1)


def test_types_are_checked_when_they_are_made():
    for make in (
        lambda: c.Opt(5),
        lambda: c.Vec(int),
        lambda: c.Record({"a": "nat"}),
        lambda: c.Record({1.5: c.Nat}),
        lambda: c.Record({True: c.Nat}),
        lambda: c.Record({1 << 32: c.Nat}),
        lambda: c.Record({"a": c.Nat, 97: c.Nat}),
        lambda: c.Variant({"\ud800": c.Null}),
        lambda: c.Func([], [c.Nat], ["oneway"]),
        lambda: c.Func([], [], ["fast"]),
        lambda: c.Service({"m": c.Nat}),
        lambda: c.Service({5: c.Func()}),
        lambda: c.Record(5),
        lambda: c.Record({c.Nat, c.Text}),
        lambda: c.Record("nat"),
        lambda: c.Variant(["ok"]),
        lambda: c.Codec([5]),
        lambda: c.Codec([c.Recursive("undefined")]),
    ):
        with pytest.raises(c.CandidError):
            make()


def test_recursive_types_are_defined_once_and_not_as_themselves():
    knot = c.Recursive("knot")
    with pytest.raises(c.CandidError, match="not defined"):
        _ = knot.definition
    with pytest.raises(c.CandidError, match="itself"):
        knot.define(knot)
    other = c.Recursive("other").define(knot)
    with pytest.raises(c.CandidError, match="itself"):
        knot.define(other)
    knot.define(c.Opt(knot))
    with pytest.raises(c.CandidError, match="already"):
        knot.define(c.Nat)
    method = c.Recursive("method").define(c.Nat)
    with pytest.raises(c.CandidError, match="function"):
        c.Codec([c.Service({"m": method})])


def test_labels_may_be_members_of_an_enumeration():
    class Name(enum.StrEnum):
        FIRST = "first"
        SECOND = "second"

    class Number(enum.IntEnum):
        FIVE = 5

    record = c.Record({Name.FIRST: c.Nat, Number.FIVE: c.Opt(c.Text)})
    (back,) = c.decode([record], c.encode([record], [{Name.FIRST: 1, 5: "x"}]))
    assert back == {"first": 1, 5: "x"}
    assert [type(label) for label in back] == [str, int]
    variant = c.Variant({Name.FIRST: c.Nat, Name.SECOND: c.Null})
    assert round_trip(variant, c.Case(Name.FIRST, 1)) == c.Case("first", 1)


def test_a_label_is_never_run_whatever_it_calls_itself():
    class Sly(str):
        __slots__ = ()

        def __repr__(self):
            return "1 / 0"

    class SlyNumber(int):
        def __repr__(self):
            return "1 / 0"

    record = c.Record({Sly("a"): c.Nat, SlyNumber(7): c.Opt(c.Nat)})
    assert round_trip(record, {"a": 1, 7: 2}) == {"a": 1, 7: 2}


def test_labels_of_any_text():
    labels = ('it\'s "quoted"\\', "class", "", "{x}", "{", "☃", "\n")
    type_ = c.Record(dict.fromkeys(labels, c.Nat))
    value = {field.label: number for number, field in enumerate(type_.declared)}
    assert round_trip(type_, value) == value
    variant = c.Variant({"a'b\"\\n": c.Nat})
    assert round_trip(variant, c.Case("a'b\"\\n", 1)) == c.Case("a'b\"\\n", 1)


def test_variants_of_many_cases():
    type_ = c.Variant({f"c{number}": c.Nat if number % 3 else c.Null for number in range(50)})
    for number in range(50):
        value = c.Case(f"c{number}", 5 if number % 3 else None)
        assert round_trip(c.Vec(type_), [value, value]) == [value, value]
    for bad in (c.Case("c50"), c.Case([]), c.Case("c1", "x")):
        with pytest.raises(c.CandidError) as caught:
            c.encode([c.Vec(type_)], [[c.Case("c0"), bad]])
        assert caught.value.path.startswith("[0][1]")


def test_one_codec_serves_many_threads():
    codec = c.Codec([c.Record({"a": c.Nat, "b": c.Opt(c.Text)})])
    layouts = [
        codec.encode({"a": 300, "b": "x"}),
        c.encode([c.Record({"a": c.Nat, "b": c.Text})], [{"a": 300, "b": "x"}]),
        c.encode([c.Record({"a": c.Nat, "b": c.Text, "c": c.Nat})], [{"a": 300, "b": "x", "c": 1}]),
    ]
    wrong = []

    def work():
        for turn in range(200):
            if codec.decode(layouts[turn % 3]) != [{"a": 300, "b": "x"}]:
                wrong.append(turn)
            if codec.encode({"a": 300, "b": "x"}) != layouts[0]:
                wrong.append(turn)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_types_written_alike_share_a_codec_but_not_their_labels():
    def fresh(label):
        return c.Record({label: c.Nat})

    assert c.decode([fresh("a")], c.encode([fresh("a")], [{"a": 1}])) == [{"a": 1}]
    assert c.decode([fresh(97)], c.encode([fresh("a")], [{"a": 1}])) == [{97: 1}]
    assert c.decode([fresh("a")], c.encode([fresh(97)], [{97: 1}])) == [{"a": 1}]


def test_primitive_types_are_themselves_after_pickling():
    assert pickle.loads(pickle.dumps(c.Nat)) is c.Nat
    assert pickle.loads(pickle.dumps(c.PrincipalType)) is c.PrincipalType
    type_ = c.Record({"a": c.Opt(c.Blob)})
    assert pickle.loads(pickle.dumps(type_)) == type_


def test_random_values_are_of_their_types_and_come_again_from_a_seed(make_types):
    import random

    for seed in range(100):
        types = [make_types(seed, empty=False).make()]
        try:
            values = c.random_values(types, random.Random(seed))
        except c.CandidError:
            continue
        c.encode(types, values)
        assert repr(c.random_values(types, random.Random(seed))) == repr(values)
    with pytest.raises(c.CandidError, match="no value"):
        c.random_values([c.Empty], random.Random(0))
    assert c.random_values([c.Record(XY, into=Pair)], random.Random(0))[0].x >= 0
