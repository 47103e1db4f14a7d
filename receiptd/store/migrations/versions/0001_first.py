"""The first schema."""

import sqlalchemy as sa
from alembic import op

from receiptd.store.types import UTC, BigId, ByteText, LongText

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables."""
    _receipts()
    _journal()
    _uplinks()
    _notices()
    _audits()
    _progress()
    _outbox()
    _leases()


def _receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("id", BigId, nullable=False),
        sa.Column("provider", ByteText(64), nullable=False),
        sa.Column("account", ByteText(64), nullable=False),
        sa.Column("biz_id", ByteText(128), nullable=False),
        sa.Column("phone", ByteText(64), nullable=False),
        sa.Column("out_id", ByteText(256)),
        sa.Column("status", ByteText(16), nullable=False),
        sa.Column("err_code", ByteText(64)),
        sa.Column("err_msg", ByteText(1024)),
        sa.Column("err_class", ByteText(16)),
        sa.Column("segments", sa.Integer()),
        sa.Column("sign_name", ByteText(128)),
        sa.Column("template_code", ByteText(64)),
        sa.Column("send_api", ByteText(32)),
        sa.Column("submitted_at", UTC()),
        sa.Column("sent_at", UTC()),
        sa.Column("reported_at", UTC()),
        sa.Column("origin", ByteText(16), nullable=False),
        sa.Column("conflict", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("next_query_at", UTC()),
        sa.Column("query_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created_at", UTC(), nullable=False),
        sa.Column("updated_at", UTC(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_receipts"),
        sa.UniqueConstraint(
            "biz_id", "phone", "provider", "account", name=op.f("uq_receipts_identity")
        ),
    )
    op.create_index(
        "ix_receipts_next_query_at",
        "receipts",
        ["next_query_at"],
        sqlite_where=sa.text("next_query_at IS NOT NULL"),
        postgresql_where=sa.text("next_query_at IS NOT NULL"),
    )


def _journal() -> None:
    op.create_table(
        "journal",
        sa.Column("id", BigId, nullable=False),
        sa.Column("source", ByteText(64), nullable=False),
        sa.Column("envelope_id", ByteText(128), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("body", LongText, nullable=False),
        sa.Column("encoding", ByteText(8), nullable=False),
        sa.Column("kind", ByteText(16), nullable=False),
        sa.Column("outcome", ByteText(16), nullable=False),
        sa.Column("reason", ByteText(128)),
        sa.Column("biz_id", ByteText(128)),
        sa.Column("phone", ByteText(64)),
        sa.Column("enqueued_at", UTC()),
        sa.Column("received_at", UTC(), nullable=False),
        sa.Column("pull_count", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_journal"),
    )
    op.create_index("ix_journal_received_at", "journal", ["received_at"])
    op.create_index(
        "ix_journal_outcome",
        "journal",
        ["outcome", "reason"],
        sqlite_where=sa.text("outcome <> 'stored'"),
        postgresql_where=sa.text("outcome <> 'stored'"),
    )


def _uplinks() -> None:
    op.create_table(
        "uplinks",
        sa.Column("id", BigId, nullable=False),
        sa.Column("provider", ByteText(64), nullable=False),
        sa.Column("account", ByteText(64), nullable=False),
        sa.Column("phone", ByteText(64), nullable=False),
        sa.Column("content", LongText),
        sa.Column("dest_code", ByteText(64)),
        sa.Column("sign_name", ByteText(128)),
        sa.Column("sequence_id", ByteText(128), nullable=False),
        sa.Column("sent_at", UTC()),
        sa.Column("biz_id", ByteText(128)),
        sa.Column("created_at", UTC(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uplinks"),
        sa.UniqueConstraint(
            "sequence_id", "phone", "provider", "account", name=op.f("uq_uplinks_identity")
        ),
    )


def _notices() -> None:
    op.create_table(
        "notices",
        sa.Column("id", BigId, nullable=False),
        sa.Column("provider", ByteText(64), nullable=False),
        sa.Column("account", ByteText(64), nullable=False),
        sa.Column("subject", ByteText(16), nullable=False),
        sa.Column("name", ByteText(128), nullable=False),
        sa.Column("status", ByteText(64), nullable=False),
        sa.Column("reason", LongText),
        sa.Column("order_id", ByteText(128), nullable=False),
        sa.Column("submitted_at", UTC()),
        sa.Column("created_at", UTC(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notices"),
        sa.UniqueConstraint(
            "name",
            "order_id",
            "status",
            "subject",
            "provider",
            "account",
            name=op.f("uq_notices_identity"),
        ),
    )


def _audits() -> None:
    op.create_table(
        "audits",
        sa.Column("id", BigId, nullable=False),
        sa.Column("provider", ByteText(64), nullable=False),
        sa.Column("account", ByteText(64), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("provider_total", sa.BigInteger(), nullable=False),
        sa.Column("provider_delivered", sa.BigInteger(), nullable=False),
        sa.Column("provider_failed", sa.BigInteger(), nullable=False),
        sa.Column("provider_pending", sa.BigInteger(), nullable=False),
        sa.Column("held_total", sa.BigInteger(), nullable=False),
        sa.Column("held_delivered", sa.BigInteger(), nullable=False),
        sa.Column("held_failed", sa.BigInteger(), nullable=False),
        sa.Column("held_pending", sa.BigInteger(), nullable=False),
        sa.Column("audited_at", UTC(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audits"),
        sa.UniqueConstraint("day", "provider", "account", name=op.f("uq_audits_identity")),
    )


def _progress() -> None:
    op.create_table(
        "progress",
        sa.Column("instance", ByteText(128), nullable=False),
        sa.Column("source", ByteText(64), nullable=False),
        sa.Column("last_pull_at", UTC()),
        sa.Column("last_commit_at", UTC()),
        sa.Column("pulled", sa.BigInteger(), nullable=False),
        sa.Column("redelivered", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("quarantined", sa.BigInteger(), nullable=False),
        sa.Column("acked", sa.BigInteger(), nullable=False),
        sa.Column("ack_expired", sa.BigInteger(), nullable=False),
        sa.Column("ack_failed", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", UTC(), nullable=False),
        sa.PrimaryKeyConstraint("instance", "source", name="pk_progress"),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", BigId, nullable=False),
        sa.Column("endpoint", ByteText(64), nullable=False),
        sa.Column("event", ByteText(32), nullable=False),
        sa.Column("message_id", ByteText(64), nullable=False),
        sa.Column("biz_id", ByteText(128)),
        sa.Column("phone", ByteText(64)),
        sa.Column("body", LongText, nullable=False),
        sa.Column("created_at", UTC(), nullable=False),
        sa.Column("next_attempt_at", UTC(), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_error", ByteText(256)),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_endpoint", "outbox", ["endpoint", "next_attempt_at"])


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", ByteText(128), nullable=False),
        sa.Column("holder", ByteText(128), nullable=False),
        sa.Column("until", UTC(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
