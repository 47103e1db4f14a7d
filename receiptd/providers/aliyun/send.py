"""Calling SendSms and SendBatchSms: seeds S0, S1, S3. All limits are looked at before a call."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import Problem
from receiptd.providers import limits
from receiptd.providers.aliyun.query import open_client
from receiptd.providers.base import InvalidSend, SendApi, SendOrder
from receiptd.providers.orders import dialled, each, written
from receiptd.providers.sends import parsed

SEND_SMS_MOST = 1000
SEND_BATCH_SMS_MOST = 100


class Gateway(Protocol):
    """What is needed of `RpcClient`."""

    def ask(self, action: str, parameters: Mapping[str, str]) -> Mapping[str, object]:
        """Return the answer, a refusal too, or raise a SourceError; bounded in time."""
        ...

    def cancel(self) -> None:
        """End running calls at once and refuse later ones."""
        ...

    def close(self) -> None:
        """Release the connections."""
        ...


class _AliyunSend(ABC):
    """What the two APIs share. Owns `gateway`: `close` closes it."""

    action: str

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def send(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Call the API once, as SendApi says. A refusal is an answer, an HTTP status of 500 or
        more is none."""
        if problems := self.problems(request):
            raise InvalidSend(problems)
        return self._gateway.ask(self.action, {key: str(value) for key, value in request.items()})

    @abstractmethod
    def problems(self, request: Mapping[str, object]) -> list[Problem]:
        """Return what is wrong with the API's parameters; pure."""

    def cancel(self) -> None:
        """End running calls at once and refuse later ones. Safe from any thread."""
        self._gateway.cancel()

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        self._gateway.close()


class SendSms(_AliyunSend):
    """One text to up to 1,000 numbers."""

    action = "SendSms"

    def request(self, order: SendOrder) -> Mapping[str, object]:
        """Return the parameters of SendSms; raises InvalidSend."""
        problems = [
            Problem(place, "SendSms has one for all numbers", cure="use SendBatchSms")
            for place, given in (
                ("TemplateParam", order.params),
                ("SignName", order.sign_names),
                ("SmsUpExtendCode", order.extend_codes),
            )
            if len(given) > 1
        ]
        request: dict[str, object] = {
            "PhoneNumbers": ",".join(map(dialled, order.phones)),
            "SignName": order.sign_names[0] if order.sign_names else "",
            "TemplateCode": order.template_code,
        }
        if order.params:
            request["TemplateParam"] = written(order.params[0])
        if order.extend_codes:
            request["SmsUpExtendCode"] = order.extend_codes[0]
        return _checked(self, request, order, problems)

    def problems(self, request: Mapping[str, object]) -> list[Problem]:
        """Return what is wrong with the parameters of a SendSms (S0); pure."""
        joined = str(request.get("PhoneNumbers") or "")
        phones = joined.split(",") if joined else []
        found = [
            *limits.count("PhoneNumbers", phones, SEND_SMS_MOST),
            *limits.formats("PhoneNumbers", phones, limits.ANYWHERE),
            *limits.present(request, "SignName", "TemplateCode"),
            *limits.out_id("OutId", request.get("OutId")),
        ]
        if param := request.get("TemplateParam"):
            found += limits.variables(
                "TemplateParam", parsed(param) if isinstance(param, str) else None
            )
        if code := request.get("SmsUpExtendCode"):
            found += limits.extend_code("SmsUpExtendCode", code)
        return found


class SendBatchSms(_AliyunSend):
    """A text of its own to each of up to 100 numbers."""

    action = "SendBatchSms"

    def request(self, order: SendOrder) -> Mapping[str, object]:
        """Return the parameters of SendBatchSms; raises InvalidSend."""
        wanted = len(order.phones)
        params: Sequence[Mapping[str, str]] = order.params or [{}]
        problems = [
            *limits.per_number("SignNameJson", order.sign_names or [""], wanted),
            *limits.per_number("TemplateParamJson", params, wanted),
            *limits.per_number("SmsUpExtendCodeJson", order.extend_codes or [""], wanted),
        ]
        request: dict[str, object] = {
            "PhoneNumberJson": written(list(map(dialled, order.phones))),
            "SignNameJson": written(each(order.sign_names, wanted)),
            "TemplateCode": order.template_code,
            "TemplateParamJson": written(each(params, wanted)),
        }
        if order.extend_codes:
            request["SmsUpExtendCodeJson"] = written(each(order.extend_codes, wanted))
        return _checked(self, request, order, problems)

    def problems(self, request: Mapping[str, object]) -> list[Problem]:
        """Return what is wrong with the parameters of a SendBatchSms (S1, S3); pure."""
        phones, found = limits.json_array(request, "PhoneNumberJson")
        if not found:
            found += limits.count("PhoneNumberJson", phones, SEND_BATCH_SMS_MOST)
            found += limits.formats("PhoneNumberJson", phones, limits.ANYWHERE)
        found += limits.present(request, "TemplateCode")
        found += limits.out_id("OutId", request.get("OutId"))
        for place in ("SignNameJson", "TemplateParamJson", "SmsUpExtendCodeJson"):
            if place == "SmsUpExtendCodeJson" and place not in request:
                continue
            elements, flaws = limits.json_array(request, place)
            found += flaws
            if flaws:
                continue
            found += limits.same_length(place, elements, "PhoneNumberJson", len(phones))
            if place == "SignNameJson":
                found += limits.texts(place, elements)
            elif place == "SmsUpExtendCodeJson":
                found += limits.extend_codes(place, elements)
            else:
                for index, element in enumerate(elements):
                    found += limits.variables(f"{place}[{index}]", element)
        return found


def open_send(api: str, account: AccountSettings, clock: Clock) -> SendApi | None:
    """Return a client of SendSms or SendBatchSms, None for any other; no I/O."""
    kinds: dict[str, type[SendSms] | type[SendBatchSms]] = {
        kind.action: kind for kind in (SendSms, SendBatchSms)
    }
    kind = kinds.get(api)
    return None if kind is None else kind(open_client(account, clock))


def _checked(
    api: _AliyunSend, request: dict[str, object], order: SendOrder, problems: list[Problem]
) -> dict[str, object]:
    if order.out_id:
        request["OutId"] = order.out_id
    if problems := problems + api.problems(request):
        raise InvalidSend(problems)
    return request
