"""What the dashboard reads instead of the receipts: their counts by hour."""

import sqlalchemy as sa
from alembic import op

from receiptd.store.types import UTC, BigId, ByteText

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_INDEXES = {"ix_rollups_facet": ["facet", "hour"], "ix_rollups_block": ["block"]}


def upgrade() -> None:
    """Add the tables; the daemon fills them beside its work, also from receipts of before."""
    op.create_table(
        "rollup_blocks",
        sa.Column("first_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.Column("hour", UTC(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("final", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("open", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("counted_at", UTC()),
        sa.Column("looked_at", UTC()),
        sa.PrimaryKeyConstraint("first_id", name="pk_rollup_blocks"),
        sa.UniqueConstraint("last_id", name=op.f("uq_rollup_blocks_end")),
        if_not_exists=True,  # a killed upgrade of MySQL has made it, and not said so
    )
    op.create_table(
        "rollups",
        sa.Column("id", BigId, nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("facet", ByteText(8), nullable=False),
        sa.Column("hour", UTC(), nullable=False),
        sa.Column("provider", ByteText(64), nullable=False),
        sa.Column("account", ByteText(64), nullable=False),
        sa.Column("send_api", ByteText(32), nullable=False),
        sa.Column("status", ByteText(16), nullable=False),
        sa.Column("err_class", ByteText(16), nullable=False),
        sa.Column("err_code", ByteText(64), nullable=False),
        sa.Column("template_code", ByteText(64), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("timed", sa.BigInteger(), nullable=False),
        sa.Column("delivery_ms", sa.BigInteger(), nullable=False),
        sa.Column("lagged", sa.BigInteger(), nullable=False),
        sa.Column("lag_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollups"),
        if_not_exists=True,
    )
    # MySQL knows no CREATE INDEX IF NOT EXISTS.
    made = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes("rollups")}
    for name, columns in _INDEXES.items():
        if name not in made:
            op.create_index(name, "rollups", columns)
