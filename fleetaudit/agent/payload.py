"""What is sent to a host: one line of configuration, then the packed agent."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from threading import Lock

from fleetaudit import __version__
from fleetaudit.agent.packing import pack

LEAST_MIB = 64  # what the interpreter itself wants, and some
ARGV_MODES = ("redacted", "full", "none")
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_packing = Lock()


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What one run asks of the agent on one host. `max_output` is in bytes of JSON, `budget_mib` of memory.

    `name` is the controller's name of the host. Raises ValueError for what the agent could not use.
    """

    nonce: str
    name: str | None = None
    argv: str = "redacted"
    budget_seconds: float = 30
    budget_mib: int = 1024
    max_output: int = 16 << 20

    def __post_init__(self) -> None:
        check_nonce(self.nonce)
        if self.argv not in ARGV_MODES:
            raise ValueError(f"argv is one of {', '.join(ARGV_MODES)}")
        if not 0 < self.budget_seconds < 86_400:
            raise ValueError("the CPU budget lies between 0 and 86,400 seconds")
        if not LEAST_MIB <= self.budget_mib <= 1 << 20:
            raise ValueError(f"the memory budget lies between {LEAST_MIB} and {1 << 20:,} MiB")
        if self.max_output <= 0:
            raise ValueError("max_output lies above 0")


def check_nonce(nonce: str) -> None:
    """Raises ValueError for a nonce that could not stand unquoted in a shell command and a frame's marker."""
    if not _NONCE.fullmatch(nonce):
        raise ValueError("a nonce has 1 to 128 letters, digits, _ or -")


@cache
def agent_source() -> bytes:
    """The agent as it is in the package."""
    return files("fleetaudit.agent").joinpath("agent.py").read_bytes()


@cache
def agent_sha256() -> str:
    """The hash by which snapshots name the agent that wrote them."""
    return hashlib.sha256(agent_source()).hexdigest()


def build(config: AgentConfig) -> bytes:
    """The program for one host, for `python3 -I -S`."""
    usual = AgentConfig(config.nonce)  # what the agent takes for granted
    asked = {item.name: getattr(config, item.name) for item in fields(config)}
    values = {name: value for name, value in asked.items() if value != getattr(usual, name)}
    values.update(nonce=config.nonce, sha256=agent_sha256(), version=__version__)
    with _packing:  # the threads of a fleet all begin here at once, and one packing is enough
        packed = _packed_agent()
    return f"FLEETAUDIT = {values!a}\n".encode("ascii") + packed


def build_sh(config: AgentConfig) -> bytes:
    """What a host without Python is sent instead, for its sh. It tells of no command lines."""
    source = sh_script()
    told = {
        "NONCE": config.nonce,
        "VERSION": __version__,
        "SHA256": hashlib.sha256(source).hexdigest(),
        "SECONDS": str(math.ceil(config.budget_seconds)),
        "MIB": str(config.budget_mib),
    }
    return "".join(f"FLEETAUDIT_{name}={value}\n" for name, value in told.items()).encode("ascii") + source


def script() -> bytes:
    """The program to read or to run by hand: it needs no configuration."""
    return agent_source()


def sh_script() -> bytes:
    """The agent for hosts without Python, to read or to run by hand: it sees less, and says so."""
    return files("fleetaudit.agent").joinpath("agent.sh").read_bytes()


def packed_file() -> bytes:
    """What agent.packed holds: the hash of the source in a comment, and the packed program (`make agent`)."""
    return f"# {agent_sha256()}\n".encode("ascii") + pack(agent_source().decode("ascii"))


@cache
def _packed_agent() -> bytes:
    """As it was packed for the package, if of this very source: packing takes 0.3 s, more than all else."""
    try:
        kept = files("fleetaudit.agent").joinpath("agent.packed").read_bytes()
    except FileNotFoundError:
        kept = b""
    if not kept.startswith(b"# " + agent_sha256().encode("ascii") + b"\n"):
        kept = packed_file()
    return kept.partition(b"\n")[2]
