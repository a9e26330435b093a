"""A short run of the coverage-guided fuzzer; ``make fuzz-candid`` runs it longer."""

import os
import random
import subprocess

import pytest

from bridge import candid as c

SECONDS = 12


@pytest.fixture(scope="session")
def fuzzer(candid_build):
    """The fuzzer's interpreter, in an environment that is made on first use and kept."""
    return candid_build.environment("candid_fuzz", "fuzz/requirements.txt")


def seeds(folder):
    """Messages and texts to start from, one a file."""
    chance = random.Random(7)
    types = c.parse_types(
        "(record { a : opt nat; c : vec opt text; g : opt variant { x : record { nat8; float32 };"
        " y }; h : opt blob }, opt int, vec record {}, principal, func () -> (), service {})"
    )
    for number in range(40):
        some = types[: chance.randint(1, len(types))]
        data = c.encode(some, c.random_values(some, chance, size=3))
        (folder / f"m{number}").write_bytes(bytes([chance.randrange(200)]) + data[4:])
    for number in range(15):
        text = c.values_text(c.random_values(types, chance, size=3), types)
        (folder / f"v{number}").write_bytes(b"\xd3" + text.encode())
    did = "type A = opt record { b : A; 5 : nat }; service : (A) -> { m : (x : A) -> () query }"
    (folder / "d").write_bytes(b"\xd2" + did.encode())


def test_a_short_run_finds_nothing(fuzzer, candid_build, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seeds(corpus)
    here = candid_build.source / "fuzz"
    done = subprocess.run(
        [
            str(fuzzer),
            str(here / "target.py"),
            f"-max_total_time={SECONDS}",
            "-max_len=300",
            "-seed=1",
            "-timeout=120",
            f"-dict={here / 'words.dict'}",
            f"-artifact_prefix={tmp_path}/",
            str(corpus),
        ],
        env={**os.environ, "PYTHONPATH": str(candid_build.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    report = (done.stdout + done.stderr)[-4000:]
    assert done.returncode == 0, report
    assert "DONE" in done.stderr or "Done" in done.stderr, report
