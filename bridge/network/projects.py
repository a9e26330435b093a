"""Where the local networks of dfx and icp-cli are, asked in the ways that both document.

dfx: ``networks`` of the project's ``dfx.json``, else of ``networks.json`` in dfx's configuration
folder; the port of a running local network from ``dfx info webserver-port``. icp-cli: ``icp network
status --json``. Gives URLs and root keys; connects to nothing.
"""

import asyncio
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bridge.errors import UsageError

_DFX_DEFAULT: Final = "127.0.0.1:4943"
_COMMAND_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a network is.

    Attributes:
        url: Its base URL.
        root_key: Its root key (DER), where told.
    """

    url: str
    root_key: bytes | None = None


def find_project(start: Path, name: str) -> Path | None:
    """The nearest folder, from ``start`` upwards, that has a file of this name."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / name).is_file():
            return folder
    return None


# --- dfx ----------------------------------------------------------------------------------------


async def dfx_network(folder: Path, network: str = "local") -> Place:
    """Where a network of dfx's is.

    Args:
        folder: Inside the project; a project without ``dfx.json`` uses dfx's shared networks.
        network: Its name.

    Raises:
        UsageError: If dfx's files define no network of that name, or cannot be read.
    """
    project = find_project(folder, "dfx.json")
    files = [*([project / "dfx.json"] if project else []), _networks_json()]
    for file in files:
        networks = _json_object(file).get("networks", {}) if file.name == "dfx.json" else None
        definition = (networks if networks is not None else _json_object(file)).get(network)
        if definition is not None:
            return await _defined(definition, network, file)
    if network == "local":
        return Place(f"http://{await _running_port() or _DFX_DEFAULT}")
    raise UsageError(
        f"dfx knows no network {network!r}: it is in none of {', '.join(map(str, files))}",
        hint="give the network's URL",
    )


def _networks_json() -> Path:
    root = os.environ.get("DFX_CONFIG_ROOT")
    base = Path(root) if root else Path.home()
    return base / ".config" / "dfx" / "networks.json"


def _json_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as cause:
        raise UsageError(f"{file} cannot be read: {cause}", hint="correct or remove it") from None
    if not isinstance(value, dict):
        raise UsageError(f"{file} holds no JSON object", hint="correct or remove it")
    return value


async def _defined(definition: Any, network: str, file: Path) -> Place:
    if isinstance(definition, dict):
        providers = definition.get("providers")
        if isinstance(providers, list) and providers and isinstance(providers[0], str):
            return Place(providers[0])
        bind = definition.get("bind")
        if isinstance(bind, str) and not bind.endswith(":0"):
            return Place(f"http://{bind}")
        if network == "local":  # without a fixed port only the running program knows it
            return Place(f"http://{await _running_port(file.parent) or _DFX_DEFAULT}")
    raise UsageError(
        f"network {network!r} in {file} has neither providers nor a bind address",
        hint="give the network's URL",
    )


async def _running_port(folder: Path | None = None) -> str | None:
    if shutil.which("dfx") is None:
        return None
    code, said, _ = await _run(["dfx", "info", "webserver-port"], folder)
    return f"127.0.0.1:{said.strip()}" if code == 0 and said.strip().isdigit() else None


# --- icp-cli ------------------------------------------------------------------------------------


async def icp_network(folder: Path, network: str = "local") -> Place:
    """Where a network of icp-cli's is, as ``icp network status`` says.

    Args:
        folder: Inside the project.
        network: Its name.

    Raises:
        UsageError: If there is no ``icp`` command, or it knows no such running network.
    """
    program = shutil.which("icp")
    if program is None:
        raise UsageError(
            "the command icp is not on the PATH, and only it knows where its networks are",
            hint="install icp-cli, or give the network's URL",
        )
    code, said, complaint = await _run([program, "network", "status", network, "--json"], folder)
    if code != 0:
        reason = next((line for line in complaint.splitlines() if "Error" in line), complaint)
        raise UsageError(
            f"icp knows no running network {network!r} here: {reason.strip()[:200]}",
            hint="start it with: icp network start",
        )
    try:
        status = json.loads(said)
        url, root_key = str(status["api_url"]), status.get("root_key")
        return Place(url.rstrip("/"), bytes.fromhex(root_key) if root_key else None)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f"icp network status gave no api_url: {said.strip()[:200]!r}",
            hint="update icp-cli (0.2 or later), or give the network's URL",
        ) from None


async def _run(command: list[str], folder: Path | None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_COMMAND_SECONDS):
            said, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise UsageError(f"{' '.join(command)} did not end within 30 s") from None
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace"), complaint.decode(errors="replace")
