"""What the query APIs answer, one file per oddity under tests/fixtures/queries/<provider>/."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from receiptd.errors import SourceUnavailable
from receiptd.model import Origin
from receiptd.providers.aliyun.query import read_page as read_details
from receiptd.providers.base import Asked, Context, QueryPage
from receiptd.providers.jushita.query import read_page

ROOT = Path(__file__).parent.parent / "fixtures" / "queries"
FILES = sorted(ROOT.glob("*/*.json"))
READERS = {"aliyun": read_details, "jushita": read_page}


def read(path: Path) -> QueryPage:
    case = json.loads(path.read_text())
    asked = case["asked"]
    asked["submitted_at"] = datetime.fromisoformat(asked["submitted_at"])
    provider = path.parts[-2]
    context = Context(provider, "main", Origin.QUERY)
    return READERS[provider](case["answer"], Asked(**asked), context, case["page_number"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_answer_says_what_its_fixture_says(path: Path) -> None:
    expected = json.loads(path.read_text())["expect"]

    if isinstance(expected, str):
        with pytest.raises(SourceUnavailable) as caught:
            read(path)
        assert caught.value.code == expected
        assert "139" not in str(caught.value)
        return

    page = msgspec.to_builtins(read(path))
    receipts = [
        {field: row["receipt"][field] for field in of}
        for row, of in zip(page.pop("found"), expected["receipts"], strict=True)
    ]
    assert {**page, "receipts": receipts} == expected


def test_a_row_is_kept_as_the_provider_wrote_it() -> None:
    answer = {"SmsSendDetailDTOs": {"SmsSendDetailDTO": [{"SendStatus": 3, "新": "字段"}]}}
    asked = Asked(biz_id="9", phone="+8613900000001", submitted_at=datetime(2026, 1, 1, tzinfo=UTC))

    page = read_details(answer, asked, Context("aliyun", "main", Origin.QUERY), 1)

    assert [json.loads(one.body) for one in page.found] == [{"SendStatus": 3, "新": "字段"}]


def test_every_fixture_says_why() -> None:
    assert len(FILES) >= 50
    for path in FILES:
        assert json.loads(path.read_text())["why"]
