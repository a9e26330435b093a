"""A seeded slice of hostile requests to every address: each is answered, all goes on."""

import importlib.util
import logging
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "replica_hostile", Path(__file__).parent / "fuzz" / "hostile.py"
)
hostile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hostile)


@pytest.mark.parametrize("seed", range(4))
async def test_hostile_requests_are_refused_and_the_replica_goes_on(client, replica, caplog, seed):
    canister = await client.create(hostile.module())
    _, certificate = await client.read_state(canister, [(b"time",)])
    attacker = hostile.Hostile(seed)
    attacker.canisters += [canister]
    attacker.subnets += [certificate.signer(replica.root_key)]
    with caplog.at_level(logging.ERROR):
        statuses = await hostile.attack(attacker, int(replica.url.rsplit(":", 1)[1]), 250)
    assert not [record.getMessage() for record in caplog.records]
    assert {200, 400, 404} <= set(statuses)
    mine = await client.create(hostile.module())
    status = await client.certified(mine, "echo", b"alive")
    assert status(b"reply") == b"alive"
    assert (await client.query(mine, "peek", b"alive"))[1]["reply"]["arg"] == b"alive"
    async with client.session.get(replica.url + "/api/v2/status") as response:
        assert response.status == 200


def test_all_follows_from_the_seed():
    one, other = hostile.Hostile(7), hostile.Hostile(7)
    for _ in range(200):
        first, second = one.next(), other.next()
        assert (first.method, first.path) == (second.method, second.path)
