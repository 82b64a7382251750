"""Messages for the person, or the program, that runs this: on standard error, and never in the way."""

from __future__ import annotations

import os

import click


def say(text: str) -> None:
    """Write a line. That nobody can read it changes nothing of what the run does."""
    try:
        click.echo(text, err=True)
    except OSError:
        # What is stuck in Python's buffer would fail once more at exit, and change the exit code then.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
