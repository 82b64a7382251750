"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "runs",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("started_at", sa.String(40), nullable=False),
        sa.Column("ended_at", sa.String(40), nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("exit_code", sa.SmallInteger()),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("run_id", name="uq_runs_run_id"),
    )
    op.create_index("ix_runs_started_at", "runs", ["started_at"])
    op.create_table(
        "hosts",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_hosts"),
        sa.UniqueConstraint("name", name="uq_hosts_name"),
    )
    op.create_table(
        "contents",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_contents"),
        sa.UniqueConstraint("digest", name="uq_contents_digest"),
    )
    op.create_table(
        "rules",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rules"),
        sa.UniqueConstraint("policy", "rule", "severity", name="uq_rules_policy_rule_severity"),
    )
    op.create_table(
        "judgements",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_judgements"),
        sa.UniqueConstraint("digest", name="uq_judgements_digest"),
    )
    _create_verdicts()
    _create_host_runs()


def _create_verdicts() -> None:
    op.create_table(
        "verdicts",
        sa.Column("judgement", _ID, autoincrement=False, nullable=False),
        sa.Column("rule", _ID, autoincrement=False, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("judgement", "rule", name="pk_verdicts"),
        sa.ForeignKeyConstraint(["judgement"], ["judgements.id"], name="fk_verdicts_judgement"),
        sa.ForeignKeyConstraint(["rule"], ["rules.id"], name="fk_verdicts_rule"),
    )
    op.create_table(
        "findings",
        sa.Column("judgement", _ID, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rule", _ID, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("judgement", "number", name="pk_findings"),
        sa.ForeignKeyConstraint(["judgement"], ["judgements.id"], name="fk_findings_judgement"),
        sa.ForeignKeyConstraint(["rule"], ["rules.id"], name="fk_findings_rule"),
    )


def _create_host_runs() -> None:
    op.create_table(
        "host_runs",
        sa.Column("host", _ID, autoincrement=False, nullable=False),
        sa.Column("run", _ID, autoincrement=False, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("looked_at", sa.String(40), nullable=False),
        sa.Column("snapshot_sha256", sa.LargeBinary(32)),
        sa.Column("lasting", _ID),
        sa.Column("volatile", _ID),
        sa.Column("judgement", _ID),
        sa.PrimaryKeyConstraint("host", "run", name="pk_host_runs"),
        sa.ForeignKeyConstraint(["host"], ["hosts.id"], name="fk_host_runs_host"),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_host_runs_run"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_host_runs_run", "host_runs", ["run"])


def downgrade() -> None:
    """Take everything away."""
    for name in ("host_runs", "findings", "verdicts", "judgements", "rules", "contents", "hosts", "runs"):
        op.drop_table(name)
