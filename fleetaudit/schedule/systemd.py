"""A service and a timer for systemd: systemd.service(5), systemd.exec(5), systemd.timer(5)."""

from __future__ import annotations

from collections.abc import Iterable

from fleetaudit.schedule.base import Job, ScheduleFile

_USER = "fleetaudit"
_SERVICE = """\
[Unit]
Description=fleetaudit: who listens on the fleet, judged by policy ({name})
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
# Exit codes: 0 compliant, 1 violations, 2 wrong input, 3 incomplete. All but 0 make this unit fail, so that
# `systemctl --failed` shows them and OnFailure= can tell somebody. Where violations are no failure of the
# unit, add SuccessExitStatus=1.
ExecStart={command}
WorkingDirectory={directory}
# Who holds the SSH key and ~/.ssh/known_hosts; there is no ssh-agent, and nobody to ask for a password:
#   useradd --system --create-home --home-dir /var/lib/{user} --shell /usr/sbin/nologin {user}
User={user}
# Runs live here while they last; one at a time: a second one ends with exit code 2 and says who is at work.
{state}
Nice=10
IOSchedulingClass=idle
# It needs the network and its files, and nothing else of this machine.
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
PrivateIPC=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
UMask=0077
"""
_TIMER = """\
[Unit]
Description=When {name}.service audits the fleet

[Timer]
OnCalendar={when}
# Many machines with the same timer do not all begin in the same second.
RandomizedDelaySec=15min
# An audit that was missed while this machine was down is made up for.
Persistent=yes

[Install]
WantedBy=timers.target
"""


class Systemd:
    """A hardened service that runs once, and the timer that starts it."""

    def files(self, job: Job) -> tuple[ScheduleFile, ...]:
        """See `Scheduler`."""
        service = _SERVICE.format(
            name=job.name,
            command=" ".join(map(quoted, job.command)),
            directory=_specifiers(job.directory),
            user=job.user or _USER,
            state="\n".join(_state(job)),
        )
        timer = _TIMER.format(name=job.name, when=_specifiers(job.when or "daily"))
        folder = "/etc/systemd/system"
        return (
            ScheduleFile(f"{folder}/{job.name}.service", service),
            ScheduleFile(f"{folder}/{job.name}.timer", timer),
        )


def _state(job: Job) -> Iterable[str]:
    writes = list(job.writes)
    if job.state is None:
        yield f"StateDirectory={job.name}"
        yield "StateDirectoryMode=0700"
        yield f"Environment=XDG_STATE_HOME=%S/{job.name}"
    else:
        writes.insert(0, job.state)
    if writes:
        yield "ReadWritePaths=" + " ".join(quoted(path, variables=False) for path in writes)


def quoted(word: str, *, variables: bool = True) -> str:
    """One word of ExecStart= that arrives as it is: no specifier, no variable, no quote means anything.

    `variables`: whether the setting puts in variables, which only command lines do.
    """
    text = _specifiers(word).replace("\\", "\\\\").replace('"', '\\"')
    if variables:
        text = text.replace("$", "$$")
    plain = word and all(char.isalnum() or char in "-_./=,:@+&!%$" for char in word) and word != ";"
    return text if plain else f'"{text}"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
