"""Candid, the interface language of the Internet Computer, for Python.

Types, the binary codec, ``.did`` files, the text form and subtyping. It knows nothing of the IC
beyond principals, and imports nothing outside of the standard library.

    Point = candid.Record({"x": candid.Nat, "y": candid.Opt(candid.Int)})
    codec = candid.Codec([Point])
    data = codec.encode({"x": 1, "y": None})
    (point,) = codec.decode(data)

    shop = candid.parse_did(text)
    place = shop.service.methods["place"]
    argument = candid.encode(place.args, [order])

Values: ``bytes`` for blob, ``int``, ``float``, ``str``, ``bool``, ``None``, lists for vec, ``dict``
for records (tuples where the labels are 0, 1, 2 ...; a dataclass or NamedTuple where asked),
:class:`Case` for variants, :class:`Principal`, :class:`FuncRef`, :class:`ServiceRef`; for opt None
or the value, and :class:`Some` where that leaves a doubt. Every failure is :class:`CandidError`.

How it works: types become numbered tables (``table``), as the binary form has them. For encoding,
one Python function is written and compiled for each list of types (``encode``); for decoding, one
for each list of types and each layout of messages that is met (``decode``). Messages that fail are
gone through once more by a form that keeps the path, so the plain form need not. Work and memory
are bounded in proportion to a message's length (``budget``).
"""

from bridge.candid.budget import Budget
from bridge.candid.codec import Codec, decode, encode, message_types
from bridge.candid.did import (
    Interface,
    parse_did,
    parse_type,
    parse_types,
    upgrade_faults,
    upgrade_losses,
)
from bridge.candid.printer import did_text, type_text
from bridge.candid.sample import random_values
from bridge.candid.subtype import Fault, is_subtype, subtype_faults, subtype_losses
from bridge.candid.text_printer import values_text
from bridge.candid.text_reader import infer_values, parse_values
from bridge.candid.types import (
    Blob,
    Bool,
    Empty,
    Field,
    Float32,
    Float64,
    Func,
    Int,
    Int8,
    Int16,
    Int32,
    Int64,
    Nat,
    Nat8,
    Nat16,
    Nat32,
    Nat64,
    Null,
    Opt,
    PrincipalType,
    Record,
    Recursive,
    Reserved,
    Service,
    Text,
    Type,
    Variant,
    Vec,
    field_id,
    resolve,
)
from bridge.candid.untyped import decode_untyped
from bridge.candid.values import Case, FuncRef, ServiceRef, Some
from bridge.errors import CandidError
from bridge.principal import Principal

__all__ = [
    "Blob",
    "Bool",
    "Budget",
    "CandidError",
    "Case",
    "Codec",
    "Empty",
    "Fault",
    "Field",
    "Float32",
    "Float64",
    "Func",
    "FuncRef",
    "Int",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Interface",
    "Nat",
    "Nat8",
    "Nat16",
    "Nat32",
    "Nat64",
    "Null",
    "Opt",
    "Principal",
    "PrincipalType",
    "Record",
    "Recursive",
    "Reserved",
    "Service",
    "ServiceRef",
    "Some",
    "Text",
    "Type",
    "Variant",
    "Vec",
    "decode",
    "decode_untyped",
    "did_text",
    "encode",
    "field_id",
    "infer_values",
    "is_subtype",
    "message_types",
    "parse_did",
    "parse_type",
    "parse_types",
    "parse_values",
    "random_values",
    "resolve",
    "subtype_faults",
    "subtype_losses",
    "type_text",
    "upgrade_faults",
    "upgrade_losses",
    "values_text",
]
