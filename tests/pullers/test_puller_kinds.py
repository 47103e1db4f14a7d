"""What the built-in kinds say about a configuration, and what they open."""

from importlib.metadata import entry_points
from typing import Any

import pytest

from receiptd.clock import SystemClock
from receiptd.config import AccountSettings, SourceSettings
from receiptd.pullers.base import PullerKind
from receiptd.pullers.broker import LANES
from receiptd.pullers.checks import parse_endpoint
from receiptd.pullers.mns import KIND as MNS
from receiptd.pullers.mns import TOKEN_ENDPOINT
from receiptd.pullers.rocketmq import KIND as ROCKETMQ
from tests.pullers.puller_harness import KeyRing

ACCOUNT = AccountSettings(provider="aliyun")
GOOD_MNS: dict[str, Any] = {
    "puller": "mns",
    "account": "main",
    "queue": "My-Queue.1_a",
    "endpoint": "http://h",
}
GOOD_ROCKETMQ: dict[str, Any] = {
    "puller": "rocketmq",
    "account": "shop",
    "endpoint": "https://1.mqrest.cn-hangzhou.aliyuncs.com",
    "topic": "jst-sms-report",
    "group": "GID_receiptd",
}


def places(kind: PullerKind, values: dict[str, Any], **changes: Any) -> list[str]:
    source = SourceSettings(**{**values, **changes})
    return [problem.place for problem in kind.problems("x", source, ACCOUNT)]


def open_with(kind: PullerKind, values: dict[str, Any], account: AccountSettings = ACCOUNT) -> Any:
    return kind.open("x", SourceSettings(**values), account, KeyRing(), SystemClock())


@pytest.mark.parametrize(("kind", "values"), [(MNS, GOOD_MNS), (ROCKETMQ, GOOD_ROCKETMQ)])
def test_a_good_configuration_has_no_problem_and_opens(
    kind: PullerKind, values: dict[str, Any]
) -> None:
    assert places(kind, values) == []
    puller = open_with(kind, values)
    puller.close()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"queue": ""}, ["sources.x.queue"]),
        ({"queue": "a b"}, ["sources.x.queue"]),
        ({"queue": "a?b=c"}, ["sources.x.queue"]),
        ({"queue": "../x"}, ["sources.x.queue"]),
        ({"queue": ".."}, ["sources.x.queue"]),
        ({"queue": "队列"}, ["sources.x.queue"]),
        ({"queue": "q\n"}, ["sources.x.queue"]),
        ({"queue": "q" * 257}, ["sources.x.queue"]),
        ({"endpoint": "127.0.0.1:1"}, ["sources.x.endpoint"]),
        ({"credentials": "token"}, ["sources.x.message_type"]),
        ({"credentials": "token", "message_type": "SmsReport", "endpoint": ""}, []),
        ({"queue": "", "endpoint": "ftp://x"}, ["sources.x.queue", "sources.x.endpoint"]),
    ],
)
def test_each_problem_of_an_mns_source_names_its_key(
    changes: dict[str, Any], expected: list[str]
) -> None:
    assert places(MNS, GOOD_MNS, **changes) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"topic": "", "group": ""}, ["sources.x.topic", "sources.x.group"]),
        ({"endpoint": ""}, ["sources.x.endpoint"]),
        ({"endpoint": "https://x/path"}, ["sources.x.endpoint"]),
        ({"topic": "a&b"}, ["sources.x.topic"]),
        ({"group": "GID x"}, ["sources.x.group"]),
        ({"instance_id": "a=b"}, ["sources.x.instance_id"]),
        ({"instance_id": "MQ_INST_1_abc", "tag": "A||B"}, []),
        ({"tag": "t" * 65}, ["sources.x.tag"]),
        ({"tag": "a\nb"}, ["sources.x.tag"]),
        ({"credentials": "token"}, ["sources.x.credentials"]),
    ],
)
def test_each_problem_of_a_rocketmq_source_names_its_key(
    changes: dict[str, Any], expected: list[str]
) -> None:
    assert places(ROCKETMQ, GOOD_ROCKETMQ, **changes) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "HTTP//h",
        "127.0.0.1:1",
        "http://",
        "http:///x",
        "http://h/path",
        "http://h//",
        "http://h?x",
        "http://h/?",
        "http://h#x",
        "http://h:0",
        "http://h:99999",
        "http://h:x",
        "http://h:",
        "http://a b",
        "http://h\n",
        "http://用户",
        "http://-h",
        "http://h\\x",
        "http://user:secret@h",
        "ftp://h",
    ],
)
def test_an_endpoint_is_scheme_host_and_perhaps_a_port(url: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_endpoint(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", (False, "h", 80, "h")),
        ("https://h/", (True, "h", 443, "h")),
        ("http://127.0.0.1:8700", (False, "127.0.0.1", 8700, "127.0.0.1:8700")),
        ("https://[::1]:8443", (True, "::1", 8443, "[::1]:8443")),
    ],
)
def test_a_good_endpoint_is_taken_apart(url: str, expected: tuple[object, ...]) -> None:
    endpoint = parse_endpoint(url)
    assert (endpoint.https, endpoint.host, endpoint.port, endpoint.netloc) == expected


def test_a_problem_does_not_repeat_a_password_in_an_endpoint() -> None:
    source = SourceSettings(puller="mns", account="a", queue="q", endpoint="http://me:hunter2@h")
    (problem,) = MNS.problems("x", source, ACCOUNT)
    assert "hunter2" not in str(problem)


def test_an_mns_endpoint_comes_from_the_source_then_the_account_then_the_vendor() -> None:
    account = AccountSettings(provider="aliyun", endpoints={"mns": "http://account"})
    token = {**GOOD_MNS, "credentials": "token", "message_type": "SmsReport"}

    hosts = [
        open_with(MNS, token, account)._broker._lanes[0]._host,
        open_with(MNS, {**token, "endpoint": ""}, account)._broker._lanes[0]._host,
        open_with(MNS, {**token, "endpoint": ""})._broker._lanes[0]._host,
    ]

    assert hosts == ["h", "account", TOKEN_ENDPOINT.removeprefix("https://")]


@pytest.mark.parametrize("endpoint", ["", "nonsense"])
def test_a_queue_of_ones_own_needs_a_usable_endpoint(endpoint: str) -> None:
    account = AccountSettings(provider="aliyun", endpoints={"mns": endpoint})
    source = SourceSettings(**{**GOOD_MNS, "endpoint": ""})
    (problem,) = MNS.problems("x", source, account)
    assert problem.place == "sources.x.endpoint"


@pytest.mark.parametrize(("name", "kind"), [("mns", MNS), ("rocketmq", ROCKETMQ)])
def test_the_built_in_pullers_are_found_by_the_door_of_third_parties(
    name: str, kind: object
) -> None:
    (entry,) = entry_points(group="receiptd.pullers", name=name)
    assert entry.load() is kind


@pytest.mark.parametrize(
    ("kind", "values", "threads", "lanes"),
    [
        (ROCKETMQ, GOOD_ROCKETMQ, 2, LANES),
        (ROCKETMQ, GOOD_ROCKETMQ, 25, LANES),
        (ROCKETMQ, GOOD_ROCKETMQ, 40, 2),
        (ROCKETMQ, GOOD_ROCKETMQ, 256, 1),
        (MNS, GOOD_MNS, 64, LANES),
        (MNS, GOOD_MNS, 256, 1),
    ],
)
def test_the_more_threads_a_source_has_the_fewer_connections_has_each(
    kind: PullerKind, values: dict[str, Any], threads: int, lanes: int
) -> None:
    puller = open_with(kind, {**values, "threads": threads})

    assert len(puller._broker._lanes) == lanes
