"""What a token's answer must hold, and how long it lives."""

from datetime import UTC, datetime

import pytest

from receiptd.errors import SourceUnavailable
from receiptd.model import Credentials
from receiptd.providers.aliyun.rpc import RpcAnswer
from receiptd.providers.aliyun.token import read_token


def _answer(date: datetime | None = None, **changes: object) -> RpcAnswer:
    token: dict[str, object] = {
        "AccessKeyId": "STS.EXAMPLE",
        "AccessKeySecret": "secret",
        "SecurityToken": "token",
        "CreateTime": "2024-05-06 15:00:00",
        "ExpireTime": "2024-05-06 15:10:00",
        **changes,
    }
    return RpcAnswer({"Code": "OK", "MessageTokenDTO": token}, date)


@pytest.mark.parametrize(
    ("date", "changes", "lifetime_s"),
    [
        (None, {}, 600),  # CreateTime to ExpireTime
        (datetime(2024, 5, 6, 7, 4, tzinfo=UTC), {}, 360),  # a token made four minutes ago
        (datetime(2024, 5, 6, 8, 0, tzinfo=UTC), {}, 600),  # a Date beyond the end is a proxy's
        (datetime(1999, 1, 1, tzinfo=UTC), {}, 600),
        (None, {"CreateTime": "?"}, 600),  # assumed, as the Node SDK does
        (None, {"ExpireTime": "?"}, 600),
        (None, {"ExpireTime": None, "CreateTime": None}, 600),
        (None, {"ExpireTime": "2024-05-06 14:00:00"}, 600),
        (None, {"ExpireTime": "2024-05-06 16:00:00"}, 3600),
    ],
)
def test_a_lifetime_is_counted_on_the_servers_clock(
    date: datetime | None, changes: dict[str, object], lifetime_s: int
) -> None:
    answer = _answer(date, **changes)

    assert read_token(answer) == (Credentials("STS.EXAMPLE", "secret", "token"), lifetime_s)


@pytest.mark.parametrize("field", ["AccessKeyId", "AccessKeySecret", "SecurityToken"])
@pytest.mark.parametrize("value", ["", None, 1, "a\nb", "a b", "钥", "a\0"])
def test_a_token_with_a_hole_is_a_bad_answer(field: str, value: object) -> None:
    answer = _answer(None, **{field: value})

    with pytest.raises(SourceUnavailable, match="bad_answer"):
        read_token(answer)


@pytest.mark.parametrize("data", [{}, {"MessageTokenDTO": None}, {"MessageTokenDTO": []}])
def test_an_answer_without_a_token_is_a_bad_answer(data: dict[str, object]) -> None:
    with pytest.raises(SourceUnavailable, match="bad_answer"):
        read_token(RpcAnswer(data, None))
