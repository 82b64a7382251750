"""Alembic runs this; the connection, with its transaction, is the caller's."""

from __future__ import annotations

from alembic import context

from fleetaudit.history.schema import METADATA
from fleetaudit.history.store import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
context.run_migrations()
