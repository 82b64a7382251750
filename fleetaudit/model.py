"""The values fleetaudit works on: frozen, typed, free of I/O.

Three kinds of "nothing" are kept apart everywhere: a value, `None` (known to be none) and
`UNKNOWN` (the snapshot does not say). What is unknown never matches and never passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

from fleetaudit.quick import quick

T = TypeVar("T")


class Missing(Enum):
    """The type of `UNKNOWN`."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Missing.UNKNOWN
Maybe: TypeAlias = T | Missing
NamespaceId: TypeAlias = int | str
NO_MAPPING: Final[Mapping[str, object]] = MappingProxyType({})
NO_CONTROLS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


class Verdict(str, Enum):
    """What a rule found on a host. Only `PASS` is a pass."""

    PASS = "pass"  # noqa: S105  (a verdict, not a password)
    FAIL = "fail"
    WAIVED = "waived"
    UNKNOWN = "unknown"
    ERROR = "error"
    NOT_APPLICABLE = "not_applicable"


class Severity(str, Enum):
    """How much a violation matters, gravest first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    def at_least(self, other: Severity) -> bool:
        """Whether this severity is as grave as `other` or graver."""
        order = list(Severity)
        return order.index(self) <= order.index(other)


class HostStatus(str, Enum):
    """How far the audit of one host came. `ok` and `partial` have a snapshot, the rest have none."""

    OK = "ok"
    PARTIAL = "partial"
    UNREACHABLE = "unreachable"
    AUTH_FAILED = "auth_failed"
    HOST_KEY_FAILED = "host_key_failed"
    BECOME_FAILED = "become_failed"
    NO_INTERPRETER = "no_interpreter"
    TIMEOUT = "timeout"
    BAD_OUTPUT = "bad_output"
    ERROR = "error"
    NOT_ATTEMPTED = "not_attempted"


class Inherited(str, Enum):
    """How an owner came to hold a socket (design contract; see docs/policy.md)."""

    ORIGINAL = "original"
    WORKER = "worker"
    HANDED_DOWN = "handed_down"
    ACTIVATION = "activation"
    LEAK = "leak"
    ORPHAN = "orphan"
    PASSED = "passed"


class Boundary(str, Enum):
    """What one host is: a machine, or a container whose pid namespace is all that is audited."""

    HOST = "host"
    CONTAINER = "container"


class Secret:
    """A password: never shown by repr, str, logging or reports."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The password itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


# ---------------------------------------------------------------- targets

PINNED_AGENT = "/usr/local/libexec/fleetaudit-agent"  # where `fleetaudit agent install` puts it
# How the agent looks for owners: /proc, or BPF where the kernel lets it, and /proc elsewhere.
AGENT_MODES: Final = ("walk", "bpf")


@dataclass(frozen=True, slots=True)
class Become:
    """Privilege escalation on the host; `method` is one of `fleetaudit.escalation.METHODS`.

    `exe` stands in for the method's program; `flags` are passed on to it.
    """

    method: str = "sudo"
    user: str = "root"
    password: Secret | None = None
    exe: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostContext:
    """What policies may know of a host from the inventory. `groups` has every group but `all`, sorted."""

    groups: tuple[str, ...] = ()
    variables: Mapping[str, object] = field(default_factory=lambda: NO_MAPPING)
    boundary: Boundary = Boundary.HOST


@dataclass(frozen=True, slots=True)
class Jump:
    """A host on the way to a target; `user` None is whoever the target's options say, `port` as with Host."""

    address: str
    port: int | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """One target and how to reach it. `transport` is a name in the transport table: ssh, openssh or local.
    `port` None is what ssh_config says, else 22.

    `jumps` are passed from the first to the last; `proxy_command` is run on this machine instead, its
    standard streams being the connection. A host has one of the two at most. `agent_path` is the pinned agent
    there, which then is all that is run; None: the agent is sent, `agent_mode` (see `AGENT_MODES`) with it.
    """

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    transport: str = "ssh"
    password: Secret | None = None
    private_key: str | None = None
    become: Become | None = None
    interpreter: str | None = None
    context: HostContext = field(default_factory=HostContext)
    jumps: tuple[Jump, ...] = ()
    proxy_command: str | None = None
    agent_path: str | None = None
    agent_mode: str = "walk"


# ---------------------------------------------------------------- snapshots


@dataclass(frozen=True, slots=True)
class Gap:
    """Something the agent could not see. `netns` and `protocol` narrow what may be hidden, if known."""

    code: str
    detail: str = ""
    netns: Maybe[NamespaceId] = UNKNOWN
    protocol: Maybe[str] = UNKNOWN


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the host the snapshot covers."""

    complete: bool
    gaps: tuple[Gap, ...] = ()
    euid: Maybe[int] = UNKNOWN
    seen: Maybe[int] = UNKNOWN
    unreadable: Maybe[int] = UNKNOWN
    vanished: Maybe[int] = UNKNOWN


@quick
@dataclass(frozen=True, slots=True)
class NetworkNamespace:
    """A network namespace; `host` is the agent's own at start. `ephemeral_ports` is (first, last)."""

    id: NamespaceId
    host: Maybe[bool] = UNKNOWN
    name: Maybe[str | None] = UNKNOWN
    ephemeral_ports: Maybe[tuple[int, int]] = UNKNOWN
    outside: bool = False  # owned by nobody inside the audited container


@quick
@dataclass(frozen=True, slots=True)
class Process:
    """One process, as read through its pinned /proc directory.

    `start_time` is in clock ticks since boot, which with the boot id is exact; `started_at` is the same by
    the host's clock, RFC 3339. `capabilities` are the effective ones, as /proc writes them (hexadecimal).
    """

    pid: int
    ppid: Maybe[int] = UNKNOWN
    start_time: Maybe[int] = UNKNOWN
    comm: Maybe[str] = UNKNOWN
    exe: Maybe[str | None] = UNKNOWN
    exe_deleted: Maybe[bool] = UNKNOWN
    exe_verified: Maybe[bool] = UNKNOWN
    exe_file: Maybe[str | None] = UNKNOWN  # "device:inode" of the executable
    exe_in_container: Maybe[str | None] = UNKNOWN
    argv: Maybe[tuple[str, ...] | None] = UNKNOWN
    argv_cut: bool = False  # the host sent only the beginning
    uid: Maybe[int] = UNKNOWN
    euid: Maybe[int] = UNKNOWN
    user: Maybe[str | None] = UNKNOWN
    gid: Maybe[int] = UNKNOWN
    group: Maybe[str | None] = UNKNOWN
    session: Maybe[int] = UNKNOWN
    started_at: Maybe[str] = UNKNOWN
    tty: Maybe[str | None] = UNKNOWN
    loginuid: Maybe[int | None] = UNKNOWN  # who logged in, whatever became of the uid (audit)
    capabilities: Maybe[str] = UNKNOWN
    lsm: Maybe[str | None] = UNKNOWN  # label of SELinux, AppArmor or Smack
    namespaces: Maybe[tuple[tuple[str, int], ...]] = UNKNOWN  # (kind, inode number): mnt, net, pid, user
    cgroup: Maybe[str | None] = UNKNOWN
    unit: Maybe[str | None] = UNKNOWN
    user_unit: Maybe[str | None] = UNKNOWN
    container: Maybe[str | None] = UNKNOWN
    shell: Maybe[bool] = UNKNOWN
    self_audit: Maybe[bool] = UNKNOWN  # `self` on the wire: the audit's own process
    listen_fds: Maybe[bool] = UNKNOWN  # LISTEN_FDS and LISTEN_PID name this process
    inherited: Maybe[str] = UNKNOWN  # a hint from the host, used where ancestry cannot decide
    runtime: Maybe[str | None] = UNKNOWN  # the container's engine, derived from the cgroup like the next
    pod: Maybe[str | None] = UNKNOWN  # UID of the container's Kubernetes pod
    usr_merged: Maybe[bool] = UNKNOWN  # derived: whether `exe` in /usr/bin is also in /bin, and so on


@quick
@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds a socket, by which descriptors, and how it came to it.

    `ancestors` runs from the parent up to the last one known; `ancestry_cut` says that the chain was
    broken by re-parenting or by a process the snapshot lacks, so "no ancestor" cannot be concluded.
    """

    process: Process
    fds: tuple[int, ...] = ()
    ancestors: tuple[Process, ...] = ()
    ancestry_cut: bool = False
    inherited: Maybe[Inherited] = UNKNOWN
    certain: bool = True
    handed_by: int | None = None
    cloexec: Maybe[tuple[int, ...]] = UNKNOWN  # those of `fds` that a started program does not get


@quick
@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket: one inode, one row, all its owners.

    `owner_state` is owned, queue, io_uring, kernel (proved: no process can hold it), vanished or unknown.
    `held_by` are processes that could receive the socket or whose io_uring ring holds it.
    """

    protocol: str
    inode: int
    netns: NetworkNamespace
    family: Maybe[str | None] = UNKNOWN
    state: Maybe[str] = UNKNOWN
    address: Maybe[str | None] = UNKNOWN
    port: Maybe[int | None] = UNKNOWN
    path: Maybe[str | None] = UNKNOWN
    device: Maybe[str | None] = UNKNOWN
    v6only: Maybe[bool | None] = UNKNOWN
    uid: Maybe[int] = UNKNOWN
    backlog: Maybe[int | None] = UNKNOWN
    owner_state: Maybe[str] = UNKNOWN
    owners: tuple[Owner, ...] = ()
    held_by: tuple[Owner, ...] = ()
    scope: Maybe[str | None] = UNKNOWN
    ephemeral: Maybe[bool] = UNKNOWN


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """Which agent wrote the snapshot; `mode` is walk, bpf or sh.

    `stale` is the controller's word: how a pinned agent differs from the one of its own version.
    """

    version: str | None = None
    sha256: str | None = None
    mode: str | None = None
    interpreter: str | None = None
    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    stale: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one host said about its listening sockets at one moment. `collected_at` is RFC 3339 UTC."""

    host: str
    coverage: Coverage
    listeners: tuple[Listener, ...]
    processes: Mapping[int, Process]
    namespaces: tuple[NetworkNamespace, ...] = ()
    collected_at: str | None = None
    hostname: str | None = None
    machine_id: str | None = None
    boot_id: str | None = None
    kernel: str | None = None
    arch: str | None = None
    os_id: str | None = None
    os_version: str | None = None
    agent: AgentInfo = field(default_factory=AgentInfo)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one targeted host: a snapshot, or a status and why there is none."""

    host: str
    status: HostStatus
    detail: str = ""
    context: HostContext = field(default_factory=HostContext)
    snapshot: Snapshot | None = None
    snapshot_sha256: str | None = None
    received_at: str | None = None
    line: bytes | None = field(default=None, compare=False, repr=False)  # what it was read from


# ---------------------------------------------------------------- results


@quick
@dataclass(frozen=True, slots=True)
class Finding:
    """Why a rule did not simply pass: one listener (or none), the owners concerned, and a reason.

    `beyond` is what would not be known if those owners were accepted. `new` says whether a baseline lacks the
    violation; None: no baseline was given, or it is no violation.
    """

    verdict: Verdict
    reason: str
    listener: Listener | None = None
    owners: tuple[Owner, ...] = ()
    waiver: str | None = None
    fingerprint: str = ""
    beyond: str = ""
    new: bool | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One rule on one host. `checked` counts the listeners judged."""

    host: str
    policy: str
    rule: str
    title: str
    severity: Severity
    verdict: Verdict
    controls: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NO_CONTROLS)
    remediation: str = ""
    references: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    checked: int = 0
    findings: tuple[Finding, ...] = ()
    policy_sha256: str = ""
    line: int = 0  # of the rule in the policy's file; 0: not known


@dataclass(frozen=True, slots=True)
class Approval:
    """What approves an owner of a listener: an entry of a rule's allow list, or the rule that requires it.

    `entry` counts from 1; 0 is the rule itself. The rest is what the entry says, or else its rule.
    """

    policy: str
    rule: str
    entry: int = 0
    reason: str = ""
    owner_team: str = ""
    reviewed: str = ""


@dataclass(frozen=True, slots=True)
class Register:
    """Who approves what on one host; computed when asked, since most reports do not ask.

    `approved` says whether some rule approves the listener (None: not known), `by` what approves this owner
    of it (None: the socket itself, which is the kernel's own).
    """

    approved: Callable[[Listener], bool | None] = lambda _listener: None
    by: Callable[[Listener, Owner | None], tuple[Approval, ...]] = lambda _listener, _owner: ()


@dataclass(frozen=True, slots=True)
class HostAudit:
    """One host's row in a report, and its results in the order policy, rule."""

    outcome: Outcome
    results: tuple[Result, ...] = ()
    endpoints: int = 0
    unapproved: int = 0
    judged: bool = True  # False: no policy selects this host
    register: Register = field(default_factory=Register, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that went into a run, by content."""

    path: str
    sha256: str
    name: str = ""
    targets: int | None = None  # of a policy: how many of the run's hosts it is for


@dataclass(frozen=True, slots=True)
class Run:
    """Run metadata. Times are RFC 3339 UTC. `complete` is False when a run was interrupted."""

    id: str
    started_at: str
    finished_at: str
    version: str
    agent_sha256: str = ""
    policies: tuple[Source, ...] = ()
    inventory: tuple[Source, ...] = ()
    waivers: tuple[Source, ...] = ()
    options: Mapping[str, object] = field(default_factory=lambda: NO_MAPPING)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class WaiverStanding:
    """What became of one waiver in a run.

    `states` are used, unused, expired, expiring, over_broad, too_long, not_targeted (it is for no host of the
    run), other_policy (its policy is not in the run) and open (unused, and a host it is for was not judged);
    `detail` says them in words. `findings` it covered, on `hosts`.
    """

    file: str
    line: int
    policy: str
    rule: str
    reason: str
    states: tuple[str, ...]
    detail: str
    approved_by: str = ""
    ticket: str = ""
    until: str | None = None
    findings: int = 0
    hosts: int = 0

    @property
    def wants_attention(self) -> bool:
        """Whether somebody ought to look at it; with --strict-waivers that fails a run."""
        return bool(set(self.states) - {"used", "not_targeted", "other_policy", "open"})


@dataclass(frozen=True, slots=True)
class BaselineStanding:
    """How a run compares with a baseline of `hosts` hosts: failed findings that are `old` and `new`.

    `newly_waived` are new as well, and accepted. With `new_only` old ones do not fail the run.
    """

    name: str
    hosts: int
    old: int
    new: int
    newly_waived: int
    new_only: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """Denominators and counts. `failed` are hosts without a snapshot; `statuses` counts each HostStatus.

    `left_out` hosts answered, and were not meant by what they said of themselves: they are no targets.
    """

    targeted: int
    ok: int
    partial: int
    failed: int
    unjudged: int
    statuses: Mapping[str, int]
    results: Mapping[str, int]
    severities: Mapping[str, int]  # failing results by severity
    exit_code: int
    left_out: int = 0
    waivers: tuple[WaiverStanding, ...] = ()
    baseline: BaselineStanding | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a renderer gets: audits in host order (one pass only), and the summary once they are exhausted."""

    run: Run
    audits: Iterable[HostAudit]
    summary: Callable[[], Summary]
