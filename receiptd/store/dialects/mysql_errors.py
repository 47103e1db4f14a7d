"""What the error numbers of MySQL and MariaDB mean to receiptd."""

import pymysql

from receiptd.errors import StoreError, StoreRejected, StoreUnavailable

# A deadlock, and MariaDB's "record has changed since last read".
DEADLOCKS = {(1213,), (1020,)}

# Data and constraints, beyond what PyMySQL files under DataError and IntegrityError: no default,
# bad datetime, bad value, SIGNAL from a user's trigger, out of range, CHECK (MySQL, MariaDB).
_REJECTED = {1364, 1292, 1366, 1411, 1644, 1690, 3819, 4025}

_CURES = {
    1020: "another transaction was in the way",
    1021: "the disk is full: make room",
    1028: "the disk is full: make room",
    1030: "the server's disk fails or is full",
    1040: "too many connections: raise max_connections or run fewer processes",
    1041: "the server is out of memory",
    1044: "the user lacks a permission: GRANT it",
    1045: "the server refused the user or the password",
    1049: "there is no such database: create it",
    1050: "the schema does not fit: run `receiptd db upgrade`",
    1053: "the server shuts down",
    1054: "the schema does not fit: run `receiptd db upgrade`",
    1114: "the disk is full: make room",
    1142: "the user lacks a permission: GRANT it",
    1146: "the schema does not fit: run `receiptd db upgrade`",
    1153: "a batch is larger than max_allowed_packet: set it to 64 MB",
    1203: "too many connections: raise max_user_connections or run fewer processes",
    1205: "another session holds a lock",
    1213: "another transaction was in the way",
    1226: "too many connections: raise max_user_connections or run fewer processes",
    1290: "the server is read-only: a replica, or one that was told so",
    1317: "the statement was interrupted",
    1665: "binlog_format = STATEMENT cannot log our transactions: set it to ROW or MIXED",
    1698: "the server refused the user or the password",
    1792: "the server is read-only: a replica, or one that was told so",
    1836: "the server is read-only: a replica, or one that was told so",
    1927: "the server ended the connection",
    1969: "the statement took too long",
    2003: "the server cannot be reached",
    2006: "the connection failed",
    2013: "the connection failed, or no answer came in time",
    3024: "the statement took too long",
}


def meaning(error: pymysql.Error) -> StoreError | None:
    """Return the error that the caller acts on, without a word of the server's text, which may
    quote a row; None for a bug of ours."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    if number in _REJECTED or (
        number and isinstance(error, (pymysql.DataError, pymysql.IntegrityError))
    ):
        return StoreRejected(f"the database refused the data ({number})")
    if number in _CURES:
        return StoreUnavailable(f"{number}: {_CURES[number]}")
    if isinstance(error, (pymysql.OperationalError, pymysql.InterfaceError, pymysql.InternalError)):
        return StoreUnavailable(f"{number}: the database failed")
    if isinstance(error, pymysql.ProgrammingError):
        return StoreUnavailable(f"{number}: the schema does not fit: run `receiptd db upgrade`")
    return StoreRejected(f"the driver refused the data ({type(error).__name__})")
