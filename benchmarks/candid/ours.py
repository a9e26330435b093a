"""Measures bridge.candid: reads the works from standard input, prints the times."""

import json
import sys

from timing import measure

from bridge import candid as c

PRIMITIVES = {
    "nat": c.Nat,
    "int": c.Int,
    "blob": c.Blob,
    "text": c.Text,
    "null": c.Null,
    "nat32": c.Nat32,
    "nat64": c.Nat64,
    "principal": c.PrincipalType,
}


def build(spelled, knot=None):
    kind, *rest = spelled
    match kind:
        case "opt":
            return c.Opt(build(rest[0], knot))
        case "vec":
            return c.Vec(build(rest[0], knot))
        case "record":
            return c.Record({label: build(part, knot) for label, part in rest[0]})
        case "variant":
            return c.Variant({label: build(part, knot) for label, part in rest[0]})
        case "rec":
            knot = c.Recursive("Tree")
            return knot.define(build(rest[0], knot))
        case "self":
            return knot
    return PRIMITIVES[kind]


def value_of(value):
    if isinstance(value, list):
        return [value_of(one) for one in value]
    if isinstance(value, dict):
        if "hex" in value:
            return bytes.fromhex(value["hex"])
        if "principal" in value:
            return c.Principal(bytes.fromhex(value["principal"]))
        if "int" in value:
            return int(value["int"])
        if "case" in value:
            return c.Case(value["case"], value_of(value["value"]))
        return {key: value_of(one) for key, one in value.items()}
    return value


def options(type_, value):
    """Options as this library has them: None or the content."""
    type_ = c.resolve(type_)
    match type_:
        case c.Opt():
            return options(type_.content, value[0]) if value else None
        case c.Record():
            return {f.label: options(f.type, value[f.label]) for f in type_.declared}
        case c.Variant():
            inner = next(f.type for f in type_.fields if f.label == value.label)
            return c.Case(value.label, options(inner, value.value))
        case c.Vec() if type_.element is not c.Nat8:
            return [options(type_.element, one) for one in value]
    return value


def foreign(data, type_):
    """The same message as another library might send it: extra fields, extra types, extra cases."""
    wide = c.Variant(
        {
            "AAA": c.Vec(c.Record({"x": c.Opt(c.Text)})),
            "NEW": c.Record({"payload": c.Blob, "msg_id": c.Nat, "note": c.Nat32, "zzz": c.Nat64}),
        }
    )
    (value,) = c.decode([type_], data)
    return c.encode([wide], [c.Case("NEW", {**value.value, "note": 5, "zzz": 6})])


def narrow(value, extra):
    """The same message with an unused case of another name."""
    fields = {"msg_id": c.Nat, "payload": c.Blob}
    return c.encode([c.Variant({"NEW": c.Record(fields), f"x{extra}": c.Null})], [value])


def main():
    found = {}
    for name, work in json.load(sys.stdin).items():
        type_ = build(work["type"])
        value = options(type_, value_of(work["value"]))
        codec = c.Codec([type_])
        data = codec.encode(value)
        assert codec.decode(data) == [value]
        found[name] = {
            "encode": measure(lambda codec=codec, value=value: codec.encode(value)),
            "decode": measure(lambda codec=codec, data=data: codec.decode(data)),
            "bytes": len(data),
        }
        if name == "message 1 MB":
            content = memoryview(value.value["payload"])
            found[name]["copy"] = measure(lambda content=content: bytes(content))
        if name == "message 100 B":
            strange = foreign(data, type_)
            assert codec.decode(strange) == [value]
            found[name]["foreign"] = measure(
                lambda codec=codec, strange=strange: codec.decode(strange)
            )
            several = [data, strange, *(narrow(value, extra) for extra in range(4))]
            assert all(codec.decode(one) == [value] for one in several)
            found[name]["six layouts in turn"] = measure(
                lambda codec=codec, several=several: [codec.decode(one) for one in several]
            )
            found[name]["function decode"] = measure(
                lambda type_=type_, data=data: c.decode([type_], data)
            )
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
