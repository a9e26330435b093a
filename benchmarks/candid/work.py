"""What is measured: types and values in a neutral spelling, the same for every implementation.

A type is a list such as ``["record", [["a", ["nat"]]]]``; values are plain JSON, where bytes are
``{"hex": ...}``, principals ``{"principal": hex}``, large integers ``{"int": "..."}``, options a
list of none or one, and variants ``{"case": label, "value": ...}``. Run as a program, it prints
the lot.
"""

import json
import random
import sys

NAT, BLOB, TEXT, NULL, NAT32, NAT64 = ["nat"], ["blob"], ["text"], ["null"], ["nat32"], ["nat64"]
PRINCIPAL = ["principal"]


def opt(inner):
    return ["opt", inner]


def message(new, ack, fin, number, content, check):
    """A variant of three records: the shape of a small protocol, under any names."""
    return [
        "variant",
        [
            [new, ["record", [[number, NAT], [content, BLOB]]]],
            [ack, ["record", [[number, NAT], [content, opt(BLOB)], [check, opt(NAT32)]]]],
            [fin, ["record", [[number, NAT], [check, opt(NAT32)]]]],
        ],
    ]


def case(label, value=None):
    return {"case": label, "value": value}


def whole(number):
    return {"int": str(number)}


ULID = 0x0192_3C4D_5E6F_7081_92A3_B4C5_D6E7_F809
PROTOCOL = message("NEW", "ACK", "FIN", "msg_id", "payload", "hash")
OTHER = message("open", "reply", "close", "serial", "body", "digest")

LEDGER = [
    "vec",
    [
        "record",
        [
            ["from", PRINCIPAL],
            ["to", PRINCIPAL],
            ["amount", NAT],
            ["fee", opt(NAT)],
            ["memo", opt(BLOB)],
            ["time", NAT64],
            [
                "kind",
                [
                    "variant",
                    [["mint", NULL], ["burn", NULL], ["transfer", ["record", [["note", TEXT]]]]],
                ],
            ],
        ],
    ],
]
TREE = [
    "rec",
    ["variant", [["leaf", ["int"]], ["node", ["record", [["l", ["self"]], ["r", ["self"]]]]]]],
]


def transfers(chance, count):
    def one(place):
        return {
            "from": {"principal": chance.randbytes(29).hex()},
            "to": {"principal": chance.randbytes(29).hex()},
            "amount": whole(chance.randrange(1 << 60)),
            "fee": [whole(10_000)] if place % 2 else [],
            "memo": [{"hex": chance.randbytes(8).hex()}] if place % 3 else [],
            "time": whole(chance.randrange(1 << 63)),
            "kind": case("transfer", {"note": f"payment {place}"}) if place % 2 else case("mint"),
        }

    return [one(place) for place in range(count)]


def tree(depth, label=1):
    if depth == 0:
        return case("leaf", whole(label * 37 - 1000))
    return case("node", {"l": tree(depth - 1, 2 * label), "r": tree(depth - 1, 2 * label + 1)})


def chain(depth):
    """A tree as deep as it is large."""
    value = case("leaf", whole(-1))
    for place in range(depth):
        value = case("node", {"l": case("leaf", whole(place)), "r": value})
    return value


def works():
    chance = random.Random(4)
    content = {"hex": chance.randbytes(100).hex()}
    large = {"hex": chance.randbytes(1_000_000).hex()}
    new = {"msg_id": whole(ULID), "payload": content}
    return {
        "message 100 B": {"type": PROTOCOL, "value": case("NEW", new)},
        "other names 100 B": {
            "type": OTHER,
            "value": case("open", {"serial": whole(ULID), "body": content}),
        },
        "message 1 MB": {
            "type": PROTOCOL,
            "value": case("NEW", {"msg_id": whole(ULID), "payload": large}),
        },
        "1,000 transfers": {"type": LEDGER, "value": transfers(chance, 1000)},
        "tree of 2,047 nodes": {"type": TREE, "value": tree(10)},
        "tree 100 deep": {"type": TREE, "value": chain(100)},
        "100,000 nats": {
            "type": ["vec", NAT],
            "value": [
                whole(chance.getrandbits(chance.choice((7, 14, 40)))) for _ in range(100_000)
            ],
        },
    }


if __name__ == "__main__":
    json.dump(works(), sys.stdout)
