"""What PostgreSQL's error codes mean to receiptd (appendix A of its manual)."""

import psycopg

from receiptd.errors import StoreError, StoreRejected, StoreUnavailable

# Data exceptions, constraints, and what a user's trigger raises on purpose.
_REJECTED = ("22", "23", "P0001", "44000")

# By code or by its class, which are the first two characters; the longer wins.
_CURES = {
    "08": "the connection failed",
    "25006": "the server is read-only: a standby, or one that was told so",
    "25P03": "the transaction was idle for too long",
    "28": "the server refused the user or the password",
    "3D000": "there is no such database: create it",
    "40": "another transaction was in the way",
    "42501": "the user lacks a permission: GRANT it",
    "42": "the schema does not fit: run `receiptd db upgrade`",
    "3F": "the schema does not fit: run `receiptd db upgrade`",
    "53100": "the disk is full: make room",
    "53200": "the server is out of memory",
    "53300": "too many connections: raise max_connections or run fewer processes",
    "53": "the server is short of a resource",
    "55P03": "another session holds a lock",
    "57014": "the statement took too long",
    "57P01": "the server shuts down or ended the session",
    "57P02": "the server crashed and recovers",
    "57P03": "the server starts or shuts down",
    "58": "the server's disk fails",
    "XX": "the server's data is damaged: look at its log",
}

# libpq keeps the code of a failed connection to itself. These are its own words and an English
# server's; whatever else it says is left out.
_HINTS = (
    ("does not exist", "there is no such database or user: create it"),
    ("authentication failed", "the server refused the user or the password"),
    ("pg_hba.conf", "the server refused the user or the password"),
    ("too many connections", _CURES["53300"]),
    ("connection slots", _CURES["53300"]),
    ("starting up", _CURES["57P03"]),
    ("shutting down", _CURES["57P03"]),
    ("translate host name", "the server's name is unknown"),
    ("resolve host", "the server's name is unknown"),
    ("refused", "nobody listens at the server's address"),
    ("no answer within", "no answer came in time"),
    ("timeout expired", "no answer came in time"),
)


def meaning(error: psycopg.Error) -> StoreError | None:
    """Return the error that the caller acts on, without a word of the server's text, which may
    quote a row; None for a bug of ours."""
    code = error.sqlstate
    if code is None:
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            return StoreUnavailable(_hint(str(error)))
        if isinstance(error, (psycopg.DataError, psycopg.ProgrammingError)):
            return StoreRejected(f"the driver refused the data ({type(error).__name__})")
        return None
    if code.startswith(_REJECTED):
        return StoreRejected(f"the database refused the data ({code})")
    cure = _CURES.get(code) or _CURES.get(code[:2], "the database failed")
    return StoreUnavailable(f"{code}: {cure}")


def _hint(text: str) -> str:
    hints = (hint for words, hint in _HINTS if words in text)
    return next(hints, "the connection failed")
