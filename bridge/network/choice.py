"""A network chosen by one word: what command-line options and settings say.

``embedded``, ``local``, ``dfx``, ``icp``, ``ic`` or a URL. Knows no options and no settings.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from bridge.errors import UsageError
from bridge.network.network import Network
from bridge.network.projects import find_project

NAMES: Final = ("embedded", "local", "dfx", "icp", "ic")


@contextlib.asynccontextmanager
async def open_network(
    choice: str,
    root_key: bytes | None = None,
    *,
    admin: bool = False,
    system_canisters: bool = False,
    folder: Path | None = None,
) -> AsyncIterator[Network]:
    """The chosen network; an embedded replica lives as long as the block.

    Args:
        choice: ``embedded``; ``dfx`` or ``icp``: the local network of that tool's project here;
            ``local``: the one of these two whose project this is, else dfx's shared one; ``ic``:
            mainnet; or a URL.
        root_key: The root key (DER) of a network that is not on this machine.
        admin: Whether an embedded replica's admin interface is on.
        system_canisters: Whether an embedded replica has the ledgers and the cycles minting
            canister.
        folder: Where the project is looked for; by default the working directory.

    Raises:
        UsageError: If the choice is none of these, or needs a root key.
        ReplicaError: If the embedded replica does not come up.
        TransportError: If the network does not answer.
    """
    folder = folder or Path.cwd()
    if root_key is not None and choice in NAMES:
        raise UsageError(
            f"network {choice!r} has its own root key", hint="give a root key only with a URL"
        )
    if choice == "embedded":
        async with Network.embedded(admin=admin, system_canisters=system_canisters) as network:
            yield network
    elif choice == "ic":
        yield Network.mainnet()
    elif choice == "icp" or (choice == "local" and _is_icp_project(folder)):
        yield await Network.icp_cli(folder)
    elif choice in ("dfx", "local"):
        yield await Network.dfx(folder)
    elif choice.startswith(("http://", "https://")):
        yield await Network.at(choice, root_key)
    else:
        raise UsageError(
            f"there is no network {choice!r}",
            hint=f"give one of {', '.join(NAMES)}, or a URL that begins with http",
        )


def _is_icp_project(folder: Path) -> bool:
    return find_project(folder, "icp.yaml") is not None and find_project(folder, "dfx.json") is None


def parse_root_key(text: str) -> bytes:
    """A root key given as hexadecimal text, or as a file that holds it so or in DER.

    Args:
        text: 266 hexadecimal digits, or a file's name.

    Raises:
        UsageError: If it is neither.
    """
    data: bytes | None = None
    file = Path(text)
    try:
        if len(text) < 256 and file.is_file():
            data = file.read_bytes()
            if len(data) != 133:
                data = bytes.fromhex(data.decode("ascii").strip())
        else:
            data = bytes.fromhex(text)
    except (OSError, ValueError):
        data = None
    if data is None or len(data) != 133:
        raise UsageError(
            "the root key is neither 266 hexadecimal digits (133 bytes of DER) nor a file of them",
            hint="a replica tells its key at /api/v2/status; ic-bridge replica start prints it",
        )
    return data
