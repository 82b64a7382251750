"""Private keys to offer: from files, read once per run, and from ssh-agent, asked once per run."""

from __future__ import annotations

import base64
import binascii
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType

from fleetaudit.errors import AuthError
from fleetaudit.text import visible
from fleetaudit.transport.watchdog import Lease
from fleetaudit.transport.wire import string, strings

# draft-ietf-sshm-ssh-agent, sections 3.5 and 3.6.
_LIST, _KEYS, _SIGN, _SIGNATURE = 11, 12, 13, 14
_RSA_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
# Listing asks nobody; signing may wait for a person to confirm or to touch a token.
_LIST_SECONDS, _SIGN_SECONDS = 5.0, 30.0
_LARGEST_ANSWER = 256 * 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """A key to try, and what to call it in a message."""

    label: str
    key: paramiko.PKey


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a key file cannot be used. `encrypted` ones may still be held by the agent."""

    text: str
    missing: bool = False
    encrypted: bool = False


class KeyRing:
    """Every key of a run. One object serves every thread."""

    def __init__(self, files: tuple[str, ...], agent_socket: str | None) -> None:
        self._files = files
        self._agent_socket = agent_socket
        self._lock = threading.Lock()
        self._loaded: dict[str, paramiko.PKey | Problem] = {}
        self._agent_keys: tuple[tuple[bytes, str], ...] | None = None
        self._agent_problem = ""

    def offers(self, private_key: str | None, lease: Lease) -> tuple[list[Offer], list[str]]:
        """Keys to try in order, and what kept others from it.

        Raises AuthError when the key file a host names cannot be used and the agent cannot stand in.
        """
        offers: list[Offer] = []
        problems: list[str] = []
        for file in (private_key,) if private_key else self._files:
            loaded = self._load(file)
            if isinstance(loaded, paramiko.PKey):
                offers.append(Offer(file, loaded))
            elif private_key or not loaded.missing:
                problems.append(loaded.text)
        held = self._from_agent(lease, public_half(private_key) if private_key else None)
        if self._agent_problem:
            problems.append(self._agent_problem)
        if private_key and not offers and not (held and _is_encrypted(self._load(private_key))):
            raise AuthError("; ".join(problems))
        files = {offer.key.asbytes() for offer in offers}
        offers += [offer for offer in held if offer.key.asbytes() not in files]
        return offers, problems

    def _load(self, file: str) -> paramiko.PKey | Problem:
        with self._lock:
            if file not in self._loaded:
                self._loaded[file] = _load(file)
            return self._loaded[file]

    def _from_agent(self, lease: Lease, first: bytes | None) -> list[Offer]:
        if self._agent_socket is None:
            return []
        with self._lock:
            if self._agent_keys is None:
                try:
                    self._agent_keys = _list(self._agent_socket, lease)
                except (OSError, ValueError, struct.error) as error:
                    lease.check()
                    self._agent_keys = ()
                    reason = getattr(error, "strerror", None) or str(error)
                    self._agent_problem = f"ssh-agent at {self._agent_socket} does not answer: {reason}"
            keys = sorted(self._agent_keys, key=lambda item: item[0] != first)
        return [
            Offer(f"agent key {visible(comment)}", AgentKey(blob, self._agent_socket, lease))
            for blob, comment in keys
        ]


class AgentKey(paramiko.PKey):
    """A private key that stays inside ssh-agent. Each signature is a connection of its own."""

    def __init__(self, blob: bytes, agent_socket: str, lease: Lease) -> None:
        self.public_blob = None
        self._blob = blob
        self._agent_socket = agent_socket
        self._lease = lease

    def asbytes(self) -> bytes:
        """The public key in SSH's encoding."""
        return self._blob

    def get_name(self) -> str:
        """The key type, as the public key says."""
        return strings(self._blob, 1)[0].decode("ascii", "replace")

    def can_sign(self) -> bool:
        """The agent does."""
        return True

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
        """Have the agent sign. Raises SSHException when it will not."""
        flags = _RSA_FLAGS.get((algorithm or "").removesuffix("-cert-v01@openssh.com"), 0)
        request = bytes([_SIGN]) + string(self._blob) + string(bytes(data)) + struct.pack(">I", flags)
        try:
            answer = _ask(self._agent_socket, request, _SIGNATURE, self._lease, _SIGN_SECONDS)
            return paramiko.Message(strings(answer, 1)[0])
        except (OSError, ValueError, struct.error) as error:
            raise paramiko.SSHException("ssh-agent did not sign") from error


def _is_encrypted(loaded: paramiko.PKey | Problem) -> bool:
    return isinstance(loaded, Problem) and loaded.encrypted


def _load(file: str) -> paramiko.PKey | Problem:
    """Read one key file; a certificate beside it (`FILE-cert.pub`) comes along."""
    try:
        return paramiko.PKey.from_path(Path(file).expanduser())
    except FileNotFoundError:
        return Problem(f"private key {file} does not exist", missing=True)
    except OSError as error:
        return Problem(f"cannot read private key {file}: {error.strerror}")
    except (TypeError, paramiko.PasswordRequiredException):
        # TypeError is what the cryptography library says when a key needs a passphrase and has none.
        return Problem(f"private key {file} is encrypted: load it into ssh-agent (ssh-add)", encrypted=True)
    except (ValueError, paramiko.SSHException, UnknownKeyType, UnsupportedAlgorithm):
        return Problem(f"{file} is not a private key fleetaudit can use (RSA, ECDSA or Ed25519)")


def public_half(file: str) -> bytes | None:
    """The public key beside a private one, to know which agent key is meant."""
    with contextlib.suppress(OSError, IndexError, binascii.Error):
        return base64.b64decode(Path(f"{file}.pub").expanduser().read_bytes().split()[1])
    return None


# ---------------------------------------------------------------- the agent protocol


def _list(agent_socket: str, lease: Lease) -> tuple[tuple[bytes, str], ...]:
    answer = _ask(agent_socket, bytes([_LIST]), _KEYS, lease, _LIST_SECONDS)
    (count,) = struct.unpack_from(">I", answer)
    parts = strings(answer[4:], 2 * count)
    return tuple(
        (blob, comment.decode("utf-8", "replace"))
        for blob, comment in zip(parts[::2], parts[1::2], strict=True)
    )


def _ask(agent_socket: str, request: bytes, expected: int, lease: Lease, seconds: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        lease.attach(lambda: _hang_up(connection))
        connection.settimeout(min(seconds, lease.remaining()))
        connection.connect(agent_socket)
        connection.sendall(string(request))
        with connection.makefile("rb") as stream:
            (length,) = struct.unpack(">I", stream.read(4))
            if not 1 <= length <= _LARGEST_ANSWER:
                raise ValueError("an answer of impossible size")
            answer = stream.read(length)
    if len(answer) != length or answer[0] != expected:
        raise ValueError("it refused")
    return answer[1:]


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
