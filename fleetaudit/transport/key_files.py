"""Private keys and certificates in files, each read once per run; passphrases, asked for once."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from paramiko.pkey import PublicBlob

from fleetaudit.errors import ConfigError, Place
from fleetaudit.errors import Problem as Mistake
from fleetaudit.model import Secret
from fleetaudit.transport import certificates
from fleetaudit.transport.certificates import Certificate
from fleetaudit.transport.options import Ask
from fleetaudit.transport.wire import strings

_TIMES_ASKED: Final = 3
_KINDS: Final = (
    (RSAPrivateKey, paramiko.RSAKey),
    (EllipticCurvePrivateKey, paramiko.ECDSAKey),
    (Ed25519PrivateKey, paramiko.Ed25519Key),
)
_MAGIC: Final = b"openssh-key-v1\0"
_UNUSABLE: Final = (ValueError, paramiko.SSHException, UnsupportedAlgorithm)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a key file cannot be used. `encrypted` ones may still be held by the agent."""

    text: str
    missing: bool = False
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate in a file: for the public key `key`; `note` says if it is not valid now."""

    file: str
    key: bytes
    blob: PublicBlob
    note: str


class KeyFiles:
    """The key files of a run. One object serves every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, paramiko.PKey | Problem] = {}
        self._certificates: dict[str, Certified | Problem] = {}

    def load(self, file: str) -> paramiko.PKey | Problem:
        """The private key in a file, without any certificate."""
        with self._lock:
            if file not in self._keys:
                self._keys[file] = _load(file, None)
            return self._keys[file]

    def certificate(self, file: str) -> Certified | Problem:
        """The certificate in a file."""
        with self._lock:
            if file not in self._certificates:
                self._certificates[file] = _certificate(file)
            return self._certificates[file]

    def unlock(self, file: str, ask: Ask) -> None:
        """Ask for the passphrase of an encrypted file; no answer leaves the file as it is.

        Raises ConfigError for a passphrase that stays wrong.
        """
        with self._lock:
            self._keys[file] = _asked(file, ask) or self._keys[file]


def public_half(file: str) -> bytes | None:
    """The public key of a private one, encrypted or not: from the file beside it, else from its header."""
    with contextlib.suppress(OSError, IndexError, binascii.Error):
        return base64.b64decode(Path(f"{file}.pub").expanduser().read_bytes().split()[1])
    with contextlib.suppress(OSError, ValueError, struct.error):
        lines = Path(file).expanduser().read_bytes().split(b"\n")
        data = base64.b64decode(b"".join(line for line in lines if not line.startswith(b"-----")))
        if data.startswith(
            _MAGIC
        ):  # PROTOCOL.key: cipher, kdf, its options, how many keys, the first of them
            skipped = sum(len(part) + 4 for part in strings(data[len(_MAGIC) :], 3)) + 4
            return strings(data[len(_MAGIC) + skipped :], 1)[0]
    return None


def _asked(file: str, ask: Ask) -> paramiko.PKey | None:
    again = ""
    for _ in range(_TIMES_ASKED):
        passphrase = ask(f"{again}Passphrase of {file}")
        if passphrase is None or not passphrase.reveal():
            return None
        key = _load(file, passphrase)
        if isinstance(key, paramiko.PKey):
            return key
        again = "That was wrong. "
    hint = f"ssh-keygen -y -f {file} tries it; ssh-add loads the key into ssh-agent"
    raise ConfigError(Mistake("the passphrase is wrong", Place(file), hint))


def _load(file: str, passphrase: Secret | None) -> paramiko.PKey | Problem:
    try:
        data = Path(file).expanduser().read_bytes()
        return _key(data, None if passphrase is None else passphrase.reveal().encode())
    except FileNotFoundError:
        return Problem(f"private key {file} does not exist", missing=True)
    except OSError as error:
        return Problem(f"cannot read private key {file}: {error.strerror}")
    except TypeError:  # what the cryptography library says when a key needs a passphrase and has none
        return Problem(f"private key {file} is encrypted: load it into ssh-agent (ssh-add)", encrypted=True)
    except _UNUSABLE:
        return Problem(f"{file} is not a private key fleetaudit can use (RSA, ECDSA or Ed25519)")


def _key(data: bytes, passphrase: bytes | None) -> paramiko.PKey:
    """A private key as OpenSSH, PEM or PKCS #8 write it.

    paramiko's own reader knows the first two, and works the passphrase out twice.
    """
    try:
        found = serialization.load_ssh_private_key(data, passphrase)
    except ValueError:
        found = serialization.load_pem_private_key(data, passphrase)  # type: ignore[assignment]  # refused below
    kind = next((made for loaded, made in _KINDS if isinstance(found, loaded)), None)
    if kind is None:
        raise ValueError("no key that SSH uses")
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    text = found.private_bytes(encoding, form, serialization.NoEncryption()).decode()
    return kind.from_private_key(io.StringIO(text))


def _certificate(file: str) -> Certified | Problem:
    try:
        fields = Path(file).expanduser().read_bytes().split()
        blob = base64.b64decode(fields[1], validate=True)
        found: Certificate = certificates.parse(blob)
    except FileNotFoundError:
        return Problem(f"certificate {file} does not exist", missing=True)
    except OSError as error:
        return Problem(f"cannot read certificate {file}: {error.strerror}")
    except (IndexError, ValueError):
        return Problem(f"{file} is not a certificate fleetaudit can use: have it signed anew, or remove it")
    note = found.untimely() or ("it is for a host" if found.of_host else "")
    kind = fields[0].decode("ascii", "replace")
    return Certified(file, found.key.blob, PublicBlob(kind, blob), note)
