"""`fleetaudit agent`: the very script that hosts are asked to run."""

from __future__ import annotations

import click


@click.command("agent")
def command() -> None:
    """Print the agent: read it, or run it by hand with `fleetaudit agent | python3 -I -S -`.

    It writes nothing on the host and prints one framed JSON document.
    """
    from fleetaudit.agent.payload import script  # noqa: PLC0415  (start-up time)

    click.echo(script(), nl=False)
