"""What the Candid tests share: random types, and the two independent codecs to compare with."""

import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge import candid as c

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build"
LABELS = ["a", "b", "id", "name", "ok", "err", "opt", "x y", "☃", 0, 1, 2, 7, 4294967295]
PRIMITIVES = [
    *(c.Null, c.Bool, c.Nat, c.Int, c.Nat8, c.Nat16, c.Nat32, c.Nat64, c.Int8, c.Int16, c.Int32),
    *(c.Int64, c.Float32, c.Float64, c.Text, c.Reserved, c.PrincipalType),
]


class TypeMaker:
    """Makes random types from a seed; related ones by small changes."""

    def __init__(self, seed, *, references=True, empty=True, recursion=True):
        self.chance = random.Random(seed)
        self.references = references
        self.empty = empty
        self.recursion = recursion
        self.names = {}

    def make(self, depth=3):
        chance = self.chance
        kind = chance.random()
        if depth == 0 or kind < 0.35:
            if self.empty and chance.random() < 0.03:
                return c.Empty
            return chance.choice(PRIMITIVES)
        if kind < 0.5:
            return c.Opt(self.make(depth - 1))
        if kind < 0.6:
            return c.Vec(self.make(depth - 1))
        if kind < 0.78:
            return c.Record(self.fields(depth))
        if kind < 0.9:
            return c.Variant(self.fields(depth) or {"ok": c.Null})
        if kind < 0.95 and self.names:
            return chance.choice(list(self.names.values()))
        if self.recursion and (kind < 0.98 or not self.references):
            return self.recursive(depth)
        return self.reference(depth) if self.references else c.Text

    def fields(self, depth):
        labels = self.chance.sample(LABELS, self.chance.randint(0, 4))
        return {label: self.make(depth - 1) for label in labels}

    def reference(self, depth):
        args = [self.make(depth - 1) for _ in range(self.chance.randint(0, 2))]
        results = [self.make(depth - 1) for _ in range(self.chance.randint(0, 2))]
        function = c.Func(args, results, self.chance.choice([(), ("query",)]))
        if self.chance.random() < 0.5:
            return function
        return c.Service({"m": function, "b c": c.Func()})

    def recursive(self, depth):
        name = f"R{len(self.names)}"
        knot = c.Recursive(name)
        self.names[name] = knot
        inner = self.make(depth - 1)
        shape = self.chance.randint(0, 2)
        if shape == 0:
            knot.define(c.Opt(c.Record({"head": inner, "tail": knot})))
        elif shape == 1:
            knot.define(c.Variant({"leaf": inner, "node": c.Record([knot, knot])}))
        else:
            knot.define(c.Record({"value": inner, "more": c.Vec(knot)}))
        return knot

    def change(self, type_, depth=4):
        """A type near the given one: often a subtype or supertype, often not quite."""
        chance = self.chance
        if depth == 0 or chance.random() < 0.1:
            return self.make(1)
        if chance.random() < 0.12:
            return c.Opt(type_)
        match type_:
            case c.Opt():
                if chance.random() < 0.2:
                    return type_.content
                return c.Opt(self.change(type_.content, depth - 1))
            case c.Vec():
                return c.Vec(self.change(type_.element, depth - 1))
            case c.Record() | c.Variant():
                fields = {
                    field.label: self.change(field.type, depth - 1)
                    if chance.random() < 0.5
                    else field.type
                    for field in type_.fields
                    if chance.random() > 0.15
                }
                used = {c.field_id(label) for label in fields}
                for label in chance.sample(LABELS, 1):
                    if c.field_id(label) not in used:
                        fields[label] = self.make(1)
                return type(type_)(fields)
            case c.Func():
                return c.Func(
                    [self.change(arg, depth - 1) for arg in type_.args],
                    [self.change(result, depth - 1) for result in type_.results],
                    type_.modes,
                )
            case _:
                if type_ is c.Nat and chance.random() < 0.5:
                    return c.Int
                return type_

    def definitions(self):
        """The recursive types made so far, as ``.did`` text."""
        return c.did_text(c.Interface(types=self.names))


@pytest.fixture
def make_types():
    """A maker of random types by seed."""
    return TypeMaker


def _messages(seeds, count=None, depth=3):
    for seed in seeds:
        maker = TypeMaker(seed, empty=False)
        number = maker.chance.randint(0, 3) if count is None else count
        types = [maker.make(depth) for _ in range(number)]
        try:
            values = c.random_values(types, random.Random(seed))
        except c.CandidError:
            continue  # a recursive record without values
        yield seed, maker, types, values


@pytest.fixture
def random_messages():
    """By seed, where its types have values: seed, maker, so many types or up to three, values."""
    return _messages


class Peer:
    """Another implementation of Candid, asked line by line."""

    def __init__(self, command, cwd):
        self._process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **question):
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the peer ended"
        return json.loads(line)

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=20)


@contextmanager
def locked(name):
    """One builder at a time, whichever test process comes first."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def needed(tool):
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is needed for the comparison with another Candid; install it")
    return path


class Build:
    """What the tests build for themselves and keep."""

    source = HERE
    root = HERE.parent.parent

    def environment(self, name, requirements):
        """An interpreter with these requirements."""
        wanted = (HERE / requirements).read_bytes()
        target = BUILD / name
        python = target / "bin" / "python"
        with locked(name):
            installed = target / "installed.txt"
            if not installed.exists() or installed.read_bytes() != wanted:
                subprocess.run([sys.executable, "-m", "venv", "--clear", str(target)], check=True)
                subprocess.run(
                    [
                        *(str(python), "-m", "pip", "install", "--quiet"),
                        *("--disable-pip-version-check", "-r", str(HERE / requirements)),
                    ],
                    check=True,
                    timeout=300,
                )
                installed.write_bytes(wanted)
        return python


@pytest.fixture(scope="session")
def candid_build():
    """Where the tests' own programs are built."""
    return Build()


@pytest.fixture(scope="session")
def rust_peer():
    """The Rust implementation, built on first use and kept.

    Where the Rust crate is built, and as it is: half of what the two are made of is the same.
    """
    cargo = needed("cargo")
    target = BUILD / "rust-target"
    with locked("candid_rust_peer"):
        subprocess.run(
            [cargo, "build", "--quiet", "--locked"],
            cwd=HERE / "rust_peer",
            env={**os.environ, "CARGO_TARGET_DIR": str(target)},
            check=True,
            timeout=900,
        )
    peer = Peer([str(target / "debug" / "candid-rust-peer")], HERE)
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def javascript_peer():
    """The JavaScript implementation, installed from its lock file on first use and kept."""
    node, npm = needed("node"), needed("npm")
    source, target = HERE / "js_peer", BUILD / "candid_js_peer"
    with locked("candid_js_peer"):
        target.mkdir(exist_ok=True)
        lock = (source / "package-lock.json").read_bytes()
        installed = target / "installed.json"
        for name in ("package.json", "package-lock.json", ".npmrc", "peer.mjs"):
            shutil.copy(source / name, target / name)
        if not installed.exists() or installed.read_bytes() != lock:
            subprocess.run(
                [npm, "ci", "--silent", "--no-audit", "--no-fund"],
                cwd=target,
                check=True,
                timeout=600,
            )
            installed.write_bytes(lock)
    peer = Peer([node, str(target / "peer.mjs")], target)
    yield peer
    peer.close()
