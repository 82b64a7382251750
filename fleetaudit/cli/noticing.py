"""`--notify`: what is new in a run, told to whoever wants to know."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fleetaudit.cli.configured import configured
from fleetaudit.cli.console import say
from fleetaudit.cli.options import Judging
from fleetaudit.cli.storing import History
from fleetaudit.errors import ConfigError, Problem, StoreError
from fleetaudit.inputs import read_bytes
from fleetaudit.notify import Notice, Sender, send, sender
from fleetaudit.text import visible

SECRET: Final = "FLEETAUDIT_NOTIFY_SECRET"  # noqa: S105  (the variable's name)


@dataclass(frozen=True, slots=True)
class Noticing:
    """Whom to tell what is new, by the history that knows it."""

    history: History
    senders: Sequence[Sender] = ()

    def tell(self, run_id: str) -> None:
        """Send what is new in a run that was kept, if anything is. What fails is said, and no more."""
        place = self.history.place
        if not self.senders or place is None:
            return
        from fleetaudit.history.news import news  # noqa: PLC0415  (the database library)
        from fleetaudit.history.reading import find_run  # noqa: PLC0415
        from fleetaudit.history.store import open_store  # noqa: PLC0415

        try:
            with open_store(place, create=False) as store, store.reading() as connection:
                run = find_run(connection, run_id)
                items = news(connection, run)
        except (StoreError, ConfigError) as error:
            say(f"warning: nobody was notified: {error}")
            return
        if not items:
            return
        notice = Notice(run.run_id, run.started_at, run.exit_code or 0, items)
        for it in self.senders:
            if why := send(it, notice):
                say(f"warning: {visible(it.place)} was not notified: {visible(why)}")


def noticing(judging: Judging, history: History) -> Noticing:
    """What `--notify` and the configuration say. Raises ConfigError, before anything runs."""
    urls = judging.notify or (configured().notify if history.place is not None else ())
    if urls and history.place is None:
        hint = "add --store, or configure one"
        raise ConfigError(Problem("--notify: what is new is known by the history alone", hint=hint))
    secret = _secret(judging.notify_secret_file) if urls else None
    return Noticing(history, tuple(sender(url, secret) for url in dict.fromkeys(urls)))


def _secret(file: str | None) -> bytes | None:
    if file is None:
        return os.environb.get(SECRET.encode()) or None
    secret = read_bytes(file).strip()
    if not secret:
        raise ConfigError(Problem(f"{visible(file)} is empty", hint="write the secret into it"))
    return secret
