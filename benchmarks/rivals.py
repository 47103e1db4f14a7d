"""What receiptd is measured against: loops as their users write them, with the stock SDK.

    python -m benchmarks.rivals demo1|naive16 DATABASE BROKER QUEUE THREADS

*demo1* is the vendor's demo with a database in it: receive one, upsert and commit it with the plain
driver, delete it. *naive16* receives up to 16, upserts them with SQLAlchemy in one transaction and
deletes them together. Both store one row per receipt in one table with no index but its key, and
keep no journal; SQLite is as durable as receiptd has it.
"""

import json
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
from mns.account import Account
from mns.mns_exception import MNSServerException
from sqlalchemy import Column, Engine, MetaData, String, Table, create_engine, event, make_url
from sqlalchemy.dialects import mysql, postgresql, sqlite

WAIT_S = 30
BATCH = 16
COLUMNS = (
    "biz_id", "phone_number", "success", "err_code", "err_msg", "out_id", "sms_size",
    "send_time", "report_time",
)  # fmt: skip
_KEY = COLUMNS[:2]
_LENGTHS = {"biz_id": 64, "phone_number": 32, "err_msg": 255}
_WAL = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL")

table = Table(
    "receipts",
    MetaData(),
    *(Column(name, String(_LENGTHS.get(name, 40)), primary_key=name in _KEY) for name in COLUMNS),
)


def row(message_body: bytes) -> dict[str, str]:
    """Return the columns of a receipt."""
    content = json.loads(message_body)
    return {name: str(content.get(name, "")) for name in COLUMNS}


def demo1(database: str, queue: Any) -> None:
    """Receive one, commit it, delete it, for ever."""
    connection, statement = plain_driver(database)
    while True:
        try:
            message = queue.receive_message(WAIT_S)
        except MNSServerException as exc:
            if exc.type != "MessageNotExist":
                raise
            continue
        cursor = connection.cursor()
        cursor.execute(statement, tuple(row(message.message_body).values()))
        connection.commit()
        cursor.close()
        queue.delete_message(message.receipt_handle)


def plain_driver(database: str) -> tuple[Any, str]:
    """Return an open connection, and the upsert in its driver's words."""
    url = make_url(database)
    kind = url.get_backend_name()
    names = ", ".join(COLUMNS)
    mark = "?" if kind == "sqlite" else "%s"
    insert = f"INSERT INTO receipts ({names}) VALUES ({', '.join([mark] * len(COLUMNS))})"
    others = [name for name in COLUMNS if name not in _KEY]
    if kind == "mysql":
        found = {name: f"{name} = VALUES({name})" for name in others}
        upsert = f"{insert} ON DUPLICATE KEY UPDATE {', '.join(found.values())}"
        address = {"host": url.host, "port": url.port, "user": url.username}
        return pymysql.connect(**address, database=url.database, charset="utf8mb4"), upsert
    changes = ", ".join(f"{name} = excluded.{name}" for name in others)
    upsert = f"{insert} ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {changes}"
    if kind == "postgresql":
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain), upsert
    connection = sqlite3.connect(url.database or "", check_same_thread=False)
    for pragma in _WAL:
        connection.execute(pragma)
    return connection, upsert


def naive16(database: str, queue: Any) -> None:
    """Receive up to 16, commit them, delete them, for ever."""
    engine = engine_of(database)  # one a thread, so that none waits for another's connection
    upsert = upsert_of(engine)
    while True:
        try:
            messages = queue.batch_receive_message(BATCH, WAIT_S)
        except MNSServerException as exc:
            if exc.type != "MessageNotExist":
                raise
            continue
        with engine.begin() as connection:
            connection.execute(upsert, [row(message.message_body) for message in messages])
        queue.batch_delete_message([message.receipt_handle for message in messages])


def engine_of(database: str) -> Engine:
    """Return an engine; SQLite's connections are as durable as receiptd's."""
    engine = create_engine(database)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def durable(connection: Any, _: Any) -> None:
            for pragma in _WAL:
                connection.execute(pragma)

    return engine


def upsert_of(engine: Engine) -> Any:
    """Return SQLAlchemy's upsert by key."""
    others = COLUMNS[len(_KEY) :]
    if engine.dialect.name == "mysql":
        statement = mysql.insert(table)
        return statement.on_duplicate_key_update(
            {name: statement.inserted[name] for name in others}
        )
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    found = insert(table)
    return found.on_conflict_do_update(
        index_elements=list(_KEY), set_={name: found.excluded[name] for name in others}
    )


LOOPS: dict[str, Callable[[str, Any], None]] = {"demo1": demo1, "naive16": naive16}


def main(name: str, database: str, broker: str, queue: str, threads: str) -> None:
    """Make the table, then run a loop in each thread until killed."""
    engine = engine_of(database)
    table.create(engine)
    engine.dispose()

    def work() -> None:
        # A client each: the SDK's holds one connection without a lock.
        LOOPS[name](database, Account(broker, "testAK", "testSK").get_queue(queue))

    for _ in range(int(threads) - 1):
        threading.Thread(target=work, daemon=True).start()
    work()


if __name__ == "__main__":
    main(*sys.argv[1:])
