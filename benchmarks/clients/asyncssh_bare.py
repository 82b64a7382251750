"""Reference: asyncssh, one task a host behind a semaphore. Runs where asyncssh is installed."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any


async def main() -> None:
    """Ask every host of the fleet file; a line for each complete answer."""
    asyncssh = importlib.import_module("asyncssh")
    fleet: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    payload = Path(fleet["payload"]).read_bytes()
    key = asyncssh.read_private_key(fleet["key"])
    places = asyncio.Semaphore(fleet["forks"])

    async def ask(address: str, port: int) -> None:
        async with (
            places,
            asyncssh.connect(
                address, port, username=fleet["user"], client_keys=[key], known_hosts=None, config=None
            ) as connection,
        ):
            done = await connection.run(fleet["command"], input=payload, encoding=None)
            if fleet["mark"].encode() in done.stdout:
                print("answered")

    await asyncio.gather(*(ask(*host) for host in fleet["hosts"]), return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
