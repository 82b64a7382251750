"""Options that several commands share, with Ansible's names where Ansible has one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import click

from fleetaudit.agent.payload import ARGV_MODES, AgentConfig
from fleetaudit.escalation import METHODS
from fleetaudit.model import AGENT_MODES, Boundary, Severity
from fleetaudit.pacing import parse_share
from fleetaudit.transport.options import HostKeyChecking

F = TypeVar("F", bound=Callable[..., Any])


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Targeting:
    """Which hosts."""

    pattern: str
    inventory: tuple[str, ...]
    limit: str | None
    inventory_via: str | None
    local: bool
    local_name: str
    local_group: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Connecting:
    """How to reach them. Times in seconds."""

    user: str | None
    ask_pass: bool
    pass_command: str | None
    pass_keyring: str | None
    private_key: str | None
    become: bool
    become_user: str | None
    become_method: str | None
    ask_become_pass: bool
    become_pass_command: str | None
    become_pass_keyring: str | None
    forks: int
    timeout: float
    deadline: float
    retries: int
    max_fail: str | None
    serial: str | None
    throttle: float | None
    host_key_checking: str
    known_hosts: tuple[str, ...]
    ssh_config: str | None
    send_passwords_unverified: bool
    boundary: str | None
    argv: str
    agent_budget: str
    agent_path: str | None
    agent_mode: str | None
    list_hosts: bool
    progress: str | None
    verbose: int


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where the run is kept while it lasts, and for those who go on with it."""

    state: str | None
    resume: str | None
    retry_file: str | None
    keep_runs: float


@dataclass(frozen=True, slots=True)
class Judging:
    """What to judge them by, and what to write."""

    policies: tuple[str, ...]
    tags: tuple[str, ...]
    skip_tags: tuple[str, ...]
    outputs: tuple[str, ...]
    fail_on: str
    require_coverage: float
    allow_unjudged: bool
    where: tuple[str, ...]
    baseline: str | None
    new_only: bool
    waivers: tuple[str, ...]
    strict_waivers: bool
    waiver_warn_days: int
    now: str | None
    store: str | None
    no_store: bool
    notify: tuple[str, ...]
    notify_secret_file: str | None
    manifest: str | None
    sign: str | None
    include_pass: bool
    quiet: bool


def pick(kind: type[T], options: Mapping[str, Any]) -> T:
    """The options of one kind out of everything click parsed."""
    return kind(**{item.name: options[item.name] for item in fields(kind)})  # type: ignore[arg-type]  # any dataclass


def _all(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


class Finite(click.FloatRange):
    """A float range without nan, which is in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As click.FloatRange, and finite."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a number of any use here.", param, ctx)
        return number


class ShareText(click.types.StringParamType):
    """`20` or `20%`, kept as it was written; `least` is the smallest number allowed."""

    name = "N or N%"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check it. Fails like any other click type."""
        try:
            share = parse_share(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if share.number < self._least and not (share.percent and share.number > 0):
            self.fail(f"{value!r} is less than {self._least}.", param, ctx)
        return str(value)


class BudgetText(click.types.StringParamType):
    """`30` or `30,512`: CPU seconds and MiB that the agent may use on a host, kept as it was written."""

    name = "SECONDS[,MIB]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check it. Fails like any other click type."""
        try:
            parse_budget(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}.", param, ctx)
        return str(value)


def parse_budget(text: str) -> AgentConfig:
    """A configuration of the agent with this budget. Raises ValueError."""
    seconds, comma, mib = text.partition(",")
    try:
        numbers = float(seconds), int(mib) if comma else AgentConfig("none").budget_mib
    except ValueError:
        raise ValueError("write CPU seconds, or seconds and MiB: 30 or 30,512") from None
    return AgentConfig("none", budget_seconds=numbers[0], budget_mib=numbers[1])


def _values(choices: type[Boundary] | type[Severity] | type[HostKeyChecking]) -> click.Choice[str]:
    return click.Choice([member.value for member in choices])


def _one_limit(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Twice could mean either or both, and click would drop the first: a smaller fleet without a word."""
    if len(values) > 1:
        raise click.BadParameter("say it once: 'web1:db1' is both hosts, 'web:&prod' those that are in both")
    return values[0] if values else None


TARGETS = _all(
    click.argument("pattern", default="all"),
    click.option(
        "-i",
        "--inventory",
        multiple=True,
        metavar="SOURCE",
        help="Inventory file, directory or script, or host1,host2,",
    ),
    click.option(
        "--inventory-via",
        type=click.Choice(["ansible"]),
        help="Have ansible-inventory read the sources: for vaults and inventory plugins.",
    ),
    click.option(
        "-l",
        "--limit",
        multiple=True,
        callback=_one_limit,
        metavar="PATTERN",
        help="Only hosts that also match; @FILE names them.",
    ),
    click.option("--local", is_flag=True, help="This machine, without SSH or inventory."),
    click.option("--local-name", default="localhost", show_default=True, help="Its name in the report."),
    click.option("--local-group", multiple=True, help="A group it belongs to."),
)

CONNECTION = _all(
    click.option("-u", "--user", help="Remote user where the inventory names none."),
    click.option("-k", "--ask-pass", is_flag=True, help="Ask for the SSH password."),
    click.option("--pass-command", metavar="COMMAND", help="Its first line of output is that password."),
    click.option("--pass-keyring", metavar="SERVICE:USER", help="That password is in your keyring."),
    click.option("--private-key", metavar="FILE", help="Private key where the inventory names none."),
    click.option("-b", "--become", is_flag=True, help="Run the agent with privileges."),
    click.option("--become-user", help="User to become (default root)."),
    click.option("--become-method", type=click.Choice(METHODS), help="How (default sudo)."),
    click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for the password that become needs."),
    click.option(
        "--become-pass-command", metavar="COMMAND", help="Its first line of output is that password."
    ),
    click.option("--become-pass-keyring", metavar="SERVICE:USER", help="That password is in your keyring."),
    click.option(
        "-f",
        "--forks",
        type=click.IntRange(1, 10_000),
        default=50,
        show_default=True,
        help="Hosts at a time.",
    ),
    click.option(
        "-T",
        "--timeout",
        type=Finite(0.1, 1e6),
        default=10.0,
        show_default=True,
        help="Seconds to connect.",
    ),
    click.option(
        "--deadline",
        type=Finite(0.1, 1e6),
        default=60.0,
        show_default=True,
        help="Seconds for one host, in all.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0, 100),
        default=0,
        show_default=True,
        help="Tries more when a connection fails.",
    ),
    click.option(
        "--max-fail", type=ShareText(0), metavar="N|N%", help="Begin nothing new once more than this failed."
    ),
    click.option(
        "--serial",
        type=ShareText(1),
        metavar="N|N%",
        help="Hosts in batches of this size, in turn.",
    ),
    click.option(
        "--throttle", type=Finite(0.001, 1e6), metavar="R", help="At most this many new connections a second."
    ),
    click.option(
        "--host-key-checking",
        type=_values(HostKeyChecking),
        default="strict",
        show_default=True,
        help="Unknown host keys.",
    ),
    click.option(
        "--known-hosts", multiple=True, metavar="FILE", help="Host keys (default ~/.ssh/known_hosts)."
    ),
    click.option(
        "--ssh-config",
        metavar="FILE|none",
        help="What the inventory does not say (default ~/.ssh/config).",
    ),
    click.option(
        "--send-passwords-unverified",
        is_flag=True,
        help="Send passwords to hosts whose key nobody vouched for.",
    ),
    click.option(
        "--boundary", type=_values(Boundary), help="What a host is: a machine, or the container it runs in."
    ),
    click.option(
        "--argv",
        type=click.Choice(ARGV_MODES),
        default="redacted",
        show_default=True,
        help="What of command lines leaves a host.",
    ),
    click.option(
        "--agent-budget",
        type=BudgetText(),
        default="30,1024",
        show_default=True,
        help="CPU time and memory on a host, at most.",
    ),
    click.option(
        "--agent-path",
        metavar="pinned|PATH",
        help="Run the agent installed there and send none, where the inventory does not say.",
    ),
    click.option(
        "--agent-mode",
        type=click.Choice(AGENT_MODES),
        help="How the agent looks for owners, where the inventory does not say: bpf costs less on hosts with "
        "very many descriptors, and has risks (docs/agent.md).  [default: walk]",
    ),
    click.option(
        "--progress",
        type=click.Choice(["bar", "json", "none"]),
        help="On standard error (default: a bar, if that is a terminal).",
    ),
    click.option("--list-hosts", is_flag=True, help="Print the targets and stop."),
    click.option("-v", "--verbose", count=True, help="A line per host on standard error."),
)

KEEPING = _all(
    click.option("--resume", metavar="RUN", help="Go on with an interrupted run: ask who has not answered."),
    click.option(
        "--retry-file", metavar="FILE", help="Names of the hosts without an answer, for --limit @FILE."
    ),
    click.option(
        "--state", metavar="DIRECTORY", help="Where runs are kept while they last; one run at a time."
    ),
    click.option(
        "--keep-runs",
        type=Finite(0, 1e6),
        default=30.0,
        show_default=True,
        metavar="DAYS",
        help="Runs that were cut short are deleted when nobody has gone on with them for so long.",
    ),
)

WHERE = click.option(
    "--where",
    multiple=True,
    metavar="FACT=VALUE",
    help="Leave out hosts that say otherwise: os.id=debian, kernel!=5.*",
)

JUDGEMENT = _all(
    click.option(
        "-p",
        "--policy",
        "policies",
        multiple=True,
        required=True,
        metavar="PATH",
        help="Policy file or directory.",
    ),
    click.option("--tags", multiple=True, metavar="TAG,…", help="Judge only rules with one of these tags."),
    click.option("--skip-tags", multiple=True, metavar="TAG,…", help="Judge no rule with one of these tags."),
    click.option(
        "-o", "--output", "outputs", multiple=True, metavar="FORMAT=PATH", help="Report; - is stdout."
    ),
    click.option(
        "--fail-on",
        type=_values(Severity),
        default="low",
        show_default=True,
        help="Least severity that exits with 1.",
    ),
    click.option(
        "--require-coverage",
        type=Finite(0, 100),
        default=100.0,
        show_default=True,
        help="Percent of targets.",
    ),
    click.option(
        "--allow-unjudged", is_flag=True, help="Hosts that no policy judged do not make the run incomplete."
    ),
    WHERE,
    click.option(
        "--baseline",
        metavar="FILE|RUN",
        help="Say which violations are new: a report in JSON, snapshots, or a kept run.",
    ),
    click.option("--new-only", is_flag=True, help="Violations that the baseline has do not fail the run."),
    click.option("--waivers", multiple=True, metavar="FILE", help="Accepted violations."),
    click.option("--strict-waivers", is_flag=True, help="Waivers that want attention fail the run."),
    click.option(
        "--waiver-warn-days",
        type=click.IntRange(0, 3650),
        default=14,
        show_default=True,
        help="Tell of waivers that end within so many days.",
    ),
    click.option("--now", metavar="TIME", help="Judge as if it were this time (2026-11-22T10:00:00Z)."),
    click.option(
        "--store",
        is_flag=False,
        flag_value="",
        metavar="[PATH|URL]",
        help="Keep the run in the history; alone (last, or before another option): the usual file.",
    ),
    click.option("--no-store", is_flag=True, help="Keep this run out of the history that is configured."),
    click.option(
        "--notify",
        multiple=True,
        metavar="URL",
        help="Tell what is new since the run before: https://…, or a URL of Apprise. Needs a history.",
    ),
    click.option("--notify-secret-file", metavar="FILE", help="What signs notices to webhooks."),
    click.option(
        "--manifest", metavar="FILE", help="Write what proves the run: all that it was, by SHA-256."
    ),
    click.option(
        "--sign", metavar="KEY", help="Sign the manifest with this SSH key (or .pub of the agent's)."
    ),
    click.option("--include-pass", is_flag=True, help="List what passed in the text report too."),
    click.option("-q", "--quiet", is_flag=True, help="No text report on standard output, no progress."),
)
