"""`fleetaudit schema`: the JSON Schemas, for editors and other tools."""

from __future__ import annotations

import json

import click

from fleetaudit import schema


@click.command("schema")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Print the JSON Schema NAME; without NAME, list them."""
    if name is None:
        click.echo("\n".join(schema.names()))
        return
    click.echo(json.dumps(schema.load(name), indent=2, ensure_ascii=False))
