"""The tables. Snapshots are stored by content, verdicts as sets: an unchanged host is one small row a run."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by INTEGER only.
_ID: Final = BigInteger().with_variant(Integer(), "sqlite")


def _key() -> Column[int]:
    return Column("id", _ID, primary_key=True, autoincrement=False)


# `finished` is set with the run's last batch: without it the run was cut short. Times are RFC 3339 UTC.
RUNS: Final = Table(
    "runs",
    METADATA,
    _key(),
    Column("run_id", String(128), nullable=False, unique=True),
    Column("started_at", String(40), nullable=False),
    Column("ended_at", String(40), nullable=False),
    Column("version", String(40), nullable=False),
    Column("finished", Boolean(name="finished"), nullable=False),
    Column("complete", Boolean(name="complete"), nullable=False),
    Column("exit_code", SmallInteger),
    Column("record", LargeBinary, nullable=False),  # zlib, JSON: policies, options, counts
    Column("inputs", _ID),  # the content of all files that it was judged by
    Column("manifest", LargeBinary),  # zlib
    Column("signature", Text),
)
Index(None, RUNS.c.started_at)

# Every manifest there ever was, also of runs that were deleted: what the chain is made of.
LINKS: Final = Table(
    "links",
    METADATA,
    _key(),
    Column("run_id", String(128), nullable=False),
    Column("sha256", String(64), nullable=False),
)

HOSTS: Final = Table(
    "hosts",
    METADATA,
    _key(),
    Column("name", Text, nullable=False, unique=True),
)

# Both parts of a snapshot (fleetaudit.history.normal), by the SHA-256 of what is compressed in `body`.
CONTENTS: Final = Table(
    "contents",
    METADATA,
    _key(),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("body", LargeBinary, nullable=False),
)

RULES: Final = Table(
    "rules",
    METADATA,
    _key(),
    Column("policy", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("severity", String(16), nullable=False),
    UniqueConstraint("policy", "rule", "severity"),
)

# One host's verdicts and findings of one run, by content.
JUDGEMENTS: Final = Table(
    "judgements",
    METADATA,
    _key(),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
)

VERDICTS: Final = Table(
    "verdicts",
    METADATA,
    Column("judgement", _ID, ForeignKey(JUDGEMENTS.c.id), primary_key=True, autoincrement=False),
    Column("rule", _ID, ForeignKey(RULES.c.id), primary_key=True, autoincrement=False),
    Column("verdict", String(16), nullable=False),
)

FINDINGS: Final = Table(
    "findings",
    METADATA,
    Column("judgement", _ID, ForeignKey(JUDGEMENTS.c.id), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("rule", _ID, ForeignKey(RULES.c.id), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

HOST_RUNS: Final = Table(
    "host_runs",
    METADATA,
    Column("host", _ID, ForeignKey(HOSTS.c.id), primary_key=True, autoincrement=False),
    Column("run", _ID, ForeignKey(RUNS.c.id), primary_key=True, autoincrement=False),
    Column("status", String(20), nullable=False),
    Column("detail", Text, nullable=False),
    Column("looked_at", String(40), nullable=False),
    Column("snapshot_sha256", LargeBinary(32)),
    # No foreign keys: each content that prune deletes would cost a look through this table, or an index.
    Column("lasting", _ID),
    Column("body", _ID),  # the snapshot's line without its moments
    Column("told", Text, nullable=False),  # JSON: the moments, and what was said of the host later
    Column("judgement", _ID),
    sqlite_with_rowid=False,
)
Index(None, HOST_RUNS.c.run)
