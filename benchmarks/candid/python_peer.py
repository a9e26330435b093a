"""Measures ic-py or icp-py-core, which have one interface: module name as argument."""

import importlib
import json
import sys

from timing import measure


def build(types, spelled, knot=None):
    kind, *rest = spelled
    match kind:
        case "opt":
            return types.Opt(build(types, rest[0], knot))
        case "vec":
            return types.Vec(build(types, rest[0], knot))
        case "record":
            return types.Record({label: build(types, part, knot) for label, part in rest[0]})
        case "variant":
            return types.Variant({label: build(types, part, knot) for label, part in rest[0]})
        case "rec":
            knot = types.Rec()
            knot.fill(build(types, rest[0], knot))
            return knot
        case "self":
            return knot
        case "blob":
            return types.Vec(types.Nat8)
    return getattr(types, kind.capitalize())


def value_of(value):
    if isinstance(value, list):
        return [value_of(one) for one in value]
    if isinstance(value, dict):
        if "hex" in value:
            return bytes.fromhex(value["hex"])
        if "principal" in value:
            return bytes.fromhex(value["principal"])
        if "int" in value:
            return int(value["int"])
        if "case" in value:
            return {value["case"]: value_of(value["value"])}
        return {key: value_of(one) for key, one in value.items()}
    return value


def main():
    candid = importlib.import_module(sys.argv[1])
    found = {}
    for name, work in json.load(sys.stdin).items():
        type_ = build(candid.Types, work["type"])
        value = value_of(work["value"])
        params = [{"type": type_, "value": value}]
        entry = {}
        try:
            data = candid.encode(params)
            entry["encode"] = measure(lambda params=params: candid.encode(params))
            candid.decode(data, [type_])
            entry["decode"] = measure(lambda data=data, type_=type_: candid.decode(data, [type_]))
        except Exception as error:  # noqa: BLE001 - a peer that cannot is a row that says so
            entry["error"] = f"{type(error).__name__}: {error}"[:100]
        found[name] = entry
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
