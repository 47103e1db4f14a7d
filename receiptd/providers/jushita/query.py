"""alibaba.aliqin.ta.sms.num.query: wire-formats 7.5.

Rows bear no biz_id. The question is narrowed with it, but no source says that the service heeds
it, so each row is held against the send: its number, its `extend`, its time.
"""

from collections.abc import Mapping
from datetime import date
from typing import Protocol

from receiptd.china import day_text
from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.model import Origin
from receiptd.providers.answers import unreadable_list
from receiptd.providers.base import Asked, Context, DayCounts, QueryPage
from receiptd.providers.details import JUSHITA, read_rows
from receiptd.providers.jushita.top import open_client
from receiptd.providers.matching import askable, choose
from receiptd.providers.sends import is_synthetic

METHOD = "alibaba.aliqin.ta.sms.num.query"
PAGE_SIZE = 50  # the most that the API gives
PAGES_MAX = 20  # 1,000 SMS to one number on one day


class Gateway(Protocol):
    """What is needed of `TopClient`."""

    def call(self, method: str, parameters: Mapping[str, str]) -> Mapping[str, object]:
        """Return what is inside a good answer, or raise a SourceError; bounded in time."""
        ...

    def cancel(self) -> None:
        """End running calls at once and refuse later ones."""
        ...

    def close(self) -> None:
        """Release the connections."""
        ...


class JushitaQuery:
    """The QueryApi of a Jushita application. Owns `gateway`: `close` closes it."""

    def __init__(self, gateway: Gateway, account: str) -> None:
        self._gateway = gateway
        self._context = Context("jushita", account, Origin.QUERY)

    def page(self, asked: Asked, day: date, page_number: int) -> QueryPage:
        """Return a page of the number's day with the row of `asked`, if one can be told; as
        QueryApi says."""
        number = askable(asked.phone)
        if number is None:
            return QueryPage((), is_last=True)
        parameters = {
            "rec_num": number,
            "query_date": day_text(day),
            "current_page": str(page_number),
            "page_size": str(PAGE_SIZE),
        }
        if not is_synthetic(asked.biz_id):
            parameters["biz_id"] = asked.biz_id
        data = self._gateway.call(METHOD, parameters)
        return read_page(data, asked, self._context, page_number)

    def statistics(self, day: date) -> DayCounts | None:
        """Return None: TOP has no counts."""
        return None

    def cancel(self) -> None:
        """End running calls at once and refuse later ones. Safe from any thread."""
        self._gateway.cancel()

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        self._gateway.close()


def open_query(name: str, account: AccountSettings, clock: Clock) -> JushitaQuery | None:
    """Return the query client of `[accounts.<name>]`, None if it has no app_key; no I/O."""
    return JushitaQuery(open_client(account, clock), name) if account.app_key else None


def read_page(
    data: Mapping[str, object], asked: Asked, context: Context, page_number: int
) -> QueryPage:
    """Return what a good answer says about `asked`: one row at most. Pure.

    `total_count` and `total_page` are not looked at. Raises SourceUnavailable(`bad_answer`) if
    there is a list of rows that is none; no list is no rows.
    """
    rows = _rows(data)
    is_last = len(rows) < PAGE_SIZE or page_number >= PAGES_MAX
    found, unreadable = read_rows(rows, asked, context, JUSHITA)
    # On a day of several pages only `extend` decides: a page does not show who stands on the next.
    is_whole_day = is_last and page_number == 1
    chosen, undecided = choose(found, asked, is_whole_day=is_whole_day)
    return QueryPage(chosen, is_last, undecided, unreadable)


def _rows(data: Mapping[str, object]) -> list[object]:
    outer = data.get("values")
    # With `simplify`, which we do not ask for, the list is direct (T4).
    rows = outer.get("fc_partner_sms_detail_dto") if isinstance(outer, Mapping) else outer
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise unreadable_list("values")
    return rows
