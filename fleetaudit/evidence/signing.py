"""Signatures with the user's SSH key, by ssh-keygen(1) -Y of OpenSSH 8.2 or later.

No key and no passphrase passes through this process: ssh-keygen reads the key, or asks the ssh-agent, and
asks for a passphrase by itself.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleetaudit.errors import ConfigError, Problem, ReportError
from fleetaudit.text import visible

NAMESPACE: Final = "fleetaudit"  # a signature made for something else is none
_SECONDS: Final = 120  # somebody may have to type a passphrase
MOST_BYTES: Final = 64 * 1024  # of a signature
# OpenSSH before 8.1, by the getopt of several systems, and 8.1, which signs but finds no principals.
_TOO_OLD: Final = (b"option -- y", b"option -- 'y'", b"option: y", b"unsupported operation for -y")


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature is worth: `good` None says that it is one, and that nobody said whose is accepted."""

    good: bool | None
    words: str


def sign(data: bytes, key: str) -> bytes:
    """The signature by a private key, or by the ssh-agent's that belongs to a public one.

    Raises ReportError.
    """
    code, out, err = _keygen(["-Y", "sign", "-q", "-n", NAMESPACE, "-f", key], data)
    if code or not out.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise ReportError(f"--sign {visible(key)}: {_said(err) or 'ssh-keygen made no signature'}")
    return out


def require_key(key: str) -> None:
    """Refuse a key that cannot be one, before anything runs. Raises ConfigError."""
    if not Path(key).is_file():
        message = f"--sign {visible(key)}: no such file"
        raise ConfigError(Problem(message, hint="name a private key, or the .pub of one in the ssh-agent"))


def require_signers(path: str) -> None:
    """Refuse a file of allowed signers that cannot be read, which is no fault of a signature.

    Raises ConfigError.
    """
    if Path(path).is_dir() or not os.access(path, os.R_OK):
        message = f"--allowed-signers {visible(path)}: no such file, or not readable"
        raise ConfigError(Problem(message, hint="each line: who, and the public key (ssh-keygen(1))"))


def check(data: bytes, signature: bytes, signers: str | None, signer: str | None) -> Signed:
    """Whether the signature is one of the data, and of somebody in the file of allowed signers.

    `signers` is as ssh-keygen(1) describes ALLOWED SIGNERS; with `signer` only that principal's key counts.
    Raises ReportError when ssh-keygen cannot be run, or cannot do it.
    """
    with tempfile.NamedTemporaryFile(prefix="fleetaudit-", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        made = ["-n", NAMESPACE, "-s", file.name]
        if signers is None:
            code, out, err = _keygen(["-Y", "check-novalidate", *made], data)
            return Signed(None if code == 0 else False, _said(out) or _said(err))
        if signer is None:
            code, out, err = _keygen(["-Y", "find-principals", "-s", file.name, "-f", signers], b"")
            if code:
                return Signed(False, f"its key is nobody's in {visible(signers)}: {_said(err)}")
            signer = out.decode("utf-8", "replace").partition("\n")[0].partition(",")[0]
        code, out, err = _keygen(["-Y", "verify", *made, "-f", signers, "-I", signer], data)
        return Signed(code == 0, _said(out) or _said(err))


def _keygen(arguments: Sequence[str], data: bytes) -> tuple[int, bytes, bytes]:
    try:
        done = subprocess.run(
            ["ssh-keygen", *arguments],
            input=data,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise ReportError("signatures need ssh-keygen of OpenSSH 8.2 or later, and there is none") from None
    except subprocess.TimeoutExpired:
        raise ReportError(f"ssh-keygen took longer than {_SECONDS} seconds") from None
    except OSError as error:
        raise ReportError(f"ssh-keygen: {error.strerror or error}") from None
    if done.returncode and any(words in done.stderr.lower() for words in _TOO_OLD):
        raise ReportError("signatures need ssh-keygen of OpenSSH 8.2 or later: this one is older")
    return done.returncode, done.stdout, done.stderr


def _said(output: bytes) -> str:
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return visible(lines[-1].strip().rstrip("\r"))[:200] if lines else ""
