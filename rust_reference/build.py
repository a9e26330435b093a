"""Compiles the canisters to Wasm: ``python3 build.py [--check] [module ...]``, by default all.

They go to ``wasm``. With ``--check`` they are built beside it and compared with the listed hashes.

One pinned toolchain, so that the same sources give the same bytes: Debian's compiler with the
standard library built from its sources, for it has no ready one for wasm32. Paths are written out
of the modules. Each module is shrunk and carries its interface as public metadata
``candid:service``; the interface is put together from the contracts in ``candid/`` and, for
reading, kept beside the canister. Needs nothing but Python's own library.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import toolchain

HERE = Path(__file__).resolve().parent
CONTRACTS = HERE.parent / "candid"
TARGET = HERE.parent / "build" / "rust-wasm"
CHECKED = HERE.parent / "build" / "canisters-rust"
SUMS = HERE / "wasm" / "SHA256SUMS"
TRIPLE = "wasm32-unknown-unknown"
SHRINKER = HERE.parent / "motoko_reference/node_modules/@icp-sdk/ic-wasm-linux-x64/bin/ic-wasm"

NODE = ("unified", "batch", "outbox", "settings", "watch")
PLAYED = ("reference", "player_own")
DIALECTS = ("maf", "bounty", "positional")
OPENING = ("send", "outcome")  # of the contract, by which a program opens flows

# Package, features, contracts, methods of those that it lacks.
Module = tuple[str, str, tuple[str, ...], tuple[str, ...]]


def in_each_dialect(
    package: str, contracts: tuple[str, ...], without: tuple[str, ...] = ()
) -> dict[str, Module]:
    """A package as it speaks `unified` alone, and with one more dialect in each other module."""
    modules: dict[str, Module] = {package: (package, "", (*NODE, *contracts), without)}
    for dialect in DIALECTS:
        spoken = (*NODE, dialect, *contracts)
        modules[f"{package}_{dialect}"] = (package, dialect, spoken, without)
    return modules


CANISTERS: dict[str, Module] = {
    "sender": ("sender", "", (*NODE, "reference"), ("handled",)),
    "receiver": ("receiver", "", (*NODE, "reference"), OPENING),
    "echo": ("echo", "", (*NODE, "reference"), OPENING),
    **in_each_dialect("both", ("reference",)),
    **in_each_dialect("player", PLAYED, OPENING),
    "broken": ("broken", "", (*NODE, *PLAYED, "broken_own"), ()),
    **in_each_dialect("priced", PLAYED, OPENING),
    "mailbox": ("mailbox", "", ("mailbox",), ()),
    "chaos": ("chaos", "", ("chaos",), ()),
}


def check_tools() -> None:
    """Install the pinned toolchain where it is missing, or stop with the remedy."""
    toolchain.ensure("canisters")
    if not SHRINKER.exists():
        sys.exit(
            "ic-wasm, which shrinks the modules, is missing: cd motoko_reference && npm ci (Node 18"
            " or later, Linux on x64).\nThe built canisters are in rust_reference/wasm; only a"
            " change of the Rust sources needs a build."
        )


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of the toolchain; whatever it complains of stops the build."""
    return subprocess.run(command, check=True, **options)  # noqa: S603 - names come from this file


# --- Interfaces ---------------------------------------------------------------------------------


def pieces(contract: str) -> Iterator[tuple[str, str]]:
    """What stands in a contract: ("type" or "method", its text), ("init", the argument)."""
    (file,) = [*CONTRACTS.glob(f"{contract}.did"), *HERE.glob(f"canisters/*/{contract}.did")][:1]
    text = file.read_text(encoding="utf-8")
    lines = [line.split("//")[0].rstrip() for line in text.splitlines()]
    block: list[str] = []
    depth = 0
    in_service = False
    for line in filter(None, lines):
        if line.startswith("import"):
            yield from (
                piece
                for piece in pieces(line.split('"')[1].removesuffix(".did"))
                if piece[0] == "type"
            )
            continue
        if line.startswith("service"):
            in_service = True
            argument = line.removeprefix("service :").removesuffix("{").strip()
            if argument:
                yield "init", argument.removesuffix("->").strip()
            continue
        if in_service and line == "}" and depth == 0:
            return
        block.append(line)
        depth += sum(line.count(c) for c in "{(") - sum(line.count(c) for c in "})")
        if depth == 0 and line.endswith(";"):
            yield ("method" if in_service else "type"), "\n".join(block)
            block = []


def interface(name: str) -> str:
    """The interface of one module."""
    _, _, contracts, without = CANISTERS[name]
    text = composed(contracts, without)
    if name.partition("_")[0] in {"priced", "broken"}:
        # A one-way method may refund before its body accepts the cycles.
        for method in ("asyncFlow", "asyncFlow_batch", "com_asyncFlow_newMessage"):
            text = re.sub(rf"(\b{method} : .* -> \(\)) oneway;", r"\1;", text)
    return text


def composed(contracts: tuple[str, ...], without: tuple[str, ...]) -> str:
    """One interface of several contracts. Where a type's name is taken, it gets another."""
    types: dict[str, str] = {}
    methods: list[str] = []
    init = ""
    for contract in contracts:
        renamed: dict[str, str] = {}
        for kind, text in pieces(contract):
            for old, new in renamed.items():
                text = text.replace(old, new)  # noqa: PLW2901 - the piece as this file says it
            if kind == "init":
                init = f"{text} -> "
            elif kind == "type":
                name = text.split()[1]
                if types.setdefault(name, text) != text:
                    renamed[name] = f"{contract.capitalize()}{name}"
                    types[renamed[name]] = text.replace(name, renamed[name])
            elif text.split()[0] not in without:
                methods.append(text)
    body = "\n".join(methods)
    return "\n".join(types.values()) + f"\nservice : {init}{{\n{body}\n}}\n"


# --- Modules ------------------------------------------------------------------------------------


def compile_packages(packages: Sequence[str], features: str) -> None:
    """The raw modules of these packages, with these features."""
    cargo_home = os.environ.get("CARGO_HOME", str(Path.home() / ".cargo"))
    flags = [
        f"--remap-path-prefix={cargo_home}=/cargo",
        f"--remap-path-prefix={HERE}=/rust_reference",
    ]
    environment = os.environ | {
        "RUSTC": "/usr/bin/rustc",
        "RUSTC_BOOTSTRAP": "1",  # -Z on a released compiler
        "RUSTFLAGS": " ".join(flags),
        "CARGO_TARGET_DIR": str(TARGET),
        "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER": toolchain.LINKER,
        "CARGO_PROFILE_RELEASE_STRIP": "true",
    }
    # Those of a make that runs other things beside this are not handed on to cargo's processes.
    environment.pop("MAKEFLAGS", None)
    command = ["/usr/bin/cargo", "build", "--locked", "--release"]
    command += [word for package in packages for word in ("--package", package)]
    command += ["-Z", "build-std=std,panic_abort", "--target", TRIPLE]
    command += ["--features", features] if features else []
    run(*command, cwd=HERE, env=environment)


def compiled_together(names: Sequence[str]) -> list[list[str]]:
    """The modules by runs of cargo: one compiles packages side by side, on all processors.

    Cargo unites the features that the packages of a run ask of a crate: those that are no endpoint
    ask less of the library than the others, so they get a run of their own.
    """
    runs: dict[tuple[str, bool], list[str]] = {}
    for name in names:
        _, features, contracts, _ = CANISTERS[name]
        runs.setdefault((features, "unified" in contracts), []).append(name)
    return list(runs.values())


def finish_module(raw: Path, did: Path, output: Path) -> None:
    """Shrink a module and write its interface into it."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.wasm"
        run(SHRINKER, raw, "-o", bare, "shrink", stdout=subprocess.DEVNULL)
        named = ("metadata", "candid:service", "-f", did, "-v", "public")
        run(SHRINKER, bare, "-o", output, *named, stdout=subprocess.DEVNULL)


def build(names: Sequence[str], output: Path) -> dict[str, str]:
    """Build these modules into a folder; the hash of each file."""
    output.mkdir(parents=True, exist_ok=True)
    sums = {}
    for together in compiled_together(names):
        packages = [CANISTERS[name][0] for name in together]
        compile_packages(packages, CANISTERS[together[0]][1])
        for name, package in zip(together, packages, strict=True):
            did = HERE / "canisters" / package / f"{name}.did"
            did.write_text(interface(name), encoding="utf-8")
            module = output / f"{name}.wasm"
            finish_module(TARGET / TRIPLE / "release" / f"{package}.wasm", did, module)
            data = module.read_bytes()
            sums[module.name] = hashlib.sha256(data).hexdigest()
            print(f"{module.name}  {len(data)} bytes", flush=True)
    return sums


def listed() -> dict[str, str]:
    """The hashes of the built canisters that are kept."""
    try:
        lines = SUMS.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {line.split()[1]: line.split()[0] for line in lines}


def main() -> None:
    """Build canisters and list their hashes, or check them."""
    names = [name for name in sys.argv[1:] if name != "--check"] or sorted(CANISTERS)
    if unknown := set(names) - set(CANISTERS):
        sys.exit(f"There is no {', '.join(unknown)}; the modules are {', '.join(CANISTERS)}.")
    check_tools()
    if "--check" in sys.argv:
        kept = listed()
        built = build(names, CHECKED)
        if wrong := [name for name, digest in built.items() if kept.get(name) != digest]:
            sys.exit(
                f"Not what their sources give: {', '.join(wrong)}. Build them: make canisters-rust"
            )
        print("the built Rust canisters match their sources")
        return
    built = build(names, CHECKED)
    # All at once: whoever reads the folder meanwhile finds modules and hashes that agree.
    for name in built:
        shutil.copyfile(CHECKED / name, SUMS.parent / name)
    sums = listed() | built
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
    SUMS.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
