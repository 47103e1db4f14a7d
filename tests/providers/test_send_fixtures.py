"""Every oddity of a send is a file under tests/fixtures/sends/<provider>/<api>/; a new one needs no
new code."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from receiptd.errors import InvalidEnvelope
from receiptd.model import Origin, Receipt
from receiptd.providers.aliyun import PROVIDER as ALIYUN
from receiptd.providers.base import Context
from receiptd.providers.jushita import PROVIDER as JUSHITA
from receiptd.providers.polyv import PROVIDER as POLYV

ROOT = Path(__file__).parent.parent / "fixtures" / "sends"
PROVIDERS = {provider.name: provider for provider in (ALIYUN, JUSHITA, POLYV)}
FILES = sorted(ROOT.glob("*/*/*.json"))
SUBMITTED_AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
DIGEST = re.compile(r":[0-9a-f]{32}$")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(path: Path, submitted_at: datetime = SUBMITTED_AT) -> list[Receipt]:
    case = json.loads(path.read_text())
    provider = PROVIDERS[path.parts[-3]]
    context = Context(provider.receipts_provider, "main", Origin.SEND)
    reader = provider.send_readers[path.parts[-2]]
    return reader(case["request"], case["response"], context, submitted_at)


def shown(row: Receipt, asked: dict[str, object]) -> dict[str, object]:
    fields = msgspec.to_builtins(row)
    fields["biz_id"] = DIGEST.sub(":<digest>", fields["biz_id"])
    return {field: fields[field] for field in asked}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_send_becomes_the_rows_that_its_fixture_says(path: Path) -> None:
    expected = json.loads(path.read_text())["expect"]

    if isinstance(expected, str):
        with pytest.raises(InvalidEnvelope) as caught:
            read(path)
        assert str(caught.value) == expected
        assert caught.value.__context__ is None
        return

    rows = read(path)
    assert [shown(row, of) for row, of in zip(rows, expected, strict=True)] == expected


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_same_pair_recorded_twice_makes_the_same_rows(path: Path) -> None:
    case = json.loads(path.read_text())
    if isinstance(case["expect"], str):
        return
    provider = PROVIDERS[path.parts[-3]]
    backwards = dict(reversed(case["request"].items()))
    context = Context(provider.receipts_provider, "main", Origin.SEND)

    again = provider.send_readers[path.parts[-2]](
        backwards, case["response"], context, SUBMITTED_AT
    )

    assert again == read(path)


def test_two_unanswered_tries_of_one_request_are_two_rows() -> None:
    path = ROOT / "aliyun" / "SendSms" / "timed_out.json"
    (first,) = read(path)
    (second,) = read(path, SUBMITTED_AT.replace(second=10))

    assert first.biz_id != second.biz_id


def test_there_are_enough_fixtures_and_each_says_why() -> None:
    assert len(FILES) >= 60
    for path in FILES:
        assert json.loads(path.read_text())["why"]


def test_every_reader_has_fixtures() -> None:
    readers = {(p.name, api) for p in PROVIDERS.values() for api in p.send_readers}

    assert readers == {(path.parts[-3], path.parts[-2]) for path in FILES}
