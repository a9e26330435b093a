"""Whatever is encoded is read back, for types and values found by search."""

import random
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge import candid as c

SETTINGS = settings(max_examples=150, suppress_health_check=list(HealthCheck))

PLAIN = {
    c.Null: st.none(),
    c.Bool: st.booleans(),
    c.Nat: st.integers(min_value=0),
    c.Int: st.integers(),
    c.Nat8: st.integers(0, 2**8 - 1),
    c.Nat16: st.integers(0, 2**16 - 1),
    c.Nat32: st.integers(0, 2**32 - 1),
    c.Nat64: st.integers(0, 2**64 - 1),
    c.Int8: st.integers(-(2**7), 2**7 - 1),
    c.Int16: st.integers(-(2**15), 2**15 - 1),
    c.Int32: st.integers(-(2**31), 2**31 - 1),
    c.Int64: st.integers(-(2**63), 2**63 - 1),
    c.Float32: st.floats(width=32, allow_nan=False),
    c.Float64: st.floats(allow_nan=False),
    c.Text: st.text(),
    c.Reserved: st.none(),
    c.PrincipalType: st.binary(max_size=29).map(c.Principal),
    c.Blob: st.binary(),
}
LABELS = st.one_of(st.text(max_size=6), st.integers(0, 2**32 - 1))


@st.composite
def typed(draw, depth=3):
    """A type, and a strategy for its values."""
    kind = draw(st.integers(0, 9)) if depth else 0
    if kind < 4:
        type_ = draw(st.sampled_from(list(PLAIN)))
        return type_, PLAIN[type_]
    if kind == 4:
        inner, values = draw(typed(depth - 1))
        content = c.resolve(inner)
        if isinstance(content, c.Opt) or content in (c.Null, c.Reserved):
            values = values.map(c.Some)
        return c.Opt(inner), st.none() | values
    if kind == 5:
        inner, values = draw(typed(depth - 1))
        if inner is c.Nat8:
            return c.Blob, st.binary()
        return c.Vec(inner), st.lists(values, max_size=4)
    labels = draw(st.lists(LABELS, max_size=4, unique_by=c.field_id))
    parts = {label: draw(typed(depth - 1)) for label in labels}
    if kind < 8 or not parts:
        type_ = c.Record({label: part[0] for label, part in parts.items()})
        values = st.fixed_dictionaries({label: part[1] for label, part in parts.items()})
        if type_.is_tuple:
            values = values.map(lambda found: tuple(found[place] for place in range(len(found))))
        return type_, values
    cases = [
        part[1].map(lambda value, label=label: c.Case(label, value))
        for label, part in parts.items()
    ]
    return c.Variant({label: part[0] for label, part in parts.items()}), st.one_of(cases)


@SETTINGS
@given(st.data())
def test_what_is_encoded_is_read_back(data):
    pairs = data.draw(st.lists(typed(), max_size=3))
    types = [type_ for type_, _ in pairs]
    values = [data.draw(strategy) for _, strategy in pairs]
    message = c.encode(types, values)
    assert c.decode(types, message) == values
    assert c.message_types(message) == types
    # At its own types, under an option, and as what is passed over.
    as_options = [c.Opt(c.Record({"v": type_})) for type_ in types]
    wrapped = c.encode(as_options, [{"v": value} for value in values])
    assert c.decode(as_options, wrapped) == [{"v": value} for value in values]
    assert c.decode([c.Opt(c.Record({"w": c.Nat}))] * len(types), wrapped) == [None] * len(types)
    assert c.decode([c.Reserved] * len(types), message) == [None] * len(types)


@SETTINGS
@given(st.data())
def test_untyped_reading_agrees_with_typed_reading(data):
    type_, strategy = data.draw(typed())
    message = c.encode([type_], [data.draw(strategy)])
    assert c.decode_untyped(message) == c.decode(c.message_types(message), message)


def test_values_read_at_a_supertype_are_of_it(make_types):
    """Soundness: a subtype's values can always be read, and give values of the supertype."""
    related = 0
    for seed in range(1500):
        maker = make_types(seed)
        wire = maker.make()
        expected = maker.change(wire)
        if not c.is_subtype(wire, expected):
            continue
        try:
            values = c.random_values([wire], random.Random(seed))
        except c.CandidError:
            continue
        read = c.decode([expected], c.encode([wire], values))
        c.encode([expected], read)
        related += 1
    assert related > 500


@SETTINGS
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_refused_and_nothing_else(data):
    for types in ([], [c.Nat], [c.Opt(c.Vec(c.Text))], [c.Reserved]):
        for message in (data, b"DIDL" + data):
            with suppress(c.CandidError):
                c.decode(types, message)
