"""The Rust workspace's own tests, natively: every test vector, the crate, mailbox and chaos."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


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
