"""The few calls to the management canister that bring a module onto a network.

Rule implemented: interface specification, section The IC management canister.
"""

import hashlib
from typing import Final, Literal

from bridge import candid
from bridge.agent import Agent
from bridge.network.module import plain_module
from bridge.principal import Principal

InstallMode = Literal["install", "reinstall", "upgrade"]

_MANAGEMENT: Final = Principal.management()

_CREATE_ARGS = candid.Codec(
    [
        candid.Record(
            {
                "amount": candid.Opt(candid.Nat),
                "specified_id": candid.Opt(candid.PrincipalType),
            }
        )
    ]
)
_CREATE_RESULT = candid.Codec([candid.Record({"canister_id": candid.PrincipalType})])

_CANISTER_ARGS = candid.Codec([candid.Record({"canister_id": candid.PrincipalType})])

_UPGRADE_OPTIONS = candid.Record(
    {
        "skip_pre_upgrade": candid.Opt(candid.Bool),
        "wasm_memory_persistence": candid.Opt(
            candid.Variant({"keep": candid.Null, "replace": candid.Null})
        ),
    }
)
_MODE = candid.Variant(
    {
        "install": candid.Null,
        "reinstall": candid.Null,
        "upgrade": candid.Opt(_UPGRADE_OPTIONS),
    }
)
_INSTALL_ARGS = candid.Codec(
    [
        candid.Record(
            {
                "mode": _MODE,
                "canister_id": candid.PrincipalType,
                "wasm_module": candid.Blob,
                "arg": candid.Blob,
            }
        )
    ]
)
_CHUNK_HASH = candid.Record({"hash": candid.Blob})
_CHUNK_ARGS = candid.Codec(
    [candid.Record({"canister_id": candid.PrincipalType, "chunk": candid.Blob})]
)
_INSTALL_CHUNKED_ARGS = candid.Codec(
    [
        candid.Record(
            {
                "mode": _MODE,
                "target_canister": candid.PrincipalType,
                "store_canister": candid.Opt(candid.PrincipalType),
                "chunk_hashes_list": candid.Vec(_CHUNK_HASH),
                "wasm_module_hash": candid.Blob,
                "arg": candid.Blob,
            }
        )
    ]
)

# An ingress message holds at most 2 MiB, a chunk 1 MiB.
_LARGEST_MESSAGE: Final = 2 * 1024 * 1024 - 64 * 1024
_CHUNK: Final = 1024 * 1024

# A module compiled with enhanced orthogonal persistence must keep its main memory at an upgrade;
# the compiler marks it with a custom section of this name.
_KEEPS_MEMORY: Final = b"enhanced-orthogonal-persistence"


async def create_canister(
    agent: Agent,
    *,
    cycles: int | None = None,
    canister_id: Principal | None = None,
    effective_canister_id: Principal | None = None,
) -> Principal:
    """Create an empty canister on a development network, controlled by the agent's identity.

    Args:
        agent: Who creates and then controls it.
        cycles: Its first balance in cycles; the network's default where ``None``.
        canister_id: The id it shall have, where the network allows to choose.
        effective_canister_id: Any id on the subnet that shall take it, where the network has
            several.

    Returns:
        The id of the new canister.

    Raises:
        CallRejectedError: If the network offers no provisional canisters (mainnet does not).
    """
    arg = _CREATE_ARGS.encode({"amount": cycles, "specified_id": canister_id})
    reply = await agent.update(
        _MANAGEMENT,
        "provisional_create_canister_with_cycles",
        arg,
        effective_canister_id=canister_id or effective_canister_id or _MANAGEMENT,
    )
    (result,) = _CREATE_RESULT.decode(reply)
    created: Principal = result["canister_id"]
    return created


async def install_code(
    agent: Agent,
    canister_id: Principal,
    wasm: bytes,
    arg: bytes = b"DIDL\x00\x00",
    *,
    mode: InstallMode = "install",
) -> None:
    """Install a module, or replace one; in chunks where it is too large for one message.

    Args:
        agent: A controller of the canister.
        canister_id: The canister.
        wasm: The module's bytes, plain or gzipped.
        arg: Candid-encoded argument of its ``init`` or ``post_upgrade``; the empty tuple if absent.
        mode: ``install`` on an empty canister, ``reinstall`` to drop its state, ``upgrade`` to keep
            it.

    Raises:
        UsageError: If ``wasm`` is not a module.
        CallRejectedError: If the module is invalid, traps, or the agent is no controller.
    """
    plain = plain_module(wasm)
    options = None
    if mode == "upgrade" and _KEEPS_MEMORY in plain:
        options = {"skip_pre_upgrade": None, "wasm_memory_persistence": candid.Case("keep")}
    how = candid.Case(mode, options if mode == "upgrade" else None)
    if len(wasm) + len(arg) > _LARGEST_MESSAGE:
        await _install_in_chunks(agent, canister_id, wasm, arg, how)
        return
    await agent.update(
        _MANAGEMENT,
        "install_code",
        _INSTALL_ARGS.encode(
            {
                "mode": how,
                "canister_id": canister_id,
                "wasm_module": wasm,
                "arg": arg,
            }
        ),
        effective_canister_id=canister_id,
    )


async def _install_in_chunks(
    agent: Agent, canister_id: Principal, wasm: bytes, arg: bytes, mode: candid.Case
) -> None:
    await _ask_of(agent, "clear_chunk_store", canister_id)
    chunks = [wasm[at : at + _CHUNK] for at in range(0, len(wasm), _CHUNK)]
    for chunk in chunks:
        await agent.update(
            _MANAGEMENT,
            "upload_chunk",
            _CHUNK_ARGS.encode({"canister_id": canister_id, "chunk": chunk}),
            effective_canister_id=canister_id,
        )
    await agent.update(
        _MANAGEMENT,
        "install_chunked_code",
        _INSTALL_CHUNKED_ARGS.encode(
            {
                "mode": mode,
                "target_canister": canister_id,
                "store_canister": None,
                "chunk_hashes_list": [{"hash": hashlib.sha256(chunk).digest()} for chunk in chunks],
                "wasm_module_hash": hashlib.sha256(wasm).digest(),
                "arg": arg,
            }
        ),
        effective_canister_id=canister_id,
    )
    await _ask_of(agent, "clear_chunk_store", canister_id)


async def stop_canister(agent: Agent, canister_id: Principal) -> None:
    """Stop a canister: it takes no new message, and this returns once every open call has ended.

    Args:
        agent: A controller of the canister.
        canister_id: The canister.

    Raises:
        CallRejectedError: If the agent is no controller, or an open call does not end in time.
    """
    await _ask_of(agent, "stop_canister", canister_id)


async def start_canister(agent: Agent, canister_id: Principal) -> None:
    """Start a canister that was stopped.

    Args:
        agent: A controller of the canister.
        canister_id: The canister.

    Raises:
        CallRejectedError: If the agent is no controller.
    """
    await _ask_of(agent, "start_canister", canister_id)


async def _ask_of(agent: Agent, method: str, canister_id: Principal) -> None:
    arg = _CANISTER_ARGS.encode({"canister_id": canister_id})
    await agent.update(_MANAGEMENT, method, arg, effective_canister_id=canister_id)
