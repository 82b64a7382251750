"""Key pairs made for one run, and the known_hosts lines that go with them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 key pair: the private half in OpenSSH's file format, the public as `ssh-ed25519 BASE64`."""

    private: bytes
    public: str

    @classmethod
    def generate(cls) -> KeyPair:
        """A fresh pair."""
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH,
            serialization.PublicFormat.OpenSSH,
        )
        return cls(private, public.decode("ascii"))

    @property
    def blob(self) -> str:
        """The public half in base64 alone."""
        return self.public.split()[1]

    def __repr__(self) -> str:
        return f"KeyPair({self.public})"


def known_hosts_line(address: str, port: int, public: str) -> str:
    """One line of known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT) for a port that is not 22."""
    return f"[{address}]:{port} {public}\n"


def write_private(path: Path, data: bytes) -> None:
    """Make a file that only its owner can read, replacing what was there."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
