"""The status as plain data for JSON. The shape is documented in docs/explain-and-status.md."""

from datetime import date, datetime
from typing import Any

import msgspec

from receiptd.clock import utc_text
from receiptd.status.shape import Status
from receiptd.store.audits import Audit


def plain(status: Status) -> dict[str, Any]:
    """Return `status` as what json.dumps takes."""
    database = status.database
    return {
        "taken_at": _value(status.taken_at),
        "database": {
            "kind": database.kind,
            "revision": database.revision,
            "size_bytes": database.size_bytes,
            "tables": database.tables,
        },
        "sources": [
            _plain(one, instances=[_plain(each) for each in one.instances])
            for one in status.sources
        ],
        "accounts": [_plain(one) for one in status.accounts],
        "counted": _plain(status.counted),
        "quarantine": status.quarantine,
        "audits": [_audit(one) for one in status.audits],
        "leases": [_plain(one) for one in status.leases],
    }


def _plain(struct: msgspec.Struct, **instead: object) -> dict[str, Any]:
    return {
        # JSON has no convention for yes and no in names.
        name.removeprefix("is_"): instead.get(name, _value(getattr(struct, name)))
        for name in struct.__struct_fields__
    }


def _audit(audit: Audit) -> dict[str, Any]:
    return {
        "provider": audit.provider,
        "account": audit.account,
        "day": _value(audit.day),
        "theirs": audit.theirs,
        "ours": audit.ours,
        "audited_at": _value(audit.audited_at),
    }


def _value(value: object) -> object:
    if isinstance(value, datetime):
        return utc_text(value)
    return value.isoformat() if isinstance(value, date) else value
