"""The record of erasures: that a person's data were taken out, when, and how much it was."""

import sqlalchemy as sa
from alembic import op

from receiptd.store.types import UTC, BigId, ByteText

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; no other is touched, so nobody waits for it."""
    op.create_table(
        "erasures",
        sa.Column("id", BigId, nullable=False),
        sa.Column("phone_hint", ByteText(64), nullable=False),
        sa.Column("because", ByteText(512)),
        sa.Column("asked_by", ByteText(128), nullable=False),
        sa.Column("asked_at", UTC(), nullable=False),
        sa.Column("finished_at", UTC()),
        sa.Column("receipts", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("uplinks", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("journal", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("outbox", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("notices", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_erasures"),
        if_not_exists=True,  # a killed upgrade of MySQL has made it, and not said so
    )
