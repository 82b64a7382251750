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
from fleetaudit.model import AGENT_MODES

LEAST_MIB = 64  # what the interpreter itself wants, and some
ARGV_MODES = ("redacted", "full", "none")
MAIN = b'\n\nif __name__ == "__main__":\n    main()\n'  # how agent.py ends
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PACKED = {"walk": "agent.packed", "bpf": "agent_bpf.packed"}
_ITS_IMPORT = re.compile(rb"^from fleetaudit\.agent\.agent import \([^)]*\)\n", re.MULTILINE)
_packing = Lock()


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What one run asks of the agent on one host. `max_output` is in bytes of JSON, `budget_mib` of memory.

    `name` is the controller's name of the host; `mode` bpf adds agent_bpf.py to the agent. Raises ValueError
    for what the agent could not use.
    """

    nonce: str
    name: str | None = None
    argv: str = "redacted"
    budget_seconds: float = 30
    budget_mib: int = 1024
    max_output: int = 16 << 20
    mode: str = "walk"

    def __post_init__(self) -> None:
        check_nonce(self.nonce)
        if self.argv not in ARGV_MODES:
            raise ValueError(f"argv is one of {', '.join(ARGV_MODES)}")
        if self.mode not in AGENT_MODES:
            raise ValueError(f"agent_mode is one of {', '.join(AGENT_MODES)}")
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
def agent_source(mode: str = "walk") -> bytes:
    """The agent as it is in the package; for bpf with the accelerator put in before it calls main()."""
    source = files("fleetaudit.agent").joinpath("agent.py").read_bytes()
    if mode == "walk":
        return source
    added = files("fleetaudit.agent").joinpath("agent_bpf.py").read_bytes()
    added, cut = _ITS_IMPORT.subn(b"", added)
    if cut != 1 or not source.endswith(MAIN):
        raise ValueError("agent_bpf.py imports from agent.py once, and agent.py ends by calling main()")
    return source[: -len(MAIN)] + b"\n\n" + added + MAIN


@cache
def agent_sha256(mode: str = "walk") -> str:
    """The hash by which snapshots name the agent that wrote them."""
    return hashlib.sha256(agent_source(mode)).hexdigest()


def build(config: AgentConfig) -> bytes:
    """The program for one host, for `python3 -I -S`."""
    usual = AgentConfig(config.nonce)  # what the agent takes for granted
    asked = {item.name: getattr(config, item.name) for item in fields(config) if item.name != "mode"}
    values = {name: value for name, value in asked.items() if value != getattr(usual, name)}
    values.update(nonce=config.nonce, sha256=agent_sha256(config.mode), version=__version__)
    with _packing:  # the threads of a fleet all begin here at once, and one packing is enough
        packed = _packed_agent(config.mode)
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


def script(mode: str = "walk") -> bytes:
    """The program to read or to run by hand: it needs no configuration."""
    return agent_source(mode)


def sh_script() -> bytes:
    """The agent for hosts without Python, to read or to run by hand: it sees less, and says so."""
    return files("fleetaudit.agent").joinpath("agent.sh").read_bytes()


def packed_files() -> dict[str, bytes]:
    """What agent.packed and its like hold by name: see `packed_file` (`make agent`)."""
    return {name: packed_file(mode) for mode, name in _PACKED.items()}


def packed_file(mode: str = "walk") -> bytes:
    """The hash of the source in a comment, and the packed program."""
    return f"# {agent_sha256(mode)}\n".encode("ascii") + pack(agent_source(mode).decode("ascii"))


@cache
def _packed_agent(mode: str) -> bytes:
    """As it was packed for the package, if of this very source: packing takes 0.3 s, more than all else."""
    try:
        kept = files("fleetaudit.agent").joinpath(_PACKED[mode]).read_bytes()
    except FileNotFoundError:
        kept = b""
    if not kept.startswith(b"# " + agent_sha256(mode).encode("ascii") + b"\n"):
        kept = packed_file(mode)
    return kept.partition(b"\n")[2]
