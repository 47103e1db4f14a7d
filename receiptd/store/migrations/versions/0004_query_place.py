"""Where a question of several pages goes on after a crash."""

import sqlalchemy as sa
from alembic import op

from receiptd.store.types import ByteText

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, unless an upgrade that was killed has (MySQL's DDL is not transactional); no
    database rewrites a row for it."""
    columns = sa.inspect(op.get_bind()).get_columns("receipts")
    if all(column["name"] != "query_place" for column in columns):
        op.add_column("receipts", sa.Column("query_place", ByteText(16)))
