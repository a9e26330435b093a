"""The tools that the Rust sources need: ``python3 toolchain.py canisters|test|lint``.

On Debian, and as root, what is missing is installed; elsewhere it is said how to get it. Needs
nothing but Python's own library.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

LINKER = "wasm-ld-19"
RUSTC = "rustc 1.96.0"
_LIBRARY = Path("/usr/lib/rustlib/src/rust/library/std")

# What a purpose needs -> the packages of Debian that have it.
PACKAGES = {
    "canisters": ("rustc-web", "cargo-web", "rust-web-src", "lld-19"),
    "test": ("rustc-web", "cargo-web"),
    "lint": ("rustc-web", "cargo-web", "rust-web-clippy", "rustfmt-web"),
}


def lacks(purpose: str) -> str:
    """What is missing, in words; empty if nothing is."""
    if purpose == "canisters":
        found = _said("/usr/bin/rustc", "--version") or "no /usr/bin/rustc"
        if found.startswith(RUSTC) and _LIBRARY.is_dir() and shutil.which(LINKER):
            return ""
        return (
            f"the pinned toolchain: {RUSTC} in /usr/bin, the sources of its library, and {LINKER};"
            f" there is {found}"
        )
    if not _said("cargo", "--version"):
        return "cargo"
    if purpose == "lint" and not (_said("cargo", "clippy", "--version") and _said("rustfmt", "-V")):
        return "clippy and rustfmt"
    return ""


def ensure(purpose: str) -> None:
    """Install what is missing, or stop with the remedy."""
    missing = lacks(purpose)
    packages = PACKAGES[purpose]
    if missing and shutil.which("apt-get") and os.geteuid() == 0:
        print(f"installing {' '.join(packages)} ...", file=sys.stderr, flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (("update",), ("install", "--no-install-recommends", *packages)):
            subprocess.run(  # noqa: S603 - the names come from this file
                ["apt-get", "--quiet", "--quiet", "--yes", *command],  # noqa: S607 - root's own PATH
                env=environment,
                stdout=subprocess.DEVNULL,
                check=False,
            )
        missing = lacks(purpose)
    if missing:
        sys.exit(
            f"Missing: {missing}.\nOn Debian 12, as root: apt-get install {' '.join(packages)}."
            " Elsewhere the compiler of rustup will do for tests and lint, with its components"
            " clippy and rustfmt."
        )


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    ensure(sys.argv[1])
