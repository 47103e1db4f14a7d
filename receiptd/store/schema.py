"""The tables of design.md section 5, as SQLAlchemy Core.

Indexes are few, because each costs every receipt: one that follows time costs 30 % at any size, one
that does not (phone, time) costs a factor of four at ten million rows (performance.md section 2).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Date,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    false,
    literal_column,
    text,
)

from receiptd.store.types import UTC, BigId, ByteText, LongText

# Named constraints, because a migration can only change what it can name.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# In an index's info: which rows it holds.
_ONLY = "only"

receipts = Table(
    "receipts",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("provider", ByteText(64), nullable=False),
    Column("account", ByteText(64), nullable=False),
    Column("biz_id", ByteText(128), nullable=False),
    Column("phone", ByteText(64), nullable=False),
    Column("out_id", ByteText(256)),
    Column("status", ByteText(16), nullable=False),
    Column("err_code", ByteText(64)),
    Column("err_msg", ByteText(1024)),
    Column("err_class", ByteText(16)),
    Column("segments", Integer),
    Column("sign_name", ByteText(128)),
    Column("template_code", ByteText(64)),
    Column("send_api", ByteText(32)),
    Column("submitted_at", UTC),
    Column("sent_at", UTC),
    Column("reported_at", UTC),
    Column("origin", ByteText(16), nullable=False),
    Column("conflict", Boolean, nullable=False, server_default=false()),
    Column("next_query_at", UTC),
    Column("query_count", Integer, nullable=False, server_default="0"),
    Column("created_at", UTC, nullable=False),
    Column("updated_at", UTC, nullable=False),
    Column("query_place", ByteText(16)),  # the next page of an unfinished question: 20261121/2
    # Leads with the providers' ids, which rise with time, so that inserts stay on warm pages.
    UniqueConstraint("biz_id", "phone", "provider", "account", name="identity"),
    # Reconciliation's work list: only open sends are in it. MySQL indexes the nulls too.
    Index(None, "next_query_at", info={_ONLY: "next_query_at IS NOT NULL"}),
)

journal = Table(
    "journal",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("source", ByteText(64), nullable=False),
    Column("envelope_id", ByteText(128), nullable=False),
    Column("part", Integer, nullable=False),
    Column("body", LongText, nullable=False),
    Column("encoding", ByteText(8), nullable=False),  # text, base64
    Column("kind", ByteText(16), nullable=False),
    Column("outcome", ByteText(16), nullable=False),
    Column("reason", ByteText(128)),
    Column("biz_id", ByteText(128)),
    Column("phone", ByteText(64)),
    Column("enqueued_at", UTC),
    Column("received_at", UTC, nullable=False),
    Column("pull_count", Integer),
    # Replay and retention go by time; the rows come in that order, so it only ever appends.
    Index(None, "received_at"),
    # The quarantine is listed by reason, and the outcomes are counted; nearly all rows are `stored`
    # and not in it. `NOT_STORED` below names it.
    Index(None, "outcome", "reason", info={_ONLY: "outcome <> 'stored'"}),
)

# Spelled as in the partial index over it, with the word in the SQL, or that is not used.
NOT_STORED: ColumnElement[bool] = journal.c.outcome != literal_column("'stored'")

uplinks = Table(
    "uplinks",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("provider", ByteText(64), nullable=False),
    Column("account", ByteText(64), nullable=False),
    Column("phone", ByteText(64), nullable=False),
    Column("content", LongText),
    Column("dest_code", ByteText(64)),
    Column("sign_name", ByteText(128)),
    Column("sequence_id", ByteText(128), nullable=False),
    Column("sent_at", UTC),
    Column("biz_id", ByteText(128)),
    Column("created_at", UTC, nullable=False),
    # Without sent_at: it may be null, and two nulls differ to a unique key.
    UniqueConstraint("sequence_id", "phone", "provider", "account", name="identity"),
)

notices = Table(
    "notices",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("provider", ByteText(64), nullable=False),
    Column("account", ByteText(64), nullable=False),
    Column("subject", ByteText(16), nullable=False),  # sign, template
    Column("name", ByteText(128), nullable=False),
    Column("status", ByteText(64), nullable=False),
    Column("reason", LongText),
    Column("order_id", ByteText(128), nullable=False),  # "" if not told
    Column("submitted_at", UTC),  # the application for review
    Column("created_at", UTC, nullable=False),
    UniqueConstraint(
        "name", "order_id", "status", "subject", "provider", "account", name="identity"
    ),
)

audits = Table(
    "audits",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("provider", ByteText(64), nullable=False),
    Column("account", ByteText(64), nullable=False),
    Column("day", Date, nullable=False),  # of China, as the providers count
    Column("provider_total", BigInteger, nullable=False),
    Column("provider_delivered", BigInteger, nullable=False),
    Column("provider_failed", BigInteger, nullable=False),
    Column("provider_pending", BigInteger, nullable=False),
    Column("held_total", BigInteger, nullable=False),
    Column("held_delivered", BigInteger, nullable=False),
    Column("held_failed", BigInteger, nullable=False),
    Column("held_pending", BigInteger, nullable=False),
    Column("audited_at", UTC, nullable=False),
    UniqueConstraint("day", "provider", "account", name="identity"),
)

progress = Table(
    "progress",
    metadata,
    Column("instance", ByteText(128), primary_key=True),
    Column("source", ByteText(64), primary_key=True),
    Column("last_pull_at", UTC),
    Column("last_commit_at", UTC),
    # All counts since the instance's start.
    Column("pulled", BigInteger, nullable=False),
    Column("redelivered", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
    Column("acked", BigInteger, nullable=False),
    Column("ack_expired", BigInteger, nullable=False),
    Column("ack_failed", BigInteger, nullable=False),
    Column("updated_at", UTC, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigId, primary_key=True),  # the order per message
    Column("endpoint", ByteText(64), nullable=False),  # the name under [notify]
    Column("event", ByteText(32), nullable=False),
    Column("message_id", ByteText(64), nullable=False),  # the webhook-id header
    Column("biz_id", ByteText(128)),
    Column("phone", ByteText(64)),
    Column("body", LongText, nullable=False),
    Column("created_at", UTC, nullable=False),
    Column("next_attempt_at", UTC, nullable=False),
    Column("attempt_count", Integer, nullable=False, server_default="0"),
    Column("last_error", ByteText(256)),
    # What is due per endpoint; delivered rows are deleted, so the table stays small.
    Index(None, "endpoint", "next_attempt_at"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", ByteText(128), primary_key=True),
    Column("holder", ByteText(128), nullable=False),
    Column("until", UTC, nullable=False),
)

# What was erased on a person's demand; nothing in it says who that was.
erasures = Table(
    "erasures",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("phone_hint", ByteText(64), nullable=False),  # masked: 139****0001
    Column("because", ByteText(512)),
    Column("asked_by", ByteText(128), nullable=False),  # the user of the operating system
    Column("asked_at", UTC, nullable=False),
    Column("finished_at", UTC),  # null: interrupted, and what was found after that is still there
    # Rows changed or deleted.
    Column("receipts", BigInteger, nullable=False, server_default="0"),
    Column("uplinks", BigInteger, nullable=False, server_default="0"),
    Column("journal", BigInteger, nullable=False, server_default="0"),
    Column("outbox", BigInteger, nullable=False, server_default="0"),
    Column("notices", BigInteger, nullable=False, server_default="0"),
)

# Receipts are counted by ranges of ids: what was created in one hour. See rollups.py.
rollup_blocks = Table(
    "rollup_blocks",
    metadata,
    Column("first_id", BigInteger, primary_key=True, autoincrement=False),
    Column("last_id", BigInteger, nullable=False),
    Column("hour", UTC, nullable=False),  # of creation
    # As last counted: all, those whose end is known, and those that may still be heard of.
    Column("held", BigInteger, nullable=False, server_default="0"),
    Column("final", BigInteger, nullable=False, server_default="0"),
    Column("open", BigInteger, nullable=False, server_default="0"),
    Column("counted_at", UTC),
    Column("looked_at", UTC),  # of the youngest block: when somebody last looked
    UniqueConstraint("last_id", name="end"),
)

rollups = Table(
    "rollups",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("block", BigInteger, nullable=False),  # its first_id
    Column("facet", ByteText(8), nullable=False),  # status, error, template
    Column("hour", UTC, nullable=False),  # of the SMS itself
    # "" where it is not known, or not the facet's.
    Column("provider", ByteText(64), nullable=False),
    Column("account", ByteText(64), nullable=False),
    Column("send_api", ByteText(32), nullable=False),
    Column("status", ByteText(16), nullable=False),
    Column("err_class", ByteText(16), nullable=False),
    Column("err_code", ByteText(64), nullable=False),
    Column("template_code", ByteText(64), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("timed", BigInteger, nullable=False),  # of them, with the time to the phone known
    Column("delivery_ms", BigInteger, nullable=False),  # their sum
    Column("lagged", BigInteger, nullable=False),  # of them, with a time of report
    Column("lag_ms", BigInteger, nullable=False),  # their sum, from reported to stored
    Index(None, "facet", "hour"),
    Index(None, "block"),
)


def narrow_indexes(dialect: str) -> None:
    """Let the indexes that are to hold some rows only do so when they are made on a database of
    this kind, if it can.

    Not where they are defined: SQLAlchemy loads each dialect that is named there, PostgreSQL's for
    2 MB.
    """
    if dialect not in ("sqlite", "postgresql"):
        return
    for table in metadata.tables.values():
        for index in table.indexes:
            if _ONLY in index.info:
                index.dialect_options[dialect]["where"] = text(index.info[_ONLY])


def identity(table: Table) -> list[str]:
    """Return the columns of a table's unique key."""
    unique = next(c for c in table.constraints if isinstance(c, UniqueConstraint))
    return [column.name for column in unique.columns]
