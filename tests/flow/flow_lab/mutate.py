"""Mutation testing of ``bridge.flow``, the command behind ``make mutate-flow``.

Each mutant is the package with one small change in one place. A mutant that no test notices is a
survivor: it is either listed with the reason in ``tests/flow/survivors.txt``, or a test is missing.

A mutant costs little because its process is forked from one that has imported the test tools but
not the package, and because the tests most likely to notice run first.
"""

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis  # noqa: F401 - imported before the forks, so that they need not
import pytest

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = TESTS.parents[1] / "bridge" / "flow"
SURVIVORS = TESTS / "survivors.txt"
TARGET = 0.95
SECONDS_A_MUTANT = 90

_UNITS = [
    "test_step.py",
    "test_questions.py",
    "test_engine.py",
    "test_admission.py",
    "test_world.py",
    "test_policy.py",
    "test_page.py",
]
_PROPERTIES = ["test_properties.py"]
# Where a module's own tests are: they are the likeliest to notice.
_FIRST = {
    "admission": ["test_admission.py"],
    "usage": ["test_admission.py"],
    "policy": ["test_policy.py"],
    "quantities": ["test_policy.py"],
    "world": ["test_world.py"],
    "inflight": ["test_world.py"],
    "batch": ["test_world.py"],
    "engine": ["test_engine.py"],
    "trace": ["test_engine.py"],
}
_NOT_IN_VECTORS = {"policy", "quantities", "admission", "usage", "world", "inflight", "batch"}
_NOT_IN_VECTORS |= {"engine", "trace"}
_VECTORS = [
    json.loads((TESTS.parent / "vectors" / name).read_text(encoding="utf-8"))
    for name in ("handwritten.json", "generated.json")
]

_COMPARE = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.RShift: ast.LShift,
    ast.LShift: ast.RShift,
    ast.BitOr: ast.BitAnd,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        module: Name of the module within the package.
        line: Where.
        change: What, readable and without the line, so that a list of survivors stays valid when
            lines move.
        source: The module with the change.
    """

    module: str
    line: int
    change: str
    source: str

    @property
    def name(self) -> str:
        """How the list of survivors names it."""
        return f"{self.module}: {self.change}"


class _Sites(ast.NodeVisitor):
    """Finds every place that can be changed, with what it is changed to."""

    def __init__(self) -> None:
        self.found: list[tuple[ast.AST, str, object, str]] = []
        self.function: list[str] = []

    def add(self, node: ast.AST, attribute: str, value: object, what: str) -> None:
        where = ".".join(self.function) or "module"
        self.found.append((node, attribute, value, f"{where}: {what}"))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.function.append(node.name)
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        self._body(node)
        self.function.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.function.append(node.name)
        self._body(node)
        self.function.pop()

    def _body(self, node) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        """What an error says is not mutated."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Asserts narrow types; none can fail."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """A text for people."""

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node.value, ast.Call):
            self.add(node, "value", ast.Constant(None), f"drop {ast.unparse(node)[:60]}")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id.isupper():
            if target.id.startswith("__"):
                return
        elif isinstance(target, ast.Attribute) and self.function:
            self.add(node, "targets", [ast.Name("_dropped", ast.Store())], _say("drop", node))
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._operator(node)
        self.visit(node.value)

    def visit_Compare(self, node: ast.Compare) -> None:
        for index, operator in enumerate(node.ops):
            swapped = _COMPARE.get(type(operator))
            if swapped is not None:
                ops = list(node.ops)
                ops[index] = swapped()
                self.add(node, "ops", ops, _say(swapped.__name__, node))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self.add(node, "op", other, _say(type(other).__name__, node))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._operator(node)
        self.generic_visit(node)

    def _operator(self, node) -> None:
        swapped = _ARITHMETIC.get(type(node.op))
        if swapped is not None:
            self.add(node, "op", swapped(), _say(swapped.__name__, node))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.add(node, "op", ast.UAdd(), _say("without not", node))
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        negated = ast.UnaryOp(ast.Not(), node.test)
        self.add(node, "test", negated, _say("negate", node.test))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(node, "value", not node.value, f"{node.value} -> {not node.value}")
        elif isinstance(node.value, int):
            self.add(node, "value", node.value + 1, f"{node.value} -> {node.value + 1}")
        elif isinstance(node.value, str) and node.value and " " not in node.value:
            # With a space it is a text for people.
            self.add(node, "value", node.value + "X", f"{node.value[:40]!r} -> ...X")

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        if name in {"TypeVar", "Row", "cast"}:
            return  # the tables are compared with the page, row by row
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self.add(node, "value", ast.Constant(None), _say("return None for", node.value))
        self.generic_visit(node)


def _say(what: str, node: ast.AST) -> str:
    return f"{what} in `{ast.unparse(node)[:70]}`"


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Every mutant of one module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    sites = _Sites()
    sites.visit(tree)
    seen: dict[str, int] = {}
    for node, attribute, value, what in sites.found:
        kept = getattr(node, attribute)
        setattr(node, attribute, value)
        with contextlib.suppress(TypeError, ValueError):
            mutated = ast.unparse(ast.fix_missing_locations(copy.deepcopy(tree)))
            seen[what] = seen.get(what, 0) + 1
            again = f" ({seen[what]})" if seen[what] > 1 else ""
            yield Mutant(path.stem, getattr(node, "lineno", 0), what + again, mutated)
        setattr(node, attribute, kept)


class _Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module of the package its mutated source."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = f"bridge.flow.{mutant.module}"

    def find_spec(self, fullname, path=None, target=None):
        if fullname == self.name:
            return importlib.util.spec_from_loader(fullname, self)
        return None

    def exec_module(self, module) -> None:
        code = compile(self.mutant.source, f"<mutant of {self.name}>", "exec")
        exec(code, module.__dict__)


def _vectors_notice() -> bool:
    """Play the test vectors without pytest, which is the quickest way to notice something."""
    from flow_lab.vectors import expected_of, outcome_of

    return any(
        outcome_of(data["policies"], vector) != expected_of(vector)
        for data in _VECTORS
        for vector in data["vectors"]
    )


def _is_noticed(mutant: Mutant) -> bool:
    """Run the tests on a mutant in this process, which ends afterwards."""
    signal.alarm(SECONDS_A_MUTANT)
    sys.meta_path.insert(0, _Loader(mutant))
    os.chdir(TESTS)
    if mutant.module not in _NOT_IN_VECTORS and _vectors_notice():
        return True
    first = _FIRST.get(mutant.module, ["test_step.py"])
    rest = [name for name in _UNITS if name not in first]
    for stage in (first, rest, _PROPERTIES):
        arguments = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--no-header",
            "--assert=plain",
        ]
        arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of hypothesis, above
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = pytest.main([*arguments, *stage])
        if code != 0:
            return True
    return False


def _fork(mutant: Mutant) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - the process ends
        code = 0 if _is_noticed(mutant) else 7
    finally:
        os._exit(code)


def survivors_of(mutants: list[Mutant], at_once: int) -> list[Mutant]:
    """The mutants that no test notices. One whose tests hang or crash is noticed."""
    waiting = list(reversed(mutants))
    running: dict[int, Mutant] = {}
    survivors = []
    began, done = time.perf_counter(), 0
    while waiting or running:
        while waiting and len(running) < at_once:
            mutant = waiting.pop()
            running[_fork(mutant)] = mutant
        child, status = os.wait()
        mutant = running.pop(child)
        done += 1
        if os.waitstatus_to_exitcode(status) == 7:
            survivors.append(mutant)
            print(f"  survives: {mutant.name} (line {mutant.line})", flush=True)
        if done % 100 == 0:
            print(f"  {done} of {len(mutants)}, {time.perf_counter() - began:.0f} s", flush=True)
    return survivors


def _listed() -> set[str]:
    """The survivors that are known, each with its reason on the line before."""
    if not SURVIVORS.exists():
        return set()
    lines = SURVIVORS.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def main() -> int:
    """Exit code 1 below the target, or with a survivor that is not listed with its reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="all of the package if none is named")
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--every", type=int, default=1, help="take only each n-th mutant")
    arguments = parser.parse_args()
    paths = sorted(set(PACKAGE.glob("*.py")) - {PACKAGE / "__init__.py"})
    chosen = [p for p in paths if not arguments.modules or p.stem in arguments.modules]
    mutants = [mutant for path in chosen for mutant in mutants_of(path)][:: arguments.every]
    print(f"{len(mutants)} mutants of {len(chosen)} modules", flush=True)
    unchanged = [Mutant(p.stem, 0, "nothing", p.read_text(encoding="utf-8")) for p in chosen[:1]]
    if not survivors_of(unchanged, 1):
        print("the tests fail on the package as it is; see to that first")
        return 1
    survivors = survivors_of(mutants, arguments.at_once)
    listed = _listed()
    new = [mutant for mutant in survivors if mutant.name not in listed]
    noticed = len(mutants) - len(survivors)
    share = noticed / len(mutants)
    print(f"{noticed} of {len(mutants)} noticed: {share:.1%} (target {TARGET:.0%})")
    for mutant in new:
        print(f"not listed in {SURVIVORS.name}: {mutant.name} (line {mutant.line})")
    return int(bool(new) or share < TARGET)


if __name__ == "__main__":
    sys.exit(main())
