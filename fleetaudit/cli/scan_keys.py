"""`fleetaudit inventory scan-keys`: a known_hosts file, made on purpose."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import click

from fleetaudit.cli.console import say
from fleetaudit.cli.options import CONNECTION, TARGETS, Connecting, Targeting, pick
from fleetaudit.cli.session import ssh_options, targets
from fleetaudit.errors import ConfigError, HostError, Place, Problem
from fleetaudit.model import Host
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible
from fleetaudit.transport.known_hosts_file import HostKey, append, write_line

# The name and port by which known_hosts has a host, and its keys.
Found: TypeAlias = tuple[tuple[str, int], tuple[HostKey, ...]]


@click.command("scan-keys")
@TARGETS
@CONNECTION
@click.option("--output", metavar="FILE", help="Add the keys to this known_hosts file (default: print them).")
@click.option("--hash", "hashed", is_flag=True, help="Write names as hashes, as ssh-keygen -H does.")
def command(output: str | None, hashed: bool, **options: object) -> None:
    """Fetch the host keys of the hosts that PATTERN selects, for you to compare.

    Whoever stands between could show keys of their own, so compare the fingerprints with those that each
    host tells at its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) before trusting the file.
    """
    connecting = pick(Connecting, options)
    hosts = targets(pick(Targeting, options), connecting).hosts
    reached = [host for host in hosts if host.transport in ("ssh", "openssh")]
    if not reached:
        raise ConfigError(Problem("no host among these is reached by SSH", hint="name others"))
    page = _Page(output, hashed=hashed)
    complete = True
    for host, found in _asked(reached, connecting):
        if isinstance(found, HostError):
            troubles = [f"{found.status}: {visible(str(found))}"]
        else:
            troubles = [page.add(host, *found[0], key) for key in found[1]]
        for trouble in filter(None, troubles):
            say(f"{visible(host.name)}: {trouble}")
            complete = False
    page.write()
    if not complete:
        sys.exit(ExitCode.INCOMPLETE)


def _asked(hosts: Sequence[Host], connecting: Connecting) -> Iterator[tuple[Host, Found | HostError]]:
    """Each host with its keys or its failure, in the order of the hosts."""
    from fleetaudit.transport.ssh import SshTransport  # noqa: PLC0415  (start-up time)

    transport = SshTransport(ssh_options(connecting))

    def ask(host: Host) -> Found | HostError:
        try:
            return transport.host_keys(host, time.monotonic() + connecting.deadline)
        except HostError as error:
            return error

    pool = ThreadPoolExecutor(min(connecting.forks, len(hosts)))
    try:
        yield from zip(hosts, pool.map(ask, hosts), strict=True)
    finally:
        transport.cancel()  # whatever is under way when we are interrupted
        pool.shutdown(cancel_futures=True)
        transport.close()


class _Page:
    """The lines that are new. Raises ConfigError when the file that they belong into cannot be read."""

    def __init__(self, file: str | None, *, hashed: bool) -> None:
        from fleetaudit.transport.known_hosts import KnownHosts  # noqa: PLC0415  (start-up time)

        self._file = file
        self._hashed = hashed
        self._known = KnownHosts([file] if file else [])
        self._new: dict[tuple[str, str], HostKey] = {}

    def add(self, host: Host, address: str, port: int, key: HostKey) -> str:
        """Take up a key and tell its fingerprint; why it may not be taken up, else nothing."""
        from fleetaudit.transport.known_hosts import recorded_name  # noqa: PLC0415  (start-up time)

        known = self._known.has(address, port, key)
        fingerprint = f"{visible(host.name)} {visible(key.kind)} {key.fingerprint}"
        click.echo(f"{fingerprint} (on record)" if known else fingerprint, err=self._file is None)
        against = self._known.differing(address, port, key)
        if against is not None:
            return f"{visible(key.kind)} {key.fingerprint} is not what {against.place} says: not recorded"
        if not known:
            first = self._new.setdefault((recorded_name(address, port), key.kind), key)
            if first != key:
                return f"{visible(key.kind)} {key.fingerprint} is not what it showed before: not recorded"
        return ""

    def write(self) -> None:
        """Add the lines to the file, all at once, or print them. Raises ConfigError."""
        lines = "".join(write_line(name, key, hashed=self._hashed) for (name, _), key in self._new.items())
        if self._file is None:
            click.echo(lines, nl=False)
        elif lines:
            try:
                append(Path(self._file), lines)
            except OSError as error:
                raise ConfigError(Problem(f"cannot write: {error.strerror}", Place(self._file))) from error
