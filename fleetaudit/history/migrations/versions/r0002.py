"""Whole snapshots, what judged them, and manifests: a run can be reported again, and proved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Snapshots as they came in, in place of what does not last of them."""
    op.add_column("host_runs", sa.Column("body", _ID))
    op.add_column("host_runs", sa.Column("told", sa.Text(), nullable=False, server_default="{}"))
    op.drop_column("host_runs", "volatile")
    op.add_column("runs", sa.Column("inputs", _ID))
    op.add_column("runs", sa.Column("manifest", sa.LargeBinary()))
    op.add_column("runs", sa.Column("signature", sa.Text()))
    op.create_table(
        "links",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_links"),
    )
    _forget_contents("lasting")


def downgrade() -> None:
    """The endpoints and holders of the runs stay, which processes they were is lost."""
    op.drop_table("links")
    for name in ("signature", "manifest", "inputs"):
        op.drop_column("runs", name)
    op.drop_column("host_runs", "told")
    op.drop_column("host_runs", "body")
    op.add_column("host_runs", sa.Column("volatile", _ID))
    _forget_contents("lasting")


def _forget_contents(column: str) -> None:
    used = f"SELECT {column} FROM host_runs WHERE {column} IS NOT NULL"  # noqa: S608  (our own names)
    op.execute(f"DELETE FROM contents WHERE id NOT IN ({used})")  # noqa: S608
