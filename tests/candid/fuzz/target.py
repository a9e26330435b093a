"""Coverage-guided fuzzing of the Candid decoder and parsers, with libFuzzer's options as arguments.

The first byte chooses what is asked of the rest. Whatever that is, the answer is a value or a
CandidError; what was read can be written and read again; and passing over a message finds fault
exactly where reading it does.
"""

import sys

import atheris

with atheris.instrument_imports(include=["bridge.candid"]):
    from bridge import candid as c
    from bridge.candid import codec as _codec  # noqa: F401 - instrumented here

LIST = c.Recursive("List")
LIST.define(c.Opt(c.Record({"head": c.Int, "tail": LIST})))
TREE = c.Recursive("Tree")
TREE.define(c.Variant({"leaf": c.Text, "node": c.Record([TREE, TREE]), "many": c.Vec(TREE)}))
BROAD = c.parse_types(
    """(record {
      a : opt nat; b : opt opt bool; c : vec opt text; d : opt vec int16; e : reserved; f : null;
      g : opt variant { x : record { nat8; float32 }; y; z : opt principal }; h : opt blob;
      i : opt func (opt nat, record { a : int }) -> (nat) query; j : opt service { m : () -> () };
    }, opt int, vec record {})"""
)
EXPECTED = [
    [],
    [c.Reserved],
    [c.Opt(c.Nat)],
    [LIST],
    [c.Opt(TREE), c.Opt(LIST)],
    BROAD,
    [c.Vec(c.Nat), c.Opt(c.Vec(c.Float64)), c.Opt(c.Blob)],
    [c.PrincipalType],
]
# Beyond this a run is a waste of time; the bounds themselves have tests.
BUDGET = c.Budget(base=5_000, depth=200, parts=64)
CODECS = [c.Codec(types, budget=BUDGET) for types in EXPECTED]


def attempt(call, *args):
    """The result in a list, or None where it was refused."""
    try:
        return [call(*args)]
    except c.CandidError as error:
        str(error)
        return None


def untyped(data):
    return c.decode_untyped(data, budget=BUDGET)


def read_message(choice, data):
    codec = CODECS[choice % len(CODECS)]
    values = attempt(codec.decode, data)
    if values is not None:
        written = codec.encode(*values[0])
        again = codec.decode(written)
        if repr(again) != repr(values[0]):
            raise AssertionError(f"{values[0]!r} was read again as {again!r}")
    passed, read = attempt(CODECS[0].decode, data), attempt(untyped, data)
    if (passed is None) != (read is None):
        raise AssertionError(f"passing over gives {passed!r}, reading gives {read!r}")


def read_text(choice, text):
    if choice % 3 == 0:
        interface = attempt(c.parse_did, text)
        if interface is not None:
            printed = c.did_text(interface[0])
            if c.parse_did(printed).types != interface[0].types:
                raise AssertionError(f"{printed!r} is not the same interface")
    elif choice % 3 == 1:
        found = attempt(c.infer_values, text)
        if found is not None:
            types, values = found[0]
            printed = c.values_text(values, types)
            if repr(c.parse_values(printed, types)) != repr(values):
                raise AssertionError(f"{printed!r} is not the same values")
    else:
        attempt(c.parse_values, text, BROAD)


def one_input(data):
    if not data:
        return
    choice, rest = data[0], data[1:]
    if choice < 200:
        read_message(choice, b"DIDL" + rest)
    elif choice < 210:
        read_message(choice, rest)
    else:
        read_text(choice, rest.decode("utf-8", "replace"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
