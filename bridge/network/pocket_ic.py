"""PocketIC's own interface, as far as one needs it to reach an instance like any other replica.

An instance of PocketIC has no IC interface by itself: time has to progress by itself, and a gateway
has to be opened for it. After that it is a URL. Rules: PocketIC's REST interface (auto_progress,
http_gateway, topology), as its own client library and dfx's release notes document it.
"""

import asyncio
import base64
import binascii
import json
from typing import Any, Final

import aiohttp

from bridge.errors import PrincipalError, TransportError
from bridge.principal import Principal

_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)
_PATIENCE: Final = 600


async def open_gateway(server_url: str, instance_id: int) -> str:
    """Let an instance's time run, and give it a gateway unless it has one.

    Args:
        server_url: The PocketIC server's URL.
        instance_id: Which of its instances.

    Returns:
        The gateway's URL.

    Raises:
        TransportError: If the server cannot be reached, has no such instance or opens no gateway.
    """
    server = server_url.rstrip("/")
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        await _let_time_run(session, f"{server}/instances/{instance_id}/auto_progress")
        target = {"PocketIcInstance": instance_id}
        for gateway in await _ask(session, "GET", f"{server}/http_gateway"):
            if gateway.get("forward_to") == target and not gateway.get("https_config"):
                return f"http://127.0.0.1:{gateway['port']}"
        made = await _ask(
            session,
            "POST",
            f"{server}/http_gateway",
            {
                "ip_addr": None,
                "port": None,
                "forward_to": target,
                "domains": None,
                "https_config": None,
            },
        )
    if "Created" not in made:
        raise TransportError(
            f"PocketIC at {server} opened no gateway: {made.get('Error', made)}",
            hint=f"is {instance_id} the id of an instance that still lives?",
        )
    return f"http://127.0.0.1:{made['Created']['port']}"


async def _let_time_run(session: aiohttp.ClientSession, url: str) -> None:
    try:
        await _ask(session, "POST", url, {"artificial_delay_ms": None})
    except TransportError as refusal:
        if "already" not in refusal.message:  # it runs, as it should
            raise


async def _ask(session: aiohttp.ClientSession, method: str, url: str, body: Any = None) -> Any:
    """One request; while the server is busy with the same instance it is asked again."""
    try:
        for _ in range(_PATIENCE):
            async with session.request(method, url, json=body) as response:
                if response.status == 409:
                    await asyncio.sleep(0.1)
                    continue
                if response.status >= 400:
                    raise TransportError(
                        f"PocketIC answered {response.status} to {method} {url}: "
                        f"{(await response.text())[:200]}",
                        hint="give the server's URL and the id of one of its instances",
                    )
                text = await response.text()
                return json.loads(text) if text else None
        raise TransportError(f"PocketIC stayed busy when asked {method} {url}")
    except (aiohttp.ClientError, TimeoutError, ValueError) as cause:
        raise TransportError(
            f"PocketIC at {url} cannot be asked: {cause}", hint="does the server run?"
        ) from cause


async def default_effective_canister_id(url: str) -> Principal | None:
    """The canister id by which a network wants new canisters to be routed.

    Networks that PocketIC runs (dfx's and icp-cli's local ones among them) have several subnets and
    say at ``/_/topology`` which one takes canisters; others have no such page.

    Args:
        url: The network's URL.

    Returns:
        The id, or ``None`` where nothing is told.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(f"{url.rstrip('/')}/_/topology") as response,
        ):
            if response.status != 200:
                return None
            topology = await response.json(content_type=None)
        told = topology["default_effective_canister_id"]["canister_id"]
        return Principal(base64.b64decode(told, validate=True))
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, binascii.Error):
        return None
    except PrincipalError:
        return None
