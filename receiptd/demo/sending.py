"""Sends the SMS, as an application would: through SendSms, SendBatchSms and Jushita."""

import itertools
import json
import random
import threading
from collections.abc import Iterator

from receiptd.demo.account import Sent
from receiptd.phone import to_e164
from receiptd.providers.aliyun.rpc import RpcClient
from receiptd.sandbox import Sandbox

_SEND_SMS_NUMBERS = 10  # a call; the API takes up to 1,000
_BATCH_NUMBERS = 25  # a call; the API takes up to 100
_PAUSE_S = 0.1  # between two calls, so that there is something to see


class Sending(threading.Thread):
    """Sends `total` SMS, two fifths by SendSms, two by SendBatchSms, one by Jushita, in turn."""

    def __init__(self, sandbox: Sandbox, client: RpcClient, total: int, seed: int) -> None:
        super().__init__(name="sending", daemon=True)
        self._sandbox = sandbox
        self._client = client
        self._total = total
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._apis: dict[str, str] = {}
        self.stopping = threading.Event()
        self.error: Exception | None = None

    @property
    def sent(self) -> list[Sent]:
        """What was sent so far, with the fate that the sandbox decided."""
        with self._lock:
            apis = dict(self._apis)
        return [
            Sent(
                api=apis[one.biz_id],
                provider="jushita" if apis[one.biz_id] == "Jushita" else "aliyun",
                account="shop" if apis[one.biz_id] == "Jushita" else "main",
                biz_id=one.biz_id,
                phone=to_e164(one.phone),
                fate=one.fate,
            )
            for one in self._sandbox.sends
            if one.biz_id in apis
        ]

    def run(self) -> None:
        """Send until all are sent; what goes wrong is kept in `error`."""
        try:
            self._send_all()
        except Exception as exc:  # shown by the demonstration, which then ends
            self.error = exc

    def _send_all(self) -> None:
        left = {
            "SendSms": self._total * 2 // 5,
            "SendBatchSms": self._total * 2 // 5,
        }
        left["Jushita"] = self._total - sum(left.values())
        phones = self._phones()
        sends = {"SendSms": self._sms, "SendBatchSms": self._batch, "Jushita": self._jushita}
        for number in itertools.count(1):
            for api, send in sends.items():
                size = min(left[api], _SEND_SMS_NUMBERS if api == "SendSms" else _BATCH_NUMBERS)
                if size == 0:
                    continue
                biz_id = send(list(itertools.islice(phones, size)), f"order-{number}")
                left[api] -= size
                with self._lock:
                    self._apis[biz_id] = api
            if not any(left.values()) or self.stopping.wait(_PAUSE_S):
                return

    def _phones(self) -> Iterator[str]:
        for number in itertools.count(1):
            yield f"{self._chance.choice(('136', '139', '158', '186', '199'))}{number:08d}"

    def _sms(self, phones: list[str], out_id: str) -> str:
        answer = self._client.call(
            "SendSms",
            {
                "PhoneNumbers": ",".join(phones),
                "SignName": "示例",
                "TemplateCode": "SMS_1",
                "TemplateParam": json.dumps({"code": "1234"}),
                "OutId": out_id,
            },
        )
        return str(answer.data["BizId"])

    def _batch(self, phones: list[str], out_id: str) -> str:
        answer = self._client.call(
            "SendBatchSms",
            {
                "PhoneNumberJson": json.dumps(phones),
                "SignNameJson": json.dumps(["示例"] * len(phones), ensure_ascii=False),
                "TemplateCode": "SMS_1",
                "TemplateParamJson": json.dumps([{"code": "1234"}] * len(phones)),
            },
        )
        return str(answer.data["BizId"])

    def _jushita(self, phones: list[str], out_id: str) -> str:
        return self._sandbox.send_sms(phones, out_id=out_id, jushita=True)
