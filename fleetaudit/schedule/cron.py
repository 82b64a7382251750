"""A line for cron, with a lock; formats of crontab(5), lock of flock(1)."""

from __future__ import annotations

import re
import shlex

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.schedule.base import Job, ScheduleFile

_DAILY = "17 3 * * *"
_BUSY = 75  # EX_TEMPFAIL of sysexits.h
FIVE_FIELDS = re.compile(r"[0-9A-Za-z*,/-]+( [0-9A-Za-z*,/-]+){4}\Z")
_WHEN = re.compile(r"(@(hourly|daily|midnight|weekly|monthly|yearly|annually|reboot)|\S+( \S+){4})\Z")
_MOST = 998  # characters of a line that every cron reads (MAX_COMMAND is 1000)


class Cron:
    """One line: in the user's crontab, or with a user for /etc/cron.d."""

    def files(self, job: Job) -> tuple[ScheduleFile, ...]:
        """See `Scheduler`."""
        when = job.when or _DAILY
        if not _WHEN.match(when) or not when.isascii() or not when.isprintable():
            raise ConfigError(
                Problem(
                    f"{when!r} is no time for cron",
                    hint="write five fields, such as '17 3 * * *', or @daily",
                )
            )
        command = _command(job).replace("%", r"\%")  # a bare one ends the command, crontab(5)
        if len(command) > _MOST:
            message = f"the command has {len(command)} characters, more than the {_MOST} that cron reads"
            raise ConfigError(Problem(message, hint="use shorter paths, or systemd"))
        line = " ".join([when, *([job.user] if job.user else []), command])
        path = f"/etc/cron.d/{job.name}" if job.user else "a line for crontab -e"
        return (ScheduleFile(path, f"{_REMARK}{line}\n"),)


_REMARK = """\
# Exit codes: 0 compliant, 1 violations, 2 wrong input, 3 incomplete. cron mails what is printed, to MAILTO.
"""


def _command(job: Job) -> str:
    """For sh: in the job's directory, alone, and with a word when another one is still at work."""
    audit = shlex.join(job.command)
    if job.state is None:
        state = '"${XDG_STATE_HOME:-$HOME/.local/state}/fleetaudit"'
    else:
        state = shlex.quote(job.state)
    lock = f"{state}/{shlex.quote(job.name + '.lock')}"
    busy = shlex.quote(f"{job.name}: the run before is still at work, this one is left out")
    return (
        f"cd {shlex.quote(job.directory)} && mkdir -p -m 700 {state} && flock -n -E {_BUSY} {lock} {audit}"
        f" || {{ code=$?; [ $code -ne {_BUSY} ] || echo {busy} >&2; exit $code; }}"
    )
