"""Measures the replica over HTTP beside a bare server, from this process; one JSON object.

Takes the replica's URL and the bare server's. Requests are signed beforehand and bodies are of
equal size, so that only the servers differ.
"""

import asyncio
import json
import statistics
import sys
import time

import aiohttp
import wasmtime

from bridge import wire
from bridge.candid import Case
from bridge.cli import instances
from bridge.principal import Principal
from bridge.replica.management.types import SIGNATURES
from bridge.wire.keys import Ed25519Key

KEY = Ed25519Key.from_seed(bytes(32))
ME = Principal.self_authenticating(KEY.public_key_der)
HEADERS = {"Content-Type": "application/cbor"}
CANISTER = r"""(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (memory 1)
  (func (export "canister_update echo") (call $append (i32.const 0) (i32.const 6)) (call $reply))
  (func (export "canister_query peek") (call $append (i32.const 0) (i32.const 6)) (call $reply)))"""
MANY = 64


def signed(kind, number, **fields):
    content = {
        "request_type": kind,
        "sender": ME.raw,
        "ingress_expiry": time.time_ns() + 240 * 10**9,
        "nonce": number.to_bytes(8, "big"),
        **fields,
    }
    return wire.Envelope.sign(content, KEY).to_cbor(), wire.request_id(content)


def processor(pid):
    """Processor seconds of a process so far; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    return time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid names it


class Outside:
    def __init__(self, session, url, bare):
        self.session, self.url, self.bare = session, url, bare
        self.pids = [each.pid for each in instances.running() if each.url == url]
        self.number = time.time_ns() % 10**12

    def next(self):
        self.number += 1
        return self.number

    async def post(self, url, body):
        async with self.session.post(url, data=body, headers=HEADERS) as response:
            data = await response.read()
            assert response.status == 200, (response.status, data)
            return data

    async def manage(self, method, value, effective):
        signature = SIGNATURES[method]
        body, request_id = signed(
            "call", self.next(), canister_id=b"", method_name=method,
            arg=signature.argument.encode(value),
        )  # fmt: skip
        data = await self.post(f"{self.url}/api/v4/canister/{effective}/call", body)
        answer = wire.decode(data, "an answer", ValueError)
        certificate = wire.Certificate.from_cbor(answer["certificate"])
        reply = certificate.value((b"request_status", request_id, b"reply"))
        return signature.result.decode(reply)[0] if signature.result else None

    async def create(self):
        value = {"amount": None, "settings": None, "specified_id": None,
                 "sender_canister_version": None}  # fmt: skip
        made = await self.manage(
            "provisional_create_canister_with_cycles", value, "bkyz2-fmaaa-aaaaa-qaaaq-cai"
        )
        value = {"mode": Case("install"), "canister_id": made["canister_id"],
                 "wasm_module": bytes(wasmtime.wat2wasm(CANISTER)), "arg": b"",
                 "sender_canister_version": None}  # fmt: skip
        await self.manage("install_code", value, made["canister_id"])
        return made["canister_id"]

    async def medians(self, *kinds):
        """The median of each kind of request, given as pairs of URL and body; in turns."""
        found = [[] for _ in kinds]
        for turn in zip(*kinds, strict=True):
            for times, (url, body) in zip(found, turn, strict=True):
                start = time.perf_counter()
                await self.post(url, body)
                times.append(time.perf_counter() - start)
        return [statistics.median(times) for times in found]

    async def compare(self, kind, method, canister, version, count):
        def asked(url, count):
            return [
                (url, signed(kind, self.next(), canister_id=canister.raw, method_name=method,
                             arg=bytes(100))[0])
                for _ in range(count)
            ]  # fmt: skip

        address = f"{self.url}/api/v{version}/canister/{canister}/{kind}"
        ((_, body),) = asked(address, 1)
        bare = f"{self.bare}/{len(await self.post(address, body))}"
        await self.medians(asked(bare, 20), asked(address, 20))
        ours, floor = await self.medians(asked(address, count), asked(bare, count))
        return {"ours": ours, "bare": floor}

    async def rounds(self):
        async with self.session.get(f"{self.url}/_admin/status") as response:
            return (await response.json())["rounds"]

    async def updates(self, canister, count, at_once):
        """Of an update among so many at once: seconds, the replica's processor seconds, rounds."""
        address = f"{self.url}/api/v4/canister/{canister}/call"
        bodies = [
            signed("call", self.next(), canister_id=canister.raw, method_name="echo",
                   arg=bytes(100))[0]
            for _ in range(count)
        ]  # fmt: skip
        (pid,) = self.pids
        rounds, used = await self.rounds(), processor(pid)
        turn = asyncio.Semaphore(at_once)

        async def one(body):
            async with turn:
                await self.post(address, body)

        start = time.perf_counter()
        await asyncio.gather(*map(one, bodies))
        spent = time.perf_counter() - start
        return {
            "ours": spent / count,
            "processor": None if used is None else (processor(pid) - used) / count,
            "rounds": (await self.rounds() - rounds) / count,
        }

    async def in_flight(self, canister):
        """The least of a few turns, of one at a time and of many."""
        found = {"alone": [], "many": []}
        for _ in range(3):
            found["alone"].append(await self.updates(canister, 4 * MANY, 1))
            found["many"].append(await self.updates(canister, 8 * MANY, MANY))
        return {name: {what: None if turns[0][what] is None else min(turn[what] for turn in turns)
                       for what in turns[0]} for name, turns in found.items()}  # fmt: skip


async def main(url, bare):
    connector = aiohttp.TCPConnector(limit=MANY)
    async with aiohttp.ClientSession(connector=connector) as session:
        outside = Outside(session, url, bare)
        canister = await outside.create()
        found = {
            "query": await outside.compare("query", "peek", canister, 3, 400),
            "update": await outside.compare("call", "echo", canister, 4, 300),
            "in_flight": await outside.in_flight(canister),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
