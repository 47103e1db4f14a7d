"""QuerySendDetails and QuerySendStatistics: wire-formats 8.

Rows bear no BizId: they are this send's because the question named it. TotalCount is not looked at
(8.2: a real answer says 2 and holds none).
"""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Protocol

from receiptd.china import day_text
from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.model import Credentials, Origin
from receiptd.providers.aliyun.rpc import RpcAnswer, RpcClient
from receiptd.providers.answers import unreadable_list
from receiptd.providers.base import Asked, Context, DayCounts, QueryPage
from receiptd.providers.details import ALIYUN, read_rows
from receiptd.providers.matching import askable, choose
from receiptd.providers.sends import is_synthetic, told

ENDPOINT = "https://dysmsapi.aliyuncs.com"
VERSION = "2017-05-25"

PAGE_SIZE = 50  # the most that the API gives
# One number of one send has one row: a server that goes on for ever is not followed for ever.
PAGES_MAX = 20

# Mainland; Hong Kong, Macao, Taiwan and abroad. Our rows are of both.
_SCOPES = ("1", "2")


class Gateway(Protocol):
    """What is needed of `RpcClient`."""

    def call(self, action: str, parameters: Mapping[str, str]) -> RpcAnswer:
        """Return a good answer, or raise a SourceError; bounded in time."""
        ...

    def cancel(self) -> None:
        """End running calls at once and refuse later ones."""
        ...

    def close(self) -> None:
        """Release the connections."""
        ...


class AliyunQuery:
    """The QueryApi of an Aliyun account. Owns `gateway`: `close` closes it."""

    def __init__(self, gateway: Gateway, account: str) -> None:
        self._gateway = gateway
        self._context = Context("aliyun", account, Origin.QUERY)

    def page(self, asked: Asked, day: date, page_number: int) -> QueryPage:
        """Return a page of QuerySendDetails; as QueryApi says.

        A send that was never answered has no BizId: its row is the one with its OutId.
        """
        number = askable(asked.phone)
        if number is None:
            return QueryPage((), is_last=True)
        parameters = {
            "PhoneNumber": number,
            "SendDate": day_text(day),
            "PageSize": str(PAGE_SIZE),
            "CurrentPage": str(page_number),
        }
        if not is_synthetic(asked.biz_id):
            parameters["BizId"] = asked.biz_id
        answer = self._gateway.call("QuerySendDetails", parameters)
        return read_page(answer.data, asked, self._context, page_number)

    def statistics(self, day: date) -> DayCounts:
        """Return the counts of QuerySendStatistics, mainland and abroad together; as QueryApi
        says. Two calls, or more if the service splits a day into more than 50 rows."""
        counts = [0, 0, 0, 0]
        for scope in _SCOPES:
            for row in self._statistics_rows(scope, day):
                for index, key in enumerate(_COUNTS):
                    counts[index] += _count(row, key)
        return DayCounts(day, *counts)

    def cancel(self) -> None:
        """End running calls at once and refuse later ones. Safe from any thread."""
        self._gateway.cancel()

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        self._gateway.close()

    def _statistics_rows(self, scope: str, day: date) -> Iterator[Mapping[str, object]]:
        text_of_day = day_text(day)
        for page_number in range(1, PAGES_MAX + 1):
            parameters = {
                "IsGlobe": scope,
                "StartDate": text_of_day,
                "EndDate": text_of_day,
                "PageIndex": str(page_number),
                "PageSize": str(PAGE_SIZE),
            }
            rows = _targets(self._gateway.call("QuerySendStatistics", parameters).data)
            for row in rows:
                if not isinstance(row, Mapping):
                    raise unreadable_list("TargetList")
                # Only what is of the day: the documents spell it 20201010.
                if (told(row, "SendDate") or text_of_day).replace("-", "")[:8] == text_of_day:
                    yield row
            if len(rows) < PAGE_SIZE:
                return


def open_query(name: str, account: AccountSettings, clock: Clock) -> AliyunQuery:
    """Return the query client of `[accounts.<name>]`; no I/O."""
    return AliyunQuery(open_client(account, clock), name)


def open_client(account: AccountSettings, clock: Clock) -> RpcClient:
    """Return a client of an account's Dysmsapi; no I/O."""
    return RpcClient(
        account.endpoints.get("dysms") or ENDPOINT,
        VERSION,
        Credentials(account.access_key_id, account.access_key_secret.get_secret_value()),
        clock,
        region=account.region,
    )


def read_page(
    data: Mapping[str, object], asked: Asked, context: Context, page_number: int
) -> QueryPage:
    """Return what a good answer says about `asked`. Pure.

    The last page is one with fewer rows than asked for, an empty one included, or the twentieth.
    Raises SourceUnavailable(`bad_answer`) if there is a list of rows that is none; no list is no
    rows.
    """
    rows = _details(data)
    is_last = len(rows) < PAGE_SIZE or page_number >= PAGES_MAX
    found, unreadable = read_rows(rows, asked, context, ALIYUN)
    if not is_synthetic(asked.biz_id):
        # A row with another OutId: a gateway that did not heed the BizId.
        others = {one.receipt.out_id for one in found} - {None, asked.out_id}
        ours = [one for one in found if not asked.out_id or one.receipt.out_id not in others]
        return QueryPage(tuple(ours), is_last, unreadable=unreadable)
    is_whole_day = is_last and page_number == 1
    chosen, undecided = choose(found, asked, is_whole_day=is_whole_day)
    return QueryPage(chosen, is_last, undecided, unreadable)


def _details(data: Mapping[str, object]) -> list[object]:
    outer = data.get("SmsSendDetailDTOs")
    if outer is None:
        return []
    rows = outer.get("SmsSendDetailDTO") if isinstance(outer, Mapping) else outer
    if rows is None and isinstance(outer, Mapping):
        return []
    if not isinstance(outer, Mapping) or not isinstance(rows, list):
        raise unreadable_list("SmsSendDetailDTOs")
    return rows


# Of a row of QuerySendStatistics, in the order of DayCounts.
_COUNTS = ("TotalCount", "RespondedSuccessCount", "RespondedFailCount", "NoRespondedCount")


def _targets(data: Mapping[str, object]) -> list[object]:
    outer = data.get("Data")
    rows = outer.get("TargetList") if isinstance(outer, Mapping) else outer
    if rows is None:
        return []
    if not isinstance(rows, list) or not isinstance(outer, Mapping):
        raise unreadable_list("TargetList")
    return rows


def _count(row: Mapping[str, object], key: str) -> int:
    found = told(row, key)
    if found is None or not (found.isascii() and found.isdigit()):
        raise unreadable_list(key)
    return int(found)
