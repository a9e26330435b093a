"""Subtyping and what follows from it: references in messages, and upgrades of services."""

import pytest

from bridge import candid as c

DEFINITIONS = """
type Loop = record { Loop };
type LoopOpt = record { opt LoopOpt };
type Vecs = vec Vecs;
type Vecs2 = vec vec Vecs2;
type Case = variant { 0 : Case };
type List = opt record { nat; List };
type IntList = opt record { int; IntList };
type TextList = opt record { text; TextList };
type Chain = variant { end; next : record { nat; Chain } };
type IntChain = variant { end; next : record { int; IntChain } };
type Stream = func () -> (nat, Stream);
type IntStream = func () -> (int, IntStream);
"""
INTERFACE = c.parse_did(DEFINITIONS)


def holds(left, right):
    return c.is_subtype(c.parse_type(left, INTERFACE), c.parse_type(right, INTERFACE))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("nat", "nat"),
        ("nat", "int"),
        ("empty", "nat"),
        ("empty", "record { a : text }"),
        ("text", "reserved"),
        ("service {}", "principal"),
        ("vec nat", "vec int"),
        ("vec empty", "vec text"),
        ("null", "opt nat"),
        ("nat", "opt nat"),
        ("nat", "opt text"),
        ("opt nat", "opt text"),
        ("reserved", "opt text"),
        ("opt opt nat", "opt nat"),
        ("record { a : nat; b : text }", "record { a : int }"),
        ("record {}", "record { a : opt nat }"),
        ("record {}", "record { a : null }"),
        ("record {}", "record { a : reserved }"),
        ("record { a : text }", "record { a : opt nat }"),
        ("variant { a }", "variant { a; b }"),
        ("variant {}", "variant { a }"),
        ("variant { a : nat }", "variant { a : int; b }"),
        ("func (int) -> (nat)", "func (nat) -> (int)"),
        ("func () -> (nat, text)", "func () -> (nat)"),
        ("func () -> ()", "func (nat) -> ()"),
        ("func (opt nat) -> ()", "func () -> ()"),
        ("func () -> ()", "func () -> (opt nat)"),
        ("func () -> () query", "func () -> () query"),
        ("service { a : () -> (); b : () -> () }", "service { a : () -> () }"),
        ("service { a : () -> (nat) }", "service { a : () -> (int) }"),
        ("Loop", "Loop"),
        ("Loop", "record { Loop }"),
        ("record { Loop }", "Loop"),
        ("Loop", "LoopOpt"),
        ("Vecs", "Vecs2"),
        ("Vecs2", "Vecs"),
        ("Case", "variant { 0 : Case; 1 }"),
        ("List", "IntList"),
        ("Chain", "IntChain"),
        ("Stream", "IntStream"),
        ("List", "TextList"),  # through the rule that any opt is a subtype of any other
    ],
)
def test_it_holds(left, right):
    assert holds(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("int", "nat"),
        ("nat8", "nat"),
        ("float32", "float64"),
        ("nat", "empty"),
        ("reserved", "nat"),
        ("opt nat", "nat"),
        ("opt empty", "null"),
        ("null", "nat"),
        ("principal", "service {}"),
        ("vec int", "vec nat"),
        ("record {}", "record { a : nat }"),
        ("record {}", "record { a : empty }"),
        ("record { a : int }", "record { a : nat }"),
        ("variant { a; b }", "variant { a }"),
        ("variant { a : int }", "variant { a : nat }"),
        ("record {}", "variant {}"),
        ("func (nat) -> ()", "func (int) -> ()"),
        ("func () -> (int)", "func () -> (nat)"),
        ("func (nat) -> ()", "func () -> ()"),
        ("func () -> ()", "func () -> (nat)"),
        ("func () -> () query", "func () -> ()"),
        ("func () -> ()", "func () -> () oneway"),
        ("service {}", "service { a : () -> () }"),
        ("service { a : () -> () query }", "service { a : () -> () }"),
        ("Loop", "empty"),
        ("Vecs", "empty"),
        ("IntChain", "Chain"),
        ("IntStream", "Stream"),
    ],
)
def test_it_does_not_hold(left, right):
    assert not holds(left, right)


def test_a_reference_of_an_unsuitable_type_does_not_fit():
    who = c.Principal(b"x")
    wire = c.parse_types("(func (nat) -> (int))")
    data = c.encode(wire, [c.FuncRef(who, "m")])
    assert c.decode(c.parse_types("(func (nat) -> (int, opt text))"), data)
    with pytest.raises(c.CandidError, match="not a subtype"):
        c.decode(c.parse_types("(func (nat) -> (nat))"), data)
    assert c.decode(c.parse_types("(opt func (nat) -> (nat))"), data) == [None]
    assert c.decode(c.parse_types("(opt func (nat) -> (int))"), data) == [c.FuncRef(who, "m")]
    service = c.encode(c.parse_types("(service { a : () -> () query })"), [c.ServiceRef(who)])
    assert c.decode(c.parse_types("(service {})"), service) == [c.ServiceRef(who)]
    assert c.decode(c.parse_types("(opt service { a : () -> () })"), service) == [None]


def test_references_of_recursive_types_are_compared_without_end():
    wire = c.parse_types("(Stream)", INTERFACE)
    data = c.encode(wire, [c.FuncRef(c.Principal(b""), "next")])
    assert c.decode(c.parse_types("(IntStream)", INTERFACE), data)
    back = c.encode(c.parse_types("(IntStream)", INTERFACE), [c.FuncRef(c.Principal(b""), "n")])
    assert c.decode([c.Opt(wire[0])], back) == [None]


OLD = """
type Order = record { id : nat; note : opt text };
service : { place : (Order) -> (variant { ok : nat; err : text }); list : () -> (vec Order) query }
"""


def upgrade(new):
    return [str(fault) for fault in c.upgrade_faults(c.parse_did(new), c.parse_did(OLD))]


def test_an_upgrade_that_keeps_its_clients_has_no_faults():
    assert upgrade(OLD) == []
    assert not upgrade(
        """
        type Order = record { id : nat; note : opt text; gift : opt bool };
        service : (opt nat) -> {
          place : (Order, opt text) -> (variant { ok : nat; err : text });
          list : () -> (vec Order) query;
          cancel : (nat) -> ();
        }
        """
    )


def test_an_upgrade_that_breaks_clients_tells_all_that_breaks():
    faults = upgrade(
        """
        type Order = record { id : nat64; amount : nat };
        service : { place : (Order) -> (variant { ok : nat; err : text; later }) }
        """
    )
    assert any("method list is missing" in fault for fault in faults)
    assert any("method place, argument 0" in fault and "amount" in fault for fault in faults)
    assert any("field id" in fault and "nat64" in fault for fault in faults)
    assert any("method place, result 0" in fault and "later" in fault for fault in faults)


def test_a_changed_mode_breaks_clients():
    faults = upgrade(OLD.replace("(vec Order) query", "(vec Order)"))
    assert len(faults) == 1
    assert "method list" in faults[0]
    assert "query" in faults[0]


@pytest.mark.parametrize(
    ("left", "right", "losses"),
    [
        ("nat", "opt nat", []),
        ("nat", "opt int", []),
        ("null", "opt nat", []),
        ("opt nat", "opt int", []),
        ("opt nat", "opt text", ["nat would be read as null where opt text is expected"]),
        ("text", "opt nat", ["text would be read as null where opt nat is expected"]),
        ("nat", "opt opt nat", ["nat would be read as null where opt opt is expected"]),
        ("record { a : opt text }", "record { a : opt nat }", ["field a: text would be read as"]),
        ("opt variant { a; b }", "opt variant { a }", ["variant would be read as null"]),
        ("func (opt nat) -> ()", "func (opt text) -> ()", ["argument 0: text would be read as"]),
        ("opt opt nat", "opt opt text", ["content: nat would be read as null"]),
        ("List", "IntList", []),
        ("List", "TextList", ["record would be read as null"]),
        ("vec Loop", "vec Loop", []),
    ],
)
def test_values_that_would_be_lost_are_told(left, right, losses):
    left_type, right_type = (c.parse_type(one, INTERFACE) for one in (left, right))
    assert c.is_subtype(left_type, right_type)
    found = [str(loss) for loss in c.subtype_losses(left_type, right_type)]
    assert len(found) == len(losses)
    for one, expected in zip(found, losses, strict=True):
        assert one.startswith(expected)


def test_an_upgrade_that_changes_an_optional_field_is_allowed_with_a_warning():
    new = OLD.replace("note : opt text", "note : opt nat")
    assert upgrade(new) == []
    losses = c.upgrade_losses(c.parse_did(new), c.parse_did(OLD))
    assert any("method list, result 0" in str(loss) for loss in losses)
    assert not c.upgrade_losses(c.parse_did(OLD), c.parse_did(OLD))


def test_upgrades_need_services():
    with pytest.raises(c.CandidError, match="service"):
        c.upgrade_faults(c.parse_did("type A = nat;"), c.parse_did(OLD))
    with pytest.raises(c.CandidError, match="service"):
        c.upgrade_losses(c.parse_did(OLD), c.parse_did("type A = nat;"))


def test_equal_types_are_equal_however_written():
    assert c.parse_type("record { a : nat; b : text }") == c.Record({"b": c.Text, "a": c.Nat})
    assert c.parse_type("record { 97 : nat }") == c.Record({"a": c.Nat})
    assert c.parse_type("Vecs", INTERFACE) == c.parse_type("vec vec Vecs2", INTERFACE)
    assert c.parse_type("List", INTERFACE) != c.parse_type("IntList", INTERFACE)
    assert hash(c.Record({"a": c.Nat})) == hash(c.Record({97: c.Nat}))
    assert c.Func([c.Nat], [], ["query"]) == c.Func([c.Nat], [], ["query"], arg_names=["n"])
    assert c.Vec(c.Nat) != "vec nat"
