"""Private keys in PEM: found, read, refused by name; and files that only their owner may read.

The library's own words are left out of messages where they could quote the file.
"""

import base64
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from bridge.agent import pkcs8
from bridge.errors import IdentityError
from bridge.wire.keys import ECDSAKey, Ed25519Key, SigningKey

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MAX_SIZE: Final = 65_536
_BLOCK: Final = re.compile(
    rb"-----BEGIN (?P<kind>[A-Z0-9 ]*PRIVATE KEY)-----(?P<body>.*?)-----END (?P=kind)-----",
    re.DOTALL,
)


def read_private_file(path: Path) -> bytes:
    """Read a file that holds a secret.

    Raises:
        IdentityError: If it cannot be read, or others than its owner may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if sys.platform != "win32" and mode & _OTHERS:
                raise IdentityError(
                    f"{path} holds a private key and may be read by others "
                    f"(mode {stat.S_IMODE(mode):04o}; expected 0600)",
                    hint=f"run: chmod 600 {path}",
                )
            return file.read(_MAX_SIZE)
    except OSError as cause:
        raise IdentityError(
            f"{path} cannot be read: {cause.strerror}", hint="check the path of the key file"
        ) from None


def load_key(data: bytes, *, password: bytes | None, source: str) -> SigningKey:
    """Take the private key out of PEM text.

    Args:
        data: The text; other blocks, such as a curve's parameters, may stand before the key.
        password: What it is encrypted with, if it is.
        source: Where it comes from, for messages.

    Raises:
        IdentityError: If it holds no key that the IC takes, or the password is wrong.
    """
    found = _BLOCK.search(data)
    if found is None:
        raise IdentityError(
            f"{source} holds no private key in PEM form",
            hint="expected a block that begins with -----BEGIN PRIVATE KEY----- or the like",
        )
    try:
        key = _parse(found, password)
    except TypeError:
        if password is None:
            raise IdentityError(
                f"{source} is encrypted and no password was given", hint="give its password"
            ) from None
        raise IdentityError(
            f"{source} is not encrypted but a password was given", hint="leave the password out"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        if password is not None:
            raise IdentityError(f"{source} cannot be decrypted: wrong password?") from None
        raise IdentityError(f"{source} holds a private key that cannot be parsed") from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return Ed25519Key(key)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ECDSAKey(key)
    raise IdentityError(
        f"{source} holds a {type(key).__name__}, which the IC does not take",
        hint="use Ed25519, secp256k1 or P-256",
    )


def _parse(found: "re.Match[bytes]", password: bytes | None) -> Any:
    block, kind = found[0] + b"\n", found["kind"]
    try:
        if kind == b"OPENSSH PRIVATE KEY":
            return serialization.load_ssh_private_key(block, password)
        return serialization.load_pem_private_key(block, password)
    except (ValueError, UnsupportedAlgorithm):
        if kind == b"PRIVATE KEY":
            return _parse_ed25519(base64.b64decode(found["body"]))
        if kind == b"ENCRYPTED PRIVATE KEY" and password is not None:
            return _parse_ed25519(pkcs8.decrypt(base64.b64decode(found["body"]), password))
        raise


def _parse_ed25519(der: bytes) -> Any:
    seed = pkcs8.ed25519_seed(der)
    if seed is None:
        return serialization.load_der_private_key(der, None)
    return ed25519.Ed25519PrivateKey.from_private_bytes(seed)
