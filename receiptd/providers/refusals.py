"""What the error codes of send APIs mean: one `errors.csv` per provider. Pure but for that file."""

import csv
import pkgutil
from functools import cache

from receiptd.model import ErrClass
from receiptd.providers.base import Refusal


def find(package: str, code: str) -> Refusal | None:
    """Return what `code` means in the table of a provider's `package`; None if it is not in it.

    A code of a gateway stands for its details, too (`Throttling` for `Throttling.User`); the
    words of the SMS platform (`isv.…`, `isp.…`) are taken whole.
    """
    table = load(package)
    found = table.get(code)
    if found is None and not code.startswith(("isv.", "isp.")):
        found = table.get(code.partition(".")[0])
    return found


@cache
def load(package: str) -> dict[str, Refusal]:
    """Return code -> meaning from the package's `errors.csv`; read once, on first use."""
    data = pkgutil.get_data(package, "errors.csv") or b""
    return {
        row["code"]: Refusal(
            code=row["code"],
            err_class=ErrClass(row["err_class"]),
            meaning=row["meaning"],
            cure=row["cure"],
            is_about_credentials=row["credentials"] == "yes",
        )
        for row in csv.DictReader(data.decode().splitlines())
    }
