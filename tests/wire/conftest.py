"""A root subnet, an application subnet under it, and certificates of both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from bridge import wire
from bridge.principal import Principal
from bridge.wire import bls, hashtree, leb128

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def canister(number: int) -> Principal:
    return Principal(number.to_bytes(8, "big") + b"\x01\x01")


@dataclass
class World:
    root: bls.SecretKey
    subnet: bls.SecretKey
    subnet_id: Principal
    now: int = NOW

    def certificate(
        self,
        content: dict[bytes, hashtree.Buildable] | None = None,
        *,
        time: int = NOW,
        delegation: wire.SubnetDelegation | None = None,
        key: bls.SecretKey | None = None,
    ) -> wire.Certificate:
        tree = hashtree.build({b"time": leb128.encode(time)} | (content or {}))
        return wire.Certificate.sign(tree, key or self.root, delegation)

    def delegation(
        self,
        *,
        shards: Sequence[Sequence[tuple[Principal, Principal]]] = (((canister(0), canister(9)),),),
        flat: bool = False,
        key: bls.SecretKey | None = None,
        time: int = NOW,
        nested: wire.SubnetDelegation | None = None,
        public_key: bytes | None = None,
    ) -> wire.SubnetDelegation:
        raw = [[(low.raw, high.raw) for low, high in shard] for shard in shards]
        subnet: dict[bytes, hashtree.Buildable] = {
            b"public_key": public_key or self.subnet.public_key_der
        }
        content: dict[bytes, hashtree.Buildable] = {b"subnet": {self.subnet_id.raw: subnet}}
        if flat:
            subnet[b"canister_ranges"] = wire.encode_ranges(
                [pair for shard in raw for pair in shard]
            )
        else:
            content[b"canister_ranges"] = {
                self.subnet_id.raw: {shard[0][0]: wire.encode_ranges(shard) for shard in raw}
            }
        certificate = self.certificate(content, time=time, key=key, delegation=nested)
        return wire.SubnetDelegation(self.subnet_id, certificate.to_cbor())


@pytest.fixture(scope="session")
def world() -> World:
    subnet = bls.SecretKey.generate(b"subnet")
    return World(
        bls.SecretKey.generate(b"root"),
        subnet,
        Principal.self_authenticating(subnet.public_key_der),
    )


@pytest.fixture(scope="session")
def canister_id() -> Callable[[int], Principal]:
    return canister
