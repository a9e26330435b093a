"""The few calls to the management canister that bring a module onto a network.

Rule implemented: interface specification, section The IC management canister.
"""

from typing import Final, Literal

from bridge import candid
from bridge.agent import Agent
from bridge.errors import UsageError
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
_INSTALL_ARGS = candid.Codec(
    [
        candid.Record(
            {
                "mode": candid.Variant(
                    {
                        "install": candid.Null,
                        "reinstall": candid.Null,
                        "upgrade": candid.Opt(_UPGRADE_OPTIONS),
                    }
                ),
                "canister_id": candid.PrincipalType,
                "wasm_module": candid.Blob,
                "arg": candid.Blob,
            }
        )
    ]
)

# A module compiled with enhanced orthogonal persistence must keep its main memory at an upgrade;
# the compiler marks it with a custom section of this name.
_KEEPS_MEMORY: Final = b"enhanced-orthogonal-persistence"


async def create_canister(
    agent: Agent, *, cycles: int | None = None, canister_id: Principal | None = None
) -> Principal:
    """Create an empty canister on a development network, controlled by the agent's identity.

    Args:
        agent: Who creates and then controls it.
        cycles: Its first balance in cycles; the network's default where ``None``.
        canister_id: The id it shall have, where the network allows to choose.

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
        effective_canister_id=canister_id or _MANAGEMENT,
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
    """Install a module, or replace one.

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
    if not wasm.startswith((b"\x00asm", b"\x1f\x8b")):
        raise UsageError(
            "the module does not begin like WebAssembly or gzip",
            hint="give the .wasm file that the compiler wrote",
        )
    options = None
    if mode == "upgrade" and _KEEPS_MEMORY in wasm:
        options = {"skip_pre_upgrade": None, "wasm_memory_persistence": candid.Case("keep")}
    await agent.update(
        _MANAGEMENT,
        "install_code",
        _INSTALL_ARGS.encode(
            {
                "mode": candid.Case(mode, options if mode == "upgrade" else None),
                "canister_id": canister_id,
                "wasm_module": wasm,
                "arg": arg,
            }
        ),
        effective_canister_id=canister_id,
    )


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
