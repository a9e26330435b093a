"""The identities that the IC's command line tools keep: dfx's and icp-cli's stores, read only.

Plain and password-protected keys are read as the tools write them, and keys in the system's keyring
through the optional ``keyring`` package. Keys in hardware stay there and are refused by name.
"""

import base64
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from bridge.agent.chain_json import chain_from_json
from bridge.agent.identity import Identity
from bridge.agent.pem import load_key, read_private_file
from bridge.errors import IdentityError
from bridge.principal import Principal

Password: TypeAlias = bytes | Callable[[], bytes] | None
"""A password, or what asks for it once it is needed."""

_ANONYMOUS: Final = "anonymous"
_KEYRING_SERVICE_DFX: Final = "internet_computer_identities"
_KEYRING_PREFIX_DFX: Final = "internet_computer_identity_"
_KEYRING_SERVICE_ICP: Final = "icp-cli"


def _password(password: Password) -> bytes | None:
    return password() if callable(password) else password


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        raw = json.loads(path.read_bytes())
    except OSError as cause:
        raise IdentityError(f"{path} cannot be read: {cause.strerror}") from None
    except ValueError:
        raise IdentityError(f"{path} is not JSON") from None
    if not isinstance(raw, dict):
        raise IdentityError(f"{path} is not a JSON object")
    return raw


def _safe_name(name: str) -> str:
    # Names become parts of paths.
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise IdentityError(f"{name!r} is no name of an identity")
    return name


def _from_keyring(service: str, user: str, how_to_export: str) -> str:
    try:
        keyring = importlib.import_module("keyring")  # optional: most keys are in files
    except ImportError:
        raise IdentityError(
            f"the key of {user!r} is in the system's keyring, and the keyring package is missing",
            hint=f"pip install keyring, or {how_to_export}",
        ) from None
    try:
        secret: str | None = keyring.get_password(service, user)
    except Exception as cause:  # noqa: BLE001 - backends raise classes of their own
        raise IdentityError(
            f"the system's keyring cannot be read: {type(cause).__name__}", hint=how_to_export
        ) from None
    if secret is None:
        raise IdentityError(f"the system's keyring has no key of {user!r}", hint=how_to_export)
    return secret


# --- dfx ----------------------------------------------------------------------------------------


def dfx_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where dfx keeps its configuration: ``DFX_CONFIG_ROOT`` or the home folder decides."""
    base = environ.get("DFX_CONFIG_ROOT")
    return (Path(base) if base else Path.home()) / ".config" / "dfx"


def dfx_identity(
    name: str | None = None, *, password: Password = None, root: Path | None = None
) -> Identity:
    """An identity of dfx.

    Args:
        name: Its name; by default the one that dfx uses.
        password: For an identity that is protected by one.
        root: dfx's configuration folder; by default where it usually is.

    Raises:
        IdentityError: If there is none of this name, its key cannot be read or may be read by
            others, or the password is wrong.
    """
    root = root or dfx_root()
    if name is None:
        chosen = root / "identity.json"
        name = str(_read_json(chosen).get("default", "default")) if chosen.exists() else "default"
    if name == _ANONYMOUS:
        return Identity.anonymous()
    folder = root / "identity" / _safe_name(name)
    if not folder.is_dir():
        raise IdentityError(
            f"dfx has no identity {name!r} in {root}", hint="see: dfx identity list"
        )
    settings = _read_json(folder / "identity.json") if (folder / "identity.json").exists() else {}
    export = f"export it with: dfx identity export {name}"
    if settings.get("hsm"):
        raise IdentityError(f"the key of dfx identity {name!r} is in a hardware module")
    if settings.get("keyring_identity_suffix"):
        user = _KEYRING_PREFIX_DFX + str(settings["keyring_identity_suffix"])
        text = _from_keyring(_KEYRING_SERVICE_DFX, user, export)
        try:
            data = bytes.fromhex(text)
        except ValueError:
            raise IdentityError(f"the keyring's entry {user!r} is not what dfx writes") from None
        return Identity(load_key(data, password=None, source=f"the keyring's entry {user!r}"))
    if settings.get("encryption"):
        path = folder / "identity.pem.encrypted"
        data = _decrypt_dfx(path, settings["encryption"], _password(password))
        return Identity(load_key(data, password=None, source=str(path)))
    return Identity.from_pem(folder / "identity.pem")


def _decrypt_dfx(path: Path, settings: Any, password: bytes | None) -> bytes:
    """Argon2id makes the key, AES-256-GCM the text; the parameters are dfx's."""
    encrypted = read_private_file(path)
    if password is None:
        raise IdentityError(
            f"{path} is encrypted and no password was given", hint="give its password"
        )
    try:
        text = settings["pw_salt"]
        salt = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        nonce = bytes(settings["file_nonce"])
        key = Argon2id(salt=salt, length=32, iterations=3, lanes=1, memory_cost=64_000)
        return AESGCM(key.derive(password)).decrypt(nonce, encrypted, None)
    except InvalidTag:
        raise IdentityError(f"{path} cannot be decrypted: wrong password?") from None
    except UnsupportedAlgorithm:
        raise IdentityError(
            "this build of the cryptography package has no Argon2id",
            hint="install the package's own wheel",
        ) from None
    except (ValueError, TypeError, KeyError):
        raise IdentityError(f"{path.parent / 'identity.json'} is not what dfx writes") from None


# --- icp-cli ------------------------------------------------------------------------------------


def icp_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where icp-cli keeps its data: ``ICP_HOME`` or the system's custom decides."""
    if environ.get("ICP_HOME"):
        return Path(environ["ICP_HOME"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "org.dfinity.icp-cli"
    if sys.platform == "win32":
        return Path(environ.get("APPDATA", Path.home())) / "icp-cli" / "data"
    data = environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "icp-cli"


def icp_identity(
    name: str | None = None, *, password: Password = None, root: Path | None = None
) -> Identity:
    """An identity of icp-cli; arguments and errors as of :func:`dfx_identity`."""
    folder = (root or icp_root()) / "identity"
    if name is None:
        chosen = folder / "identity_defaults.json"
        name = str(_versioned(chosen).get("default", _ANONYMOUS)) if chosen.exists() else _ANONYMOUS
    if name == _ANONYMOUS:
        return Identity.anonymous()
    path = folder / "identity_list.json"
    known = _versioned(path).get("identities") if path.exists() else None
    if not isinstance(known, dict) or not isinstance(known.get(name), dict):
        raise IdentityError(
            f"icp-cli has no identity {name!r} in {folder}", hint="see: icp identity list"
        )
    entry = known[name]
    identity = _load_icp(folder, _safe_name(name), entry, password)
    if entry.get("principal") not in (None, str(identity.principal)):
        raise IdentityError(
            f"the key of icp-cli's {name!r} is that of {identity.principal}, and the list says "
            f"{Principal.from_text(str(entry['principal']))}"
        )
    return identity


def _versioned(path: Path) -> Mapping[str, Any]:
    raw = _read_json(path)
    if raw.get("v") != 1:
        raise IdentityError(f"{path} is of version {raw.get('v')!r}; version 1 is understood")
    return raw


def _load_icp(folder: Path, name: str, entry: Mapping[str, Any], password: Password) -> Identity:
    kind = entry.get("kind")
    # A delegated identity says where its session key is; Internet Identity's is in a plain file.
    storage = entry.get("storage", {}) if kind in ("delegation", "internet-identity") else entry
    where = storage.get("kind", "pem")
    if kind == _ANONYMOUS:
        return Identity.anonymous()
    if where == "internet-identity":
        where = "pem"
    if where == "keyring":
        export = f"export it with: icp identity export {name}"
        data = _from_keyring(_KEYRING_SERVICE_ICP, name, export).encode()
        key = load_key(data, password=None, source=f"the keyring's entry {name!r}")
    elif where == "pem":
        path = folder / "keys" / f"{name}.pem"
        locked = storage.get("format") == "pbes2"
        key = load_key(
            read_private_file(path),
            password=_password(password) if locked else None,
            source=str(path),
        )
    else:
        raise IdentityError(f"icp-cli's {name!r} is of kind {where!r}, whose key is not in a file")
    if kind not in ("delegation", "internet-identity"):
        return Identity(key)
    path = folder / "delegations" / f"{name}.json"
    try:
        sender, chain = chain_from_json(path.read_bytes())
    except OSError as cause:
        raise IdentityError(f"{path} cannot be read: {cause.strerror}") from None
    return Identity(key, chain, sender)
