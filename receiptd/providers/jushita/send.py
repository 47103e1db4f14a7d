"""Calling taobao.jst.sms.message.direct.batchsend: wire-formats 7.5, seed S4."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import Problem
from receiptd.providers import limits
from receiptd.providers.base import InvalidSend, SendOrder
from receiptd.providers.jushita.top import open_client
from receiptd.providers.orders import dialled, each, written

METHOD = "taobao.jst.sms.message.direct.batchsend"
MOST = 200


class Gateway(Protocol):
    """What is needed of `TopClient`."""

    def ask(self, method: str, parameters: Mapping[str, str]) -> Mapping[str, object]:
        """Return the answer, a refusal too, or raise a SourceError; bounded in time."""
        ...

    def cancel(self) -> None:
        """End running calls at once and refuse later ones."""
        ...

    def close(self) -> None:
        """Release the connections."""
        ...


class JushitaSend:
    """A text of its own to each of up to 200 numbers. Owns `gateway`: `close` closes it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def request(self, order: SendOrder) -> Mapping[str, object]:
        """Return the parameters of batchsend; raises InvalidSend.

        The out_id goes into `extend`, which the documents of this method do not list: TOP passes
        over what it does not know, and receipts echo `extend` where it is known.
        """
        wanted = len(order.phones)
        params: Sequence[Mapping[str, str]] = order.params or [{}]
        found = [
            *limits.per_number("sms_content", params, wanted),
            *limits.per_number("extend_num", order.extend_codes or [""], wanted),
        ]
        if len(order.sign_names) > 1:
            found.append(
                Problem("sign_name", "is one for all numbers", cure="send in several calls")
            )
        request: dict[str, object] = {
            "sign_name": order.sign_names[0] if order.sign_names else "",
            "sms_template_code": order.template_code,
            "rec_num": written(list(map(dialled, order.phones))),
            "sms_content": written(each(params, wanted)),
        }
        if order.extend_codes:
            request["extend_num"] = written(each(order.extend_codes, wanted))
        if order.out_id:
            request["extend"] = order.out_id
        if found := found + self.problems(request):
            raise InvalidSend(found)
        return request

    def problems(self, request: Mapping[str, object]) -> list[Problem]:
        """Return what is wrong with the parameters of a batchsend to numbers; pure."""
        phones, found = limits.json_array(request, "rec_num")
        if not found:
            found += limits.count("rec_num", phones, MOST)
            found += limits.formats("rec_num", phones, limits.MAINLAND)
        found += limits.present(request, "sign_name", "sms_template_code")
        found += limits.out_id("extend", request.get("extend"))
        for place in ("sms_content", "extend_num"):
            if place not in request and place == "extend_num":
                continue
            elements, flaws = limits.json_array(request, place)
            found += flaws
            if flaws:
                continue
            found += limits.same_length(place, elements, "rec_num", len(phones))
            if place == "extend_num":
                found += limits.extend_codes(place, elements)
            else:
                for index, element in enumerate(elements):
                    found += limits.variables(f"{place}[{index}]", element)
        return found

    def send(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Call batchsend once, as SendApi says. An `error_response` is an answer."""
        if problems := self.problems(request):
            raise InvalidSend(problems)
        return self._gateway.ask(METHOD, {key: str(value) for key, value in request.items()})

    def cancel(self) -> None:
        """End running calls at once and refuse later ones. Safe from any thread."""
        self._gateway.cancel()

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        self._gateway.close()


def open_send(account: AccountSettings, clock: Clock) -> JushitaSend:
    """Return a client of batchsend; no I/O."""
    return JushitaSend(open_client(account, clock))
