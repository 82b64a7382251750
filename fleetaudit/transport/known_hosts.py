"""Which keys a host may show, and the one place that decides whether to trust it.

Matching rules: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT", and for certificates PROTOCOL.certkeys.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterable
from pathlib import Path

from fleetaudit.errors import HostKeyError, Place
from fleetaudit.text import visible
from fleetaudit.transport import certificates
from fleetaudit.transport.certificates import Certificate
from fleetaudit.transport.known_hosts_file import (
    AUTHORITY,
    REVOKED,
    Entry,
    HostKey,
    append,
    hash_parts,
    matches,
    read,
    write_line,
)
from fleetaudit.transport.options import HostKeyChecking

__all__ = ["HostKey", "KnownHosts"]


class KnownHosts:
    """The keys on record. One object serves every thread of a run.

    Raises ConfigError when a file exists but cannot be read, with every line that cannot.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._files = tuple(str(Path(file).expanduser()) for file in files)
        self._lock = threading.Lock()
        self._exact: dict[str, list[Entry]] = {}
        self._patterns: list[Entry] = []
        self._hashed: list[tuple[bytes, bytes, Entry]] = []
        self._revoked: list[Entry] = []
        self._authorities: list[Entry] = []
        self._hashes = False
        for number, file in enumerate(self._files):
            for entry in read(file):
                self._add(entry)
                self._hashes = self._hashes or (number == 0 and entry.hashed)

    def kinds(self, address: str, port: int) -> tuple[str, ...]:
        """The key types on record for a host, for the negotiation to ask for one of them first."""
        with self._lock:
            for name in _names(address, port):
                if found := [entry.key.kind for entry in self._find(name)]:
                    return tuple(dict.fromkeys(found))
        return ()

    def differing(self, address: str, port: int, key: HostKey) -> Entry | None:
        """What speaks against this key: a line that revokes it, or has another of the same kind."""
        name = recorded_name(address, port)
        with self._lock:
            for entry in self._revoked:
                if entry.key == key and any(entry.covers(one) for one in _names(address, port)):
                    return entry
            recorded = [entry for entry in self._find(name) if entry.key.kind == key.kind]
        return None if any(entry.key == key for entry in recorded) else next(iter(recorded), None)

    def has(self, address: str, port: int, key: HostKey) -> bool:
        """Whether this very key is on record under the host's own name."""
        with self._lock:
            return any(entry.key == key for entry in self._find(recorded_name(address, port)))

    def certified(self, address: str, port: int) -> bool:
        """Whether certificates of some authority are good for this host."""
        return self._authority(address, port) is not None

    def verify(self, address: str, port: int, key: HostKey, checking: HostKeyChecking) -> bool:
        """Whether the key was on record before, or is certified; False means accepted without proof.

        Raises HostKeyError rather than trust a host in doubt.
        """
        certificate = _certificate(key)
        with self._lock:
            if certificate is not None:
                self._refuse_revoked(address, port, certificate.authority)
                key = certificate.key
            self._refuse_revoked(address, port, key)
            if checking is HostKeyChecking.OFF:
                return False
            if certificate is not None and self._vouched(address, port, certificate):
                return True
            return self._verify_plain(address, port, key, checking)

    def _verify_plain(self, address: str, port: int, key: HostKey, checking: HostKeyChecking) -> bool:
        name, *fallback = _names(address, port)
        recorded = self._find(name)
        # As with ssh: the bare name's keys count for a host that none is on record for by its port.
        good = recorded or [entry for other in fallback for entry in self._find(other)]
        if any(entry.key == key for entry in good):
            return True
        if recorded:
            raise _changed(name, key, recorded)
        if checking is HostKeyChecking.STRICT:
            raise self._unknown(address, port, key)
        self._record(name, key)
        return False

    def _vouched(self, address: str, port: int, certificate: Certificate) -> bool:
        """Whether an authority for this host signed it. Raises HostKeyError if it did for something else."""
        authority = self._authority(address, port, certificate.authority)
        if authority is None:
            return False
        flaw = certificate.flaw(address.lower())
        if flaw is not None:
            raise HostKeyError(
                f"the host shows a certificate ('{visible(certificate.name)}') of the authority of "
                f"{authority.place}, but {flaw}: have it sign a new one"
            )
        return True

    def _authority(self, address: str, port: int, key: HostKey | None = None) -> Entry | None:
        for entry in self._authorities:
            if key in (None, entry.key) and any(entry.covers(name) for name in _names(address, port)):
                return entry
        return None

    def _add(self, entry: Entry) -> None:
        if entry.marker == REVOKED:
            self._revoked.append(entry)
        elif entry.marker == AUTHORITY:
            self._authorities.append(entry)
        elif entry.hashed:
            salt, digest = hash_parts(entry.names)
            self._hashed.append((salt, digest, entry))
        elif any(char in entry.names for char in "*?!"):
            self._patterns.append(entry)
        else:
            for name in entry.names.lower().split(","):
                self._exact.setdefault(name, []).append(entry)

    def _find(self, name: str) -> list[Entry]:
        found = list(self._exact.get(name, ()))
        found += [entry for entry in self._patterns if matches(entry.names, name)]
        encoded = name.encode()
        found += [
            entry for salt, digest, entry in self._hashed if hmac.digest(salt, encoded, "sha1") == digest
        ]
        return found

    def _refuse_revoked(self, address: str, port: int, key: HostKey) -> None:
        for entry in self._revoked:
            if entry.key == key and any(entry.covers(name) for name in _names(address, port)):
                raise HostKeyError(f"{_shown(key)} is revoked by {entry.place}: do not connect to this host")

    def _unknown(self, address: str, port: int, key: HostKey) -> HostKeyError:
        authority = self._authority(address, port)
        if authority is not None:
            return HostKeyError(
                f"{_shown(key)} is not on record, and the host shows no certificate of the authority of "
                f"{authority.place}: have it sign one (HostCertificate in sshd_config), or record the key"
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
        file = self._files[0]
        try:
            append(Path(file), write_line(name, key, hashed=self._hashes))
        except OSError as error:
            raise HostKeyError(f"cannot record the new key in {file}: {error.strerror}") from error
        self._add(Entry(Place(file), "", name, key))


def _certificate(key: HostKey) -> Certificate | None:
    if not key.kind.endswith(certificates.SUFFIX):
        return None
    try:
        return certificates.parse(key.blob)
    except ValueError as error:
        raise HostKeyError(f"the host shows a certificate that cannot be read: {error}") from error


def recorded_name(address: str, port: int) -> str:
    """The name that a new line for this host has."""
    return _names(address, port)[0]


def _names(address: str, port: int) -> tuple[str, ...]:
    """The names a host is on record by, its own first; the bare name stands in on another port."""
    bare = address.lower()
    return (bare,) if port == 22 else (f"[{bare}]:{port}", bare)


def _shown(key: HostKey) -> str:
    return f"host key {visible(key.kind)} {key.fingerprint}"


def _changed(name: str, key: HostKey, recorded: list[Entry]) -> HostKeyError:
    entry = next((item for item in recorded if item.key.kind == key.kind), recorded[0])
    what = "has changed" if entry.key.kind == key.kind else "is of another type than those on record"
    return HostKeyError(
        f"{_shown(key)} {what}: {entry.place} has {visible(entry.key.kind)} {entry.key.fingerprint}. "
        "The host was reinstalled, or someone stands between. Find out which; then: "
        f"ssh-keygen -R '{name}' -f {entry.place.file}"
    )
