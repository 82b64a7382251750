"""A keyring for tests: the service is a file, and the password is what is in it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

_backend: Any = importlib.import_module("keyring.backend")


class Stored(_backend.KeyringBackend):  # type: ignore[misc]  # (the library is an extra)
    """Chosen by PYTHON_KEYRING_BACKEND."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        return Path(service).read_text() if username == "audit" else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise AssertionError("nothing is ever stored")
