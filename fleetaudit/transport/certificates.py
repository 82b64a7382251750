"""OpenSSH certificates: what one says, and whether a host may show it.

Format and meaning: PROTOCOL.certkeys of OpenSSH. paramiko proves that a host has the private key of the
certificate that it shows, and looks at nothing else in it.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

import paramiko
from paramiko.pkey import UnknownKeyType

from fleetaudit.text import visible
from fleetaudit.transport.known_hosts_file import HostKey
from fleetaudit.transport.wire import all_strings, string, strings

SUFFIX: Final = "-cert-v01@openssh.com"
# Signatures by SHA-1 prove nothing; OpenSSH does not take them in certificates since 8.2.
_STRONG: Final = (
    "ssh-ed25519",
    *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)),
    "rsa-sha2-512",
    "rsa-sha2-256",
)
# What to ask a host for that may have a certificate.
ALGORITHMS: Final = tuple(f"{name}{SUFFIX}" for name in _STRONG)
# How many fields the public key has after its type: pk; e, n; curve, point.
_KEY_FIELDS: Final = {"ssh-ed25519": 1, "ssh-rsa": 2} | {
    f"ecdsa-sha2-nistp{bits}": 2 for bits in (256, 384, 521)
}
_FOREVER: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says; `begins` and `ends` are seconds since 1970, `signed` is what it covers."""

    key: HostKey
    of_host: bool
    name: str
    principals: tuple[str, ...]
    begins: int
    ends: int
    critical: bool
    authority: HostKey
    signed: bytes
    signature: bytes

    def flaw(self, host: str) -> str | None:
        """Why the certificate does not speak for this host (in lower case), None if it does."""
        if not self._is_signed():  # first: nothing else that it says is worth a look before
            return "its signature is wrong"
        if not self.of_host:
            return "it is for a user"
        if self.critical:
            return "it has critical options, which no host certificate may have"
        if self.principals and host not in self.principals:  # no patterns, as with ssh
            return f"it is for {visible(', '.join(self.principals))}"
        return self.untimely()

    def untimely(self) -> str | None:
        """When the certificate begins or ended, if it is not valid now."""
        now = time.time()
        if now < self.begins:
            return f"it is valid from {_date(self.begins)} on"
        return f"it expired {_date(self.ends)}" if self.ends != _FOREVER and now >= self.ends else None

    def _is_signed(self) -> bool:
        try:
            algorithm, *rest = all_strings(self.signature)  # paramiko reads past wrong lengths
            if (
                len(rest) != 1
                or algorithm.decode("ascii", "replace") not in _STRONG
                or self.authority.kind.endswith(SUFFIX)
            ):
                return False
            authority = paramiko.PKey.from_type_string(self.authority.kind, self.authority.blob)
            return bool(authority.verify_ssh_sig(self.signed, paramiko.Message(self.signature)))
        except (paramiko.SSHException, UnknownKeyType, ValueError, TypeError, struct.error):
            return False


def parse(blob: bytes) -> Certificate:
    """Read a certificate. Raises ValueError for what is none."""
    try:
        return _parse(blob)
    except struct.error:
        raise ValueError("cut short") from None


def _parse(blob: bytes) -> Certificate:
    (full,) = strings(blob, 1)
    kind = full.decode("ascii", "replace")
    plain = kind.removesuffix(SUFFIX)
    if plain == kind or plain not in _KEY_FIELDS:
        raise ValueError(f"{visible(kind)} is not a type of certificate")
    fields = strings(blob, 2 + _KEY_FIELDS[plain])
    rest = blob[sum(len(field) + 4 for field in fields) :]
    (
        _serial,
        who,
    ) = struct.unpack_from(">QI", rest)
    name, principals = strings(rest[12:], 2)
    rest = rest[12 + 8 + len(name) + len(principals) :]
    begins, ends = struct.unpack_from(">QQ", rest)
    critical, _extensions, _reserved, authority, signature = all_strings(rest[16:])
    (authority_kind,) = strings(authority, 1)
    return Certificate(
        key=HostKey(plain, b"".join(string(field) for field in (plain.encode(), *fields[2:]))),
        of_host=who == 2,
        name=name.decode("utf-8", "replace"),
        principals=tuple(item.decode("utf-8", "replace") for item in all_strings(principals)),
        begins=begins,
        ends=ends,
        critical=bool(critical),
        authority=HostKey(authority_kind.decode("ascii", "replace"), authority),
        signed=blob[: len(blob) - len(signature) - 4],
        signature=signature,
    )


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"
