"""Every oddity is a file under tests/fixtures/<provider>/<kind>/; a new one needs no new code."""

import base64
import json
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest

from receiptd.errors import InvalidEnvelope
from receiptd.model import Notice, Origin, Receipt, Uplink
from receiptd.providers.aliyun import PROVIDER as ALIYUN
from receiptd.providers.base import Context, Provider
from receiptd.providers.decode import Part, decode
from receiptd.providers.jushita import PROVIDER as JUSHITA

ROOT = Path(__file__).parent.parent / "fixtures"
PROVIDERS = {"aliyun": ALIYUN, "jushita": JUSHITA}
TYPES = {
    "sms_report": "SmsReport",
    "international": "SmsReport",
    "globe": "GlobeSmsReport",
    "verify_report": "DypnsSmsVerifyReport",
    "sms_up": "SmsUp",
    "sign": "SignSmsReport",
    "template": "TemplateSmsReport",
    "sms": "sms",
}
Shown: TypeAlias = dict[str, object] | str

KINDS = {Receipt: "receipt", Uplink: "uplink", Notice: "notice"}
FILES = sorted(path for name in PROVIDERS for path in (ROOT / name).glob("*/*.json"))


def _body(case: dict[str, str]) -> bytes:
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    return case["body"].encode()


def _read(part: Part, provider: Provider, message_type: str) -> Shown:
    context = Context(provider.name, "main", Origin.QUEUE)
    try:
        if isinstance(part.data, InvalidEnvelope):
            raise part.data
        record = provider.normalizers[message_type](part.data, context)
    except InvalidEnvelope as error:
        return str(error)
    return {"kind": KINDS[type(record)], **msgspec.to_builtins(record)}


def _asked(found: Shown, expected: Shown) -> Shown:
    """Return of `found` the fields that the fixture speaks of."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return {field: found[field] for field in expected}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_body_becomes_what_its_fixture_says(path: Path) -> None:
    case = json.loads(path.read_text())
    provider = PROVIDERS[path.parts[-3]]
    message_type = TYPES[path.parts[-2]]
    expected = case["expect"]

    try:
        found = [_read(part, provider, message_type) for part in decode(_body(case))]
    except InvalidEnvelope as error:
        found = [str(error)]

    wanted = expected if isinstance(expected, list) else [expected]
    assert [_asked(one, of) for one, of in zip(found, wanted, strict=True)] == wanted


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_refusal_never_repeats_what_it_refuses(path: Path) -> None:
    case = json.loads(path.read_text())
    provider = PROVIDERS[path.parts[-3]]

    try:
        refusals = [_refusal(part.data, provider, path) for part in decode(_body(case))]
    except InvalidEnvelope as error:
        refusals = [error]

    for refusal in refusals:
        if refusal is not None:
            assert refusal.__cause__ is None
            assert refusal.__context__ is None
            assert "139" not in str(refusal)


def _refusal(
    data: dict[str, object] | InvalidEnvelope, provider: Provider, path: Path
) -> InvalidEnvelope | None:
    if isinstance(data, InvalidEnvelope):
        return data
    context = Context(provider.name, "main", Origin.QUEUE)
    try:
        provider.normalizers[TYPES[path.parts[-2]]](data, context)
    except InvalidEnvelope as error:
        return error
    return None


def test_there_are_enough_fixtures_and_each_says_why() -> None:
    assert len(FILES) >= 60
    for path in FILES:
        assert json.loads(path.read_text())["why"]
