"""known_hosts files: which keys a host may show, and the one place that decides whether to trust it.

Format and matching rules: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Lines that cannot be read are passed
over, as OpenSSH does, but for `@revoked` ones: what cannot be read there would be trusted elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import errno
import fcntl
import hashlib
import hmac
import os
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fleetaudit.errors import ConfigError, HostKeyError, Place, Problem
from fleetaudit.text import visible
from fleetaudit.transport.options import HostKeyChecking

_MARKERS = ("@revoked", "@cert-authority")


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key in SSH's own encoding; `kind` is its type name, such as ssh-ed25519."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -l` shows: SHA256 and unpadded base64."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}"


@dataclass(frozen=True, slots=True)
class _Entry:
    place: Place
    names: str
    key: HostKey


class KnownHosts:
    """The keys on record. One object serves every thread of a run.

    Raises ConfigError when a file exists but cannot be read.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._files = tuple(str(Path(file).expanduser()) for file in files)
        self._lock = threading.Lock()
        self._exact: dict[str, list[_Entry]] = {}
        self._patterns: list[_Entry] = []
        self._hashed: list[tuple[bytes, bytes, _Entry]] = []
        self._revoked: list[_Entry] = []
        self._authorities: list[_Entry] = []
        for file in self._files:
            for marker, entry in _read(file):
                self._add(marker, entry)

    def kinds(self, address: str, port: int) -> tuple[str, ...]:
        """The key types on record for a host, for the negotiation to ask for one of them first."""
        with self._lock:
            found = [entry.key.kind for name in _names(address, port) for entry in self._find(name)]
        return tuple(dict.fromkeys(found))

    def verify(self, address: str, port: int, key: HostKey, checking: HostKeyChecking) -> bool:
        """Whether the key was on record before; False means accepted without proof. Else HostKeyError."""
        with self._lock:
            self._refuse_revoked(address, port, key)
            if checking is HostKeyChecking.OFF:
                return False
            name, *fallback = _names(address, port)
            recorded = self._find(name)
            also_good = [entry for other in fallback for entry in self._find(other)]
            if any(entry.key == key for entry in [*recorded, *also_good]):
                return True
            if recorded:
                raise _changed(name, key, recorded)
            if checking is HostKeyChecking.STRICT:
                raise self._unknown(address, port, key)
            self._record(name, key)
            return False

    def _add(self, marker: str, entry: _Entry) -> None:
        if marker == "@revoked":
            self._revoked.append(entry)
        elif marker == "@cert-authority":
            self._authorities.append(entry)
        elif entry.names.startswith("|1|"):
            salt, digest = _hash_parts(entry.names)
            self._hashed.append((salt, digest, entry))
        elif any(char in entry.names for char in "*?!"):
            self._patterns.append(entry)
        else:
            for name in entry.names.lower().split(","):
                self._exact.setdefault(name, []).append(entry)

    def _find(self, name: str) -> list[_Entry]:
        found = list(self._exact.get(name, ()))
        found += [entry for entry in self._patterns if _matches(entry.names, name)]
        encoded = name.encode()
        found += [
            entry for salt, digest, entry in self._hashed if hmac.digest(salt, encoded, "sha1") == digest
        ]
        return found

    def _refuse_revoked(self, address: str, port: int, key: HostKey) -> None:
        for entry in self._revoked:
            if entry.key == key and any(_covers(entry.names, name) for name in _names(address, port)):
                raise HostKeyError(f"{_shown(key)} is revoked by {entry.place}: do not connect to this host")

    def _unknown(self, address: str, port: int, key: HostKey) -> HostKeyError:
        names = _names(address, port)
        for entry in self._authorities:
            if any(_covers(entry.names, name) for name in names):
                return HostKeyError(
                    f"{_shown(key)} is not on record; {entry.place} trusts a certificate authority for this "
                    "host, but host certificates are not supported: record the host's own key"
                )
        file = self._files[0] if self._files else "FILE"
        return HostKeyError(
            f"{_shown(key)} is not on record. Compare it on the host (ssh-keygen -lf "
            f"/etc/ssh/ssh_host_*_key.pub), then: ssh-keyscan -p {port} {address} >> {file}"
            " (or --host-key-checking accept-new)"
        )

    def _record(self, name: str, key: HostKey) -> None:
        if not self._files:
            raise HostKeyError("accept-new has no file to record keys in; give --known-hosts FILE")
        line = f"{name} {key.kind} {base64.b64encode(key.blob).decode()}\n"
        file = self._files[0]
        try:
            _append(Path(file), line)
        except OSError as error:
            raise HostKeyError(f"cannot record the new key in {file}: {error.strerror}") from error
        self._add("", _Entry(Place(file), name, key))


def _append(path: Path, line: str) -> None:
    """Add one line in one write, under the lock that another fleetaudit would take."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (("\n" if torn else "") + line).encode()
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def _names(address: str, port: int) -> tuple[str, ...]:
    """The names a host is on record by; like OpenSSH, a key of the bare name is good on any port."""
    bare = address.lower()
    return (bare,) if port == 22 else (f"[{bare}]:{port}", bare)


def _shown(key: HostKey) -> str:
    return f"host key {visible(key.kind)} {key.fingerprint}"


def _changed(name: str, key: HostKey, recorded: list[_Entry]) -> HostKeyError:
    entry = next((item for item in recorded if item.key.kind == key.kind), recorded[0])
    what = "has changed" if entry.key.kind == key.kind else "is of another type than those on record"
    return HostKeyError(
        f"{_shown(key)} {what}: {entry.place} has {entry.key.kind} {entry.key.fingerprint}. The host was "
        "reinstalled, or someone stands between. Find out which; then: "
        f"ssh-keygen -R '{name}' -f {entry.place.file}"
    )


def _covers(names: str, name: str) -> bool:
    if names.startswith("|1|"):
        salt, digest = _hash_parts(names)
        return hmac.digest(salt, name.encode(), "sha1") == digest
    return _matches(names, name)


def _matches(patterns: str, name: str) -> bool:
    """Whether a comma-separated pattern list covers the name; one negated match excludes it."""
    found = False
    for pattern in patterns.lower().split(","):
        negated = pattern.startswith("!")
        expression = re.escape(pattern.lstrip("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(expression, name):
            if negated:
                return False
            found = True
    return found


def _hash_parts(names: str) -> tuple[bytes, bytes]:
    _, _, salt, digest = names.split("|")
    return base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)


def _read(file: str) -> Iterator[tuple[str, _Entry]]:
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(Problem(f"cannot read known hosts: {error.strerror}", Place(file))) from error
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        place = Place(file, number)
        marker = fields.pop(0) if fields[0] in _MARKERS else ""
        try:
            yield marker, _entry(place, fields)
        except (ValueError, binascii.Error) as error:
            if marker == "@revoked":
                problem = Problem("cannot read this @revoked line", place, "names, key type and base64 key")
                raise ConfigError(problem) from error


def _entry(place: Place, fields: list[str]) -> _Entry:
    names, kind, encoded = fields[:3]
    blob = base64.b64decode(encoded, validate=True)
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length] != kind.encode():
        raise ValueError("the key is not of the type the line says")
    if names.startswith("|"):
        _hash_parts(names)
    return _Entry(place, names, HostKey(kind, blob))
