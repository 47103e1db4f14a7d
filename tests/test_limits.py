"""What a normalizer lets pass fits its column: no receipt is quarantined for a length that both
sides could have agreed on."""

import json

import pytest

from receiptd.clock import SystemClock
from receiptd.model import Origin
from receiptd.pipeline import Pipeline
from receiptd.providers.aliyun import PROVIDER as ALIYUN
from receiptd.providers.base import Context
from receiptd.providers.fields import (
    BIZ_ID_MAX,
    CODE_MAX,
    MESSAGE_MAX,
    NAME_MAX,
    OUT_ID_MAX,
    PHONE_MAX,
    TEXT_MAX,
)
from receiptd.providers.jushita import PROVIDER as JUSHITA
from receiptd.store import journal, open_store
from tests.fakes import envelope

LONGEST = {
    "SmsReport": (
        ALIYUN,
        {
            "phone_number": "*" * PHONE_MAX,
            "success": False,
            "biz_id": "界" * BIZ_ID_MAX,
            "out_id": "界" * OUT_ID_MAX,
            "err_code": "界" * CODE_MAX,
            "err_msg": "界" * (3 * MESSAGE_MAX),
        },
    ),
    "SmsUp": (
        ALIYUN,
        {
            "phone_number": "*" * PHONE_MAX,
            "content": "界" * TEXT_MAX,
            "dest_code": "1" * CODE_MAX,
            "sign_name": "界" * NAME_MAX,
            "sequence_id": "1" * BIZ_ID_MAX,
            "send_time": "2026-05-06 15:20:00",
        },
    ),
    "SignSmsReport": (
        ALIYUN,
        {
            "sign_name": "界" * NAME_MAX,
            "sign_status": "a" * CODE_MAX,
            "reason": "界" * TEXT_MAX,
            "order_id": "1" * BIZ_ID_MAX,
        },
    ),
    "TemplateSmsReport": (
        ALIYUN,
        {
            "template_name": "界" * NAME_MAX,
            "template_code": "S" * NAME_MAX,
            "template_status": "a" * CODE_MAX,
            "reason": "界" * TEXT_MAX,
            "orderId": "1" * BIZ_ID_MAX,
        },
    ),
    "sms": (
        JUSHITA,
        {
            "biz_id": "界" * BIZ_ID_MAX,
            "state": "2",
            "receiver": "*" * PHONE_MAX,
            "err_code": "界" * CODE_MAX,
            "extend": "界" * OUT_ID_MAX,
        },
    ),
}


@pytest.mark.parametrize("message_type", LONGEST)
def test_the_longest_values_that_a_normalizer_takes_are_stored(tmp_path, message_type):
    provider, body = LONGEST[message_type]
    store = open_store(f"sqlite:///{tmp_path}/limits.db", SystemClock())
    store.upgrade()
    pipeline = Pipeline(
        context=Context(provider=provider.name, account="a" * 64, origin=Origin.QUEUE),
        normalize=provider.normalizers[message_type],
        store=store,
        clock=SystemClock(),
    )

    processed = pipeline.process([envelope(json.dumps(body, ensure_ascii=False).encode())])
    with store.reading() as connection:
        reasons = journal.by_reason(connection)
    store.close()

    assert reasons == {}
    assert processed.changed == 1
