"""``.did`` files: read, printed back, and refused with line and column."""

from pathlib import Path

import pytest

from bridge import candid as c
from bridge import contracts

CONTRACTS = sorted(Path(contracts.__file__).parent.parent.joinpath("candid").glob("*.did"))


def load(name):
    return contracts.interface(name.removesuffix(".did"))


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_every_contract_is_read_and_printed_back_the_same(path):
    interface = c.parse_did(path.read_text(encoding="utf-8"), loader=load)
    assert interface.service is not None
    text = c.did_text(interface)
    again = c.parse_did(text)
    assert again.types == interface.types
    assert again.service == interface.service
    assert again.init_args == interface.init_args
    assert c.did_text(again) == text


# Every form of the grammar in one file.
FULL = Path(__file__).with_name("full.did").read_text(encoding="utf-8")


def test_the_whole_grammar():
    interface = c.parse_did(FULL)
    types = interface.types
    assert types["_b"] == c.Opt(c.Vec(c.Nat8))
    assert types["Empty"] == c.Record()
    assert types["None"] == c.Variant({})
    assert [f.id for f in types["Tuple"].declared] == [
        0, 1, 7, 8, c.field_id("named"), c.field_id("named") + 1,
    ]  # fmt: skip
    assert types["Quoted"] == c.Record(
        {"two words": c.Nat, "record": c.Text, '☃\n"': c.Null, 16: c.Blob}
    )
    assert types["Kinds"] == c.Variant(
        {"red": c.Null, "dark green": c.Null, 5: c.Null, "six": c.Nat, 255: c.Record([c.Nat])}
    )
    function = types["F"].definition
    assert function.arg_names == ("name", None, "the age")
    assert function.result_names == ("id", None)
    assert function.modes == ("query",)
    assert len(types["All"].fields) == 19
    service = interface.service
    assert interface.service_name == "name"
    assert interface.init_names == ("init", None)
    assert interface.init_args == (c.Opt(types["List"]), c.Nat)
    assert service.methods["get"].modes == ("query",)
    assert service.methods["h"].modes == ("composite_query",)
    assert list(service.methods) == ["get", "h", "other"]
    assert types["S"].methods["odd name"] == function
    assert "two words" in interface.names()
    again = c.parse_did(c.did_text(interface))
    assert again.types == interface.types
    assert again.service == service
    assert again.service.methods["get"].args == service.methods["get"].args
    assert again.init_args == interface.init_args
    assert again.init_names == interface.init_names


def test_a_type_without_service_and_a_service_by_name():
    assert c.parse_did("").service is None
    assert c.parse_did("type A = nat").types == {"A": c.Nat}
    by_name = c.parse_did("type S = service { m : () -> () }; service : S;")
    assert by_name.service == c.Service({"m": c.Func()})
    assert by_name.init_args is None
    assert c.parse_did("service : () -> {}").init_args == ()


def test_names_are_one_type_and_may_come_in_any_order():
    interface = c.parse_did("type A = vec B; type B = record { C }; type C = nat; type D = B;")
    assert interface.types["A"].element is interface.types["B"]
    assert interface.types["D"] is interface.types["B"]
    assert c.did_text(interface).count("record") == 1


def test_names_of_primitive_types_may_be_labels_without_quotes():
    interface = c.parse_did(
        "type A = record { text : text; nat }; type B = variant { bool; int : nat };"
        "service text : { nat8 : (text : text) -> () }"
    )
    text_and_next = c.Record({"text": c.Text, c.field_id("text") + 1: c.Nat})
    assert interface.types["A"] == text_and_next
    assert interface.types["B"] == c.Variant({"bool": c.Null, "int": c.Nat})
    assert list(interface.service.methods) == ["nat8"]
    assert c.parse_did(c.did_text(interface)).types == interface.types


def test_mutually_recursive_types():
    interface = c.parse_did(
        "type Node = record { value : nat; children : Nodes }; type Nodes = vec Node;"
    )
    tree = {"value": 1, "children": [{"value": 2, "children": []}]}
    types = [interface.types["Node"]]
    assert c.decode(types, c.encode(types, [tree])) == [tree]
    assert c.parse_did(c.did_text(interface)).types == interface.types


def test_a_very_long_chain_of_names():
    lines = ["type T0 = nat;"] + [f"type T{n} = opt T{n - 1};" for n in range(1, 3000)]
    interface = c.parse_did("\n".join(lines))
    assert len(interface.types) == 3000
    assert repr(interface.types["T2999"]).endswith("...")
    assert c.parse_did(c.did_text(interface)).types["T2999"] == interface.types["T2999"]


def test_printing_a_type_that_unfolds_without_bound_is_cut_short():
    lines = ["type T0 = nat;"]
    lines += [f"type T{n} = record {{ T{n - 1}; T{n - 1} }};" for n in range(1, 60)]
    type_ = c.parse_did("\n".join(lines)).types["T59"]
    assert len(repr(type_)) < 1_000_000
    assert "..." in repr(type_)
    assert repr(c.Recursive("x")) == "recursive"


FILES = {
    "a.did": 'import "lib/b.did"; type A = record { b : B }; service : { a : (A) -> () }',
    "lib/b.did": 'import "c.did"; type B = vec C; service : { b : (B) -> () }',
    "lib/c.did": "type C = opt nat;",
}


def test_imports_give_types_relative_to_the_importing_file():
    asked = []

    def loader(name):
        asked.append(name)
        return FILES[name]

    interface = c.parse_did(FILES["a.did"], loader=loader)
    assert asked == ["lib/b.did", "lib/c.did"]
    assert interface.types["A"] == c.Record({"b": c.Vec(c.Opt(c.Nat))})
    assert list(interface.service.methods) == ["a"]  # the imported service is not part of it


def test_importing_a_service_merges_its_methods():
    interface = c.parse_did(
        'import service "lib/b.did"; service : { own : () -> () }', loader=FILES.__getitem__
    )
    assert sorted(interface.service.methods) == ["b", "own"]
    alone = c.parse_did('import service "lib/b.did"', loader=FILES.__getitem__)
    assert list(alone.service.methods) == ["b"]


def test_a_file_imported_twice_is_one():
    files = {
        "b": 'import "d"; type B = D;',
        "c": 'import "d"; type C = D;',
        "d": "type D = record { nat };",
    }
    interface = c.parse_did('import "b"; import "c"; type A = record { B; C };', loader=files.get)
    assert interface.types["B"] is interface.types["C"]


def failing(text, *, loader=None):
    with pytest.raises(c.CandidError) as caught:
        c.parse_did(text, loader=loader)
    return caught.value


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"b": 'import "b"; type B = nat;'}, "imports itself"),
        ({"b": "type B = A;"}, "'A' is not defined"),
        ({"b": "type A = nat;"}, "defined in another file"),
        ({"b": "type B = ;"}, "b: line 1, column 10"),
    ],
)
def test_bad_imports(files, message):
    error = failing('import "b"; type A = nat;', loader=files.get)
    assert message in str(error)


def test_an_import_that_cannot_be_read():
    def loader(name):
        raise FileNotFoundError(name)

    assert "cannot be read" in str(failing('import "b";', loader=loader))
    assert "no loader" in str(failing('import "b";'))


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("type A", "line 1, column 7", "'='"),
        ("type A = natt", "line 1, column 10", "not defined"),
        ("type A = nat type B = nat", "line 1, column 14", "';'"),
        ("type nat = nat", "line 1, column 6", "keyword"),
        ("type A = nat;\ntype A = int;", "line 2, column 6", "twice"),
        ("type A = record { a : nat; a : int }", "line 1, column 28", "twice"),
        ("type A = record { a : nat; 97 : int }", "line 1, column 28", "one label"),
        ("type A = record { a : nat b : nat }", "line 1, column 27", "';'"),
        ("type A = record { a }", "line 1, column 19", "not defined"),
        ("type A = record { vec : nat }", "line 1, column 19", "quotes"),
        ("type A = record { query : nat }", "line 1, column 19", "quotes"),
        ("type A = variant { opt }", "line 1, column 20", "quotes"),
        ("type A = variant { 4294967296 }", "line 1, column 20", "4294967296"),
        ("type A = record { 4294967295 : nat; nat }", "line 1, column 37", "no number"),
        ("type A = func (nat)", "line 1, column 20", "'->'"),
        ("type A = func () -> nat", "line 1, column 21", "'('"),
        ("type A = func () -> () query query", "line 1, column 30", "twice"),
        ("type A = func () -> (nat) oneway", "line 1, column 15", "no results"),
        ("type A = func (a : nat, a : nat) -> ()", "line 1, column 25", "twice"),
        ("service : { m : nat }", "line 1, column 17", "keyword"),
        ("type A = nat; service : { m : A }", "line 1, column 31", "function"),
        ("type A = service { m : B }; type B = opt A", "line 1, column 24", "no function"),
        ("service : { m : () -> (); m : () -> () }", "line 1, column 27", "twice"),
        ("service : A", "line 1, column 11", "not defined"),
        ("type A = nat; service : A", "line 1, column 25", "no service"),
        ("service : {} service : {}", "line 1, column 14", "nothing after"),
        ("service : {}; type A = nat", "line 1, column 15", "nothing after"),
        ("type A = B; type B = A;", "line 1", "itself"),
        ("type A = A;", "line 1", "itself"),
        ("/* open", "line 1, column 1", "does not end"),
        ('type A = record { "open : nat }', "line 1, column 19", "does not end"),
        ('type A = record { "\\q" : nat }', "line 1, column 20", "escape"),
        ('type A = record { "\\ff" : nat }', "line 1, column 19", "UTF-8"),
        ("type A = nat; #", "line 1, column 15", "'#'"),
        ("hello", "line 1, column 1", "'type'"),
        ("import nat", "line 1, column 8", "quotes"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(text, place, message):
    error = failing(text)
    assert place in str(error)
    assert message in str(error)
    assert error.offset is not None


def test_nesting_without_end_is_refused():
    assert "deep" in str(failing("type A = " + "opt " * 100_000 + "nat"))
    assert "deep" in str(failing("type A = " + "record { " * 100_000))
    with pytest.raises(c.CandidError, match="text"):
        c.parse_did(b"type A = nat")


def test_single_types_and_lists_of_types():
    interface = c.parse_did("type Id = nat;")
    assert c.parse_type("vec record { Id; text }", interface) == c.Vec(c.Record([c.Nat, c.Text]))
    assert c.parse_types("(Id, opt blob,)", interface) == [c.Nat, c.Opt(c.Blob)]
    for bad in ("Id", "nat nat", "(nat", "", "nat)"):
        with pytest.raises(c.CandidError):
            c.parse_type(bad)
    assert c.type_text(c.parse_type("func (x : nat) -> () query")) == "func (x : nat) -> () query"


def test_named_records_can_be_read_into_classes():
    from dataclasses import dataclass

    @dataclass
    class User:
        name: str
        age: int

    text = "type User = record { name : text; age : nat8 }; service : { all : () -> (vec User) }"
    interface = c.parse_did(text, classes={"User": User})
    results = interface.service.methods["all"].results
    users = [User("a", 1), User("b", 2)]
    assert c.decode(results, c.encode(results, [users])) == [users]
    with pytest.raises(c.CandidError, match="no type 'Person'"):
        c.parse_did(text, classes={"Person": User})
    with pytest.raises(c.CandidError, match="only a record"):
        c.parse_did("type User = nat;", classes={"User": User})
