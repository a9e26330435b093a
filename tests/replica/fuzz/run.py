"""Attacks an embedded replica for a time, from ever new seeds; what it got wrong is told and kept.

``run.py SECONDS [SEED]``: with a seed, that one alone.
"""

import asyncio
import logging
import secrets
import sys
import time
from pathlib import Path

import hostile

from bridge.agent import Agent, Identity
from bridge.network import AdminClient, create_canister, install_code
from bridge.principal import Principal
from bridge.replica import Replica

FOUND = Path("build/fuzz/replica")
ROUND = 1000


class Defects(logging.Handler):
    """Counts what the replica logs as a defect of its own."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.lines = []

    def emit(self, record):
        self.lines.append(logging.Formatter().format(record))


async def attack(seed, defects):
    """One round: a new replica, its canister, and hostile requests; then it must still work."""
    async with (
        Replica(admin=True, seed=seed.to_bytes(8, "big")) as replica,
        Agent(replica.url, root_key=replica.root_key, identity=Identity.anonymous()) as agent,
    ):
        canister = await create_canister(agent, canister_id=hostile.FIRST)
        await install_code(agent, canister, hostile.module(), b"")
        attacker = hostile.Hostile(seed)
        attacker.canisters.append(Principal.from_text("bnz7o-iuaaa-aaaaa-qaaaa-cai"))
        subnet = (await AdminClient(replica.url).status())["subnet_id"]
        attacker.subnets.append(Principal.from_text(subnet))
        port = int(replica.url.rsplit(":", 1)[1])
        await hostile.attack(attacker, port, ROUND)
        mine = await create_canister(agent)
        await install_code(agent, mine, hostile.module(), b"")
        assert await agent.update(mine, "echo", b"alive") == b"alive"
    if defects.lines:
        raise hostile.WrongAnswerError("the replica logged: " + "\n".join(defects.lines)[:5000])


def main(seconds, seed=None):
    defects = Defects()
    logging.getLogger().addHandler(defects)
    end = time.monotonic() + float(seconds)
    rounds = 0
    while not rounds or (time.monotonic() < end and seed is None):
        number = secrets.randbits(32) if seed is None else int(seed)
        try:
            asyncio.run(attack(number, defects))
        except Exception as error:
            FOUND.mkdir(parents=True, exist_ok=True)
            (FOUND / f"{number}.txt").write_text(repr(error))
            print(f"seed {number} found a defect; it is kept in {FOUND}", file=sys.stderr)
            raise
        rounds += 1
    print(f"{rounds * ROUND} hostile requests, none got a wrong answer")


if __name__ == "__main__":
    main(*sys.argv[1:])
