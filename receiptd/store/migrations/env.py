"""Runs the migrations on the connection that `receiptd.store.migrate` hands in."""

from alembic import context
from sqlalchemy import Connection

from receiptd.store.schema import metadata

_connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=_connection,
    target_metadata=metadata,
    # Alembic takes SQLite's DDL for not transactional, which is the driver's old behaviour: with
    # our own BEGIN a kill in the middle leaves the old schema.
    transactional_ddl=_connection.dialect.name in ("sqlite", "postgresql"),
)
with context.begin_transaction():
    context.run_migrations()
