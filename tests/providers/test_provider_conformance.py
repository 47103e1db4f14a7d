"""The provider suite, for the built-in providers, on every fixture that there is of them."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from receiptd.config import AccountSettings
from receiptd.errors import InvalidEnvelope
from receiptd.providers.aliyun import PROVIDER as ALIYUN
from receiptd.providers.decode import decode
from receiptd.providers.jushita import PROVIDER as JUSHITA
from receiptd.providers.polyv import PROVIDER as POLYV
from receiptd.testing.provider import MessageSample, ProviderConformance, Samples, SendSample
from tests.providers.test_fixtures import ROOT, TYPES

# Message types that are read as another one is, and so have no fixtures of their own.
ALIKE = {"jushita": ("TaFcSmsDR", "FcSmsDR", "FcSmsUp")}
KEYS: Mapping[str, Any] = {
    "access_key_id": "testAK",
    "access_key_secret": SecretStr("testSK"),
    "app_key": "12345678",
    "app_secret": SecretStr("topSecret"),
    "app_id": "exampleapp",
}


def messages(provider: str) -> Iterator[MessageSample]:
    """Yield each object of each fixture that is one."""
    alike = ALIKE.get(provider, ())
    for path in sorted((ROOT / provider).glob("*/*.json")):
        case = json.loads(path.read_text())
        body = case["body"].encode() if "body" in case else base64.b64decode(case["body_base64"])
        expected = case["expect"]
        try:
            parts = decode(body)
        except InvalidEnvelope:
            continue  # nothing comes to the provider
        meant = expected if isinstance(expected, list) else [expected]
        message_type = TYPES[path.parts[-2]]
        for part, means in zip(parts, meant, strict=True):
            if not isinstance(part.data, InvalidEnvelope):
                yield MessageSample(message_type, part.body, means)
                yield from (MessageSample(one, part.body, means) for one in alike)
                alike = ()


def sends(provider: str) -> Iterator[SendSample]:
    """Yield each fixture of a send."""
    for path in sorted((ROOT / "sends" / provider).glob("*/*.json")):
        case = json.loads(path.read_text())
        means = case["expect"]
        if not isinstance(means, str):
            means = [_without_our_ids(row) for row in means]
        yield SendSample(path.parts[-2], case["request"], case["response"], means)


def _without_our_ids(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if "<digest>" not in str(value)}


def samples_of(provider: Any) -> Samples:
    name = provider.name
    keys = {
        "aliyun": ("access_key_id", "access_key_secret"),
        "jushita": ("access_key_id", "access_key_secret", "app_key", "app_secret"),
        "polyv": ("app_id", "app_secret"),
    }
    account = AccountSettings(provider=name, **{key: KEYS[key] for key in keys[name]})
    return Samples(provider, account, list(messages(name)), list(sends(name)))


class TestAliyun(ProviderConformance):
    @pytest.fixture
    def samples(self) -> Samples:
        return samples_of(ALIYUN)


class TestJushita(ProviderConformance):
    @pytest.fixture
    def samples(self) -> Samples:
        return samples_of(JUSHITA)


class TestPolyv(ProviderConformance):
    @pytest.fixture
    def samples(self) -> Samples:
        return samples_of(POLYV)


def test_every_fixture_of_an_object_is_a_sample() -> None:
    objects = [path for path in ROOT.glob("*/*/*.json") if path.parts[-3] in ("aliyun", "jushita")]

    assert len(list(messages("aliyun"))) + len(list(messages("jushita"))) > len(objects) / 2
