"""The Rust workspace's own tests, natively: every test vector, the crate, mailbox and chaos."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_manifest_that_the_readme_shows_asks_for_what_the_crate_is_built_with():
    rust = ROOT / "rust_reference"
    (shown,) = re.findall(r"```toml\n(.*?)```", (rust / "README.md").read_text("utf-8"), re.DOTALL)
    asked = tomllib.loads(shown)["dependencies"]
    built = tomllib.loads((rust / "Cargo.toml").read_text("utf-8"))["workspace"]["dependencies"]
    versions = {
        name: one if isinstance(one, str) else one.get("version") for name, one in built.items()
    }
    example = (rust / "async_flow/examples/answer.rs").read_text("utf-8")
    assert {name for name in asked if name.replace("-", "_") in example} == set(asked) - {"candid"}
    for name, version in asked.items():
        if name != "async_flow":
            assert f"{versions[name]}.".startswith(f"{version}."), name


@pytest.mark.timeout(2_000)  # compiling the dependencies for the first time takes minutes
@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is missing")
@pytest.mark.slow
def test_the_workspaces_own_tests_pass_with_every_vector():
    done = subprocess.run(
        ["cargo", "test", "--locked"],
        cwd=ROOT / "rust_reference",
        env=os.environ | {"CARGO_TARGET_DIR": str(ROOT / "build" / "rust-target")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every_generated_vector_holds ... ok" in done.stdout
    assert "every_handwritten_vector_holds ... ok" in done.stdout
