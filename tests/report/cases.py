"""Reports for the golden files, built from plain values, and how to render one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fleetaudit.model import (
    UNKNOWN,
    AgentInfo,
    Boundary,
    Coverage,
    Finding,
    Gap,
    HostAudit,
    HostContext,
    HostStatus,
    Inherited,
    Listener,
    NetworkNamespace,
    Outcome,
    Owner,
    Process,
    Report,
    Result,
    Run,
    Severity,
    Snapshot,
    Source,
    Verdict,
)
from fleetaudit.report import RenderOptions, parts
from fleetaudit.summary import Gate, Tally

RUN = Run(
    id="20261122T100000Z-1f3a",
    started_at="2026-11-22T10:00:00Z",
    finished_at="2026-11-22T10:00:07Z",
    version="0.1.0",
    agent_sha256="a" * 64,
    policies=(
        Source("policies/shells.yaml", "b" * 64, "shells"),
        Source("policies/web.yaml", "c" * 64, "web"),
    ),
    inventory=(Source("inventory.yaml", "d" * 64),),
    options={"forks": 50, "fail_on": Severity.LOW, "limit": None, "groups": ("web", "db"), "coverage": 100.0},
)
HOST_SPACE = NetworkNamespace(4026531840, host=True, name=None)

INIT = Process(1, ppid=0, start_time=1, comm="systemd", exe="/usr/lib/systemd/systemd", euid=0, user="root")
PYTHON = Process(
    80,
    ppid=1,
    start_time=500,
    comm="python3",
    exe="/usr/bin/python3.11",
    exe_deleted=False,
    exe_verified=True,
    argv=("python3", "app.py", "--token=***"),
    uid=33,
    euid=33,
    user="www-data",
    unit="web.service",
    container=None,
    shell=False,
    self_audit=False,
)
SHELL = replace(  # noqa: S604  (a field of a process, not a way to start one)
    PYTHON, pid=81, ppid=80, start_time=600, comm="sh", exe="/usr/bin/dash", argv=("sh",), shell=True
)
SERVER = Owner(PYTHON, (37,), (INIT,), inherited=Inherited.ORIGINAL)
LEAK = Owner(SHELL, (38,), (PYTHON, INIT), inherited=Inherited.LEAK, handed_by=80)
WEB = Listener(
    protocol="tcp",
    inode=31337,
    netns=HOST_SPACE,
    family="inet",
    state="LISTEN",
    address="0.0.0.0",
    port=8080,
    path=None,
    device=None,
    owner_state="owned",
    owners=(SERVER, LEAK),
    scope="any",
)
UNIX = replace(
    WEB, protocol="unix", family="unix", address=None, port=None, path="/run/app.sock", scope="unix", inode=9
)

NO_SHELL = Result(
    host="",
    policy="shells",
    rule="no-shell",
    title="No shell holds a listening socket",
    severity=Severity.CRITICAL,
    verdict=Verdict.PASS,
    controls={"pci_dss_4": ("2.2.4",), "cis_controls_8": ("4.8", "4.1")},
    remediation="End the shell, and set close-on-exec on the server's listeners.",
    checked=2,
    policy_sha256="b" * 64,
)
WEB_OWNERS = replace(
    NO_SHELL,
    policy="web",
    rule="owners",
    title="Only nginx owns the web ports",
    severity=Severity.MEDIUM,
    controls={},
    remediation="",
    policy_sha256="c" * 64,
)


def result(template: Result, host: str, *findings: Finding) -> Result:
    """The rule's result on a host, its verdict the first finding's."""
    return replace(
        template,
        host=host,
        findings=findings,
        verdict=findings[0].verdict if findings else Verdict.PASS,
    )


def leak(listener: Listener = WEB, owner: Owner = LEAK) -> Finding:
    reason = f"dash [sh] (pid {owner.process.pid}, user www-data, leak) may not hold it: denied is shell true"
    return Finding(Verdict.FAIL, reason, listener, (owner,), fingerprint="f" * 32)


def reached(
    host: str, *results: Result, gaps: Sequence[Gap] = (), boundary: Boundary = Boundary.HOST
) -> HostAudit:
    """A host with a snapshot."""
    coverage = Coverage(not gaps, tuple(gaps), euid=0, seen=212, unreadable=0, vanished=1)
    snapshot = Snapshot(
        host,
        coverage,
        tuple(
            dict.fromkeys(
                finding.listener for found in results for finding in found.findings if finding.listener
            )
        ),
        {},
        collected_at="2026-11-22T10:00:02.250Z",
        boot_id="b007",
        agent=AgentInfo("0.1.0", "a" * 64, "walk"),
    )
    outcome = Outcome(
        host,
        HostStatus.PARTIAL if gaps else HostStatus.OK,
        "; ".join(f"{gap.code}: {gap.detail}" for gap in gaps),
        HostContext(("web",), boundary=boundary),
        snapshot,
        "e" * 64,
        "2026-11-22T10:00:03Z",
    )
    return HostAudit(outcome, results, endpoints=3, unapproved=1, judged=bool(results))


def failed(host: str, status: HostStatus, detail: str) -> HostAudit:
    """A host without one; its rules are unknown."""
    reason = f"the host was not audited: {status.value}"
    unknown = result(NO_SHELL, host, Finding(Verdict.UNKNOWN, reason, fingerprint="0" * 32))
    return HostAudit(Outcome(host, status, detail), (replace(unknown, checked=0),))


def report(*audits: HostAudit, run: Run = RUN) -> Report:
    """The report of these hosts, counted as a real run counts them."""
    tally = Tally(Gate(), interrupted=not run.complete)
    return Report(run, tally.over(audits), tally.summary)


def verdicts() -> Report:
    """Every verdict, on hosts that were reached."""
    doubt = Finding(Verdict.UNKNOWN, "an owner could not be seen (hidepid: 3 processes)", WEB, (SERVER,))
    crash = Finding(Verdict.ERROR, "host web4, rule owners: the variable web_user is empty")
    accepted = replace(leak(), verdict=Verdict.WAIVED, waiver="OPS-7: until the new server is live, by Ann")
    idle = Finding(Verdict.NOT_APPLICABLE, "no listener on this host is one that the rule selects")
    return report(
        reached("web1", result(NO_SHELL, "web1", leak(), leak(UNIX)), result(WEB_OWNERS, "web1")),
        reached("web2", result(NO_SHELL, "web2"), result(WEB_OWNERS, "web2", leak())),
        reached(
            "web3", result(NO_SHELL, "web3", doubt), gaps=[Gap("hidepid", "3 processes", netns=4026531840)]
        ),
        reached("web4", result(NO_SHELL, "web4", accepted), result(WEB_OWNERS, "web4", crash)),
        reached(
            "web5", result(NO_SHELL, "web5"), result(WEB_OWNERS, "web5", idle), boundary=Boundary.CONTAINER
        ),
        reached("web6"),
    )


def every_failure() -> Report:
    """One host of each status that has no snapshot, and one that is fine."""
    details = {
        HostStatus.UNREACHABLE: "connection refused by 127.0.0.5 port 22",
        HostStatus.HOST_KEY_FAILED: "the key of 127.0.0.6 differs from the recorded one",
        HostStatus.NOT_ATTEMPTED: "",
    }
    statuses = [status for status in HostStatus if status not in (HostStatus.OK, HostStatus.PARTIAL)]
    broken = [failed(f"{status.value}-host", status, details.get(status, "it failed")) for status in statuses]
    fine = reached("web1", result(NO_SHELL, "web1"))
    return report(*sorted((*broken, fine), key=lambda audit: audit.outcome.host))


def compliant() -> Report:
    """Everything holds."""
    return report(
        *(reached(f"web{n}", result(NO_SHELL, f"web{n}"), result(WEB_OWNERS, f"web{n}")) for n in (1, 2))
    )


def nothing() -> Report:
    """No host at all."""
    return report(run=replace(RUN, policies=(), complete=False))


HOSTILE = (
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    "+1",
    "-",
    "\t=1",
    "\r\n=1",
    "line\nbreak\x0b\x0c\x1c\x85\u2028\u2029",
    "\x1b]0;owned\x07\x1b[2J",
    "\u202egnp.exe\u2066\u200f",
    "nul\x00nul",
    "'quote' \"double\", comma; semicolon",
    "]]><script>alert(1)</script>",
    "x[1](root); nginx",
    "\ud800 half \udfff",
    "\uff1dfull-width",
    " =leading space",
    "{{ jinja }} ${shell} %s {0}",
    "z" * 700,
)


def hostile() -> Report:
    """Strings meant to harm whoever reads the report, in every field a host or a file fills."""
    audits = []
    for number, text in enumerate(HOSTILE):
        name = f"h{number:02}"
        process = replace(
            SHELL, comm=text, exe=f"/opt/{text}", user=text, unit=text, container=text, argv=(text,)
        )
        owner = replace(LEAK, process=process, ancestors=(replace(PYTHON, comm=text), INIT))
        space = NetworkNamespace(text, host=False, name=text)
        listener = replace(
            WEB, protocol=text, address=text, device=text, path=None, netns=space, owners=(SERVER, owner)
        )
        finding = Finding(Verdict.FAIL, text, listener, (owner,), fingerprint="f" * 32)
        accepted = Finding(Verdict.WAIVED, text, replace(listener, path=text), (owner,), waiver=text)
        rule = replace(
            NO_SHELL, policy=text, rule=text, title=text, remediation=text, controls={text: (text,)}
        )
        audits.append(
            reached(text, result(rule, text, finding, accepted), gaps=[Gap(text, text, protocol=text)])
        )
        audits.append(failed(name, HostStatus.BAD_OUTPUT, text))
    return report(*audits, run=replace(RUN, id=HOSTILE[0], options={HOSTILE[7]: HOSTILE[8]}))


def many() -> Report:
    """Five hundred hosts: the same leak on most, some down, each with a pid of its own."""
    audits = []
    for number in range(500):
        host = f"web{number:03}"
        if number % 50 == 7:
            audits.append(failed(host, HostStatus.TIMEOUT, f"no answer from 10.0.0.{number % 250} in 60 s"))
            continue
        shell = replace(LEAK, process=replace(SHELL, pid=1000 + number))
        workers = [
            replace(SERVER, process=replace(PYTHON, pid=2000 + n, start_time=n)) for n in range(number % 3)
        ]
        holders = replace(WEB, owners=(SERVER, *workers, shell))
        own = leak(replace(holders, port=30000 + number), shell)
        found = [leak(holders, shell)] if number % 10 else []
        audits.append(reached(host, result(NO_SHELL, host, *found), result(WEB_OWNERS, host, own)))
    return report(*audits)


def sparse() -> Report:
    """Almost nothing is known of a listener and its owner, and one process only may receive it."""
    process = Process(7)
    listener = Listener("tcp", 5, NetworkNamespace("opaque", name=UNKNOWN), held_by=(Owner(PYTHON),))
    kernel = replace(WEB, owner_state="kernel", owners=(), port=2049)
    fails = [
        Finding(
            Verdict.FAIL,
            "pid 7 may not hold it",
            replace(listener, owners=(Owner(process),)),
            (Owner(process),),
        ),
        Finding(Verdict.FAIL, "no owner may be the kernel", kernel),
        Finding(Verdict.FAIL, "nothing listens there"),
        Finding(
            Verdict.FAIL, "many workers", replace(WEB, owners=tuple(_workers(40))), tuple(_workers(40))[:12]
        ),
    ]
    return report(reached("old", result(NO_SHELL, "old", *fails)))


def _workers(count: int) -> list[Owner]:
    return [
        replace(
            SERVER, process=replace(PYTHON, pid=100 + n, user=f"user{n % 10}"), inherited=Inherited.WORKER
        )
        for n in range(count)
    ]


CASES: dict[str, Callable[[], Report]] = {
    "verdicts": verdicts,
    "failures": every_failure,
    "compliant": compliant,
    "nothing": nothing,
    "hostile": hostile,
    "many": many,
    "sparse": sparse,
}
WIDE = RenderOptions(include_pass=True, width=120, colour=True)


def render(name: str, of: Report, options: RenderOptions | None = None, part: int = 0) -> bytes:
    """One file of a format as bytes."""
    return b"".join(parts(name, options or RenderOptions())[part].renderer(of))
