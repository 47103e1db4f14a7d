"""`check --online`: each step against real servers on loopback, with all that can be wrong."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from receiptd import assembly
from receiptd.clock import SystemClock
from receiptd.config import Settings
from receiptd.config.loading import load
from receiptd.online import Branch, Fault, Outcome, Step, check_online
from receiptd.online.messages import name_problem
from receiptd.sandbox import Fault as Misbehaviour
from receiptd.sandbox import Sandbox
from receiptd.sandbox.configuration import config_toml
from tests.pullers.puller_harness import server_tls, trust_the_authority

PATIENCE_S = 20.0  # where no deadline is tested: no busy machine may fail it
DEADLINE_S = 0.3
PHONE = "13900000001"
UPLINK = (
    '{"dest_code":"1","send_time":"2026-05-06 15:20:00","sequence_id":5,'
    f'"phone_number":"{PHONE}","content":"TD"}}'
)
GOOD = {Outcome.OK, Outcome.SKIP}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def settings(folder: Path, url: str, **changes: Any) -> Settings:
    """Return what the sandbox prints as its configuration, changed."""
    path = folder / "config.toml"
    path.write_text(config_toml(url, **changes))
    return load(path, {})


def visit(found: Settings, seconds: float = PATIENCE_S) -> list[Branch]:
    clock = SystemClock()
    return list(check_online(found.accounts, assembly.plan(found, clock), clock, seconds))


def steps(branches: list[Branch]) -> dict[str, Step]:
    """Return all steps by `name service step`."""
    return {
        f"{branch.name} {branch.service} {step.name}": step
        for branch in branches
        for step in branch.steps
    }


def outcomes(branches: list[Branch], *names: str) -> list[Outcome]:
    found = steps(branches)
    return [found[name].verdict.outcome for name in names]


def failed(branches: list[Branch]) -> dict[str, Fault | None]:
    return {name: step.verdict.fault for name, step in steps(branches).items() if step.failed}


def test_all_is_well_and_nothing_is_taken_or_sent(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.send_sms([PHONE])
    sandbox.publish_mq(sandbox.topic, "{}")
    found = steps(visit(settings(tmp_path, sandbox.url, with_polyv=True)))

    assert {step.verdict.outcome for step in found.values()} <= GOOD
    for name in ("main query connect", "main query clock", "main query details"):
        assert found[name].verdict.outcome is Outcome.OK
    for name in ("sms_report token token", "sms_report queue queue", "jushita queue queue"):
        assert found[name].verdict.outcome is Outcome.OK
    assert found["sms_report queue messages"].verdict.detail == (
        "1 of 1 peeked messages fit message_type"
    )
    assert found["live send permission"].verdict.outcome is Outcome.SKIP
    assert sandbox.deliveries == {}
    assert sandbox.depth(sandbox.queue("SmsReport")) == 1
    assert not {"receive", "consume", "send_sms", "top_send", "polyv_send"} & set(
        sandbox.request_counts
    )


def test_a_service_that_several_use_is_reached_once(sandbox: Sandbox, tmp_path: Path) -> None:
    branches = visit(settings(tmp_path, sandbox.url))

    assert [step.name for step in branches[0].steps[:3]] == ["name", "connect", "clock"]
    assert sum(step.name == "connect" for branch in branches for step in branch.steps) == 1


@pytest.mark.parametrize(
    ("key", "code", "cure"),
    [
        ({"access_key_secret": "wrong"}, "SignatureDoesNotMatch", "access_key_secret"),
        ({"access_key_id": "nobody"}, "InvalidAccessKeyId", "does not exist or is disabled"),
    ],
)
def test_a_wrong_key_is_told_where_it_is_used(
    sandbox: Sandbox, tmp_path: Path, key: dict[str, str], code: str, cure: str
) -> None:
    branches = visit(settings(tmp_path, sandbox.url, **key))

    found = steps(branches)
    bad = ("main query details", "sms_report token token", "jushita queue queue")
    assert set(bad) <= set(failed(branches))
    assert set(failed(branches).values()) == {Fault.CREDENTIALS}
    for name in bad:
        assert code in found[name].verdict.detail
        assert cure in found[name].verdict.cure
    assert found["sms_report queue queue"].verdict.detail == "skipped: no token"
    assert found["shop query details"].verdict.outcome is Outcome.OK


def test_a_wrong_secret_of_top_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    branches = visit(settings(tmp_path, sandbox.url, app_secret="wrong"))

    assert failed(branches) == {"shop query details": Fault.CREDENTIALS}


def test_a_missing_right_is_told_with_the_policy_to_give(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.set_fault(Misbehaviour.error("isp.RAM_PERMISSION_DENY", "token"))

    branches = visit(settings(tmp_path, sandbox.url))

    assert failed(branches)["sms_report token token"] is Fault.CREDENTIALS
    assert "AliyunDysmsFullAccess" in steps(branches)["sms_report token token"].verdict.cure


def test_a_refusal_of_the_made_up_number_is_no_fault(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.set_fault(Misbehaviour.error("isv.INVALID_PARAMETERS", "query_details"))
    branches = visit(settings(tmp_path, sandbox.url))

    assert failed(branches) == {}
    assert "isv.INVALID_PARAMETERS" in steps(branches)["main query details"].verdict.detail


@pytest.mark.parametrize(
    ("skew_s", "outcome"), [(30, Outcome.OK), (-120, Outcome.WARN), (120, Outcome.WARN)]
)
def test_a_clock_that_is_somewhat_off_is_a_warning(
    sandbox: Sandbox, tmp_path: Path, skew_s: int, outcome: Outcome
) -> None:
    sandbox.skew_s = skew_s
    branches = visit(settings(tmp_path, sandbox.url))

    assert outcomes(branches, "main query clock", "main query details") == [outcome, Outcome.OK]


@pytest.mark.parametrize("skew_s", [-1200, 1200])
def test_a_clock_that_is_far_off_fails_and_everything_behind_it_is_skipped(
    sandbox: Sandbox, tmp_path: Path, skew_s: int
) -> None:
    sandbox.skew_s = skew_s
    branches = visit(settings(tmp_path, sandbox.url))

    verdict = steps(branches)["main query clock"].verdict
    assert failed(branches) == {"main query clock": Fault.CONFIGURATION}
    assert verdict.cure == "set the clock: timedatectl set-ntp true"
    assert f"clock is {'-' if skew_s > 0 else '+'}1" in verdict.detail
    assert steps(branches)["sms_report queue queue"].verdict.detail == "skipped: clock failed"
    assert sum(sandbox.request_counts.values()) == 1


def test_a_missing_queue_and_a_missing_topic_are_of_the_configuration(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    changes = {"queue_prefix": "Alicom-Queue-1-", "topic": "no-such-topic"}
    branches = visit(settings(tmp_path, sandbox.url, **changes))

    found = steps(branches)
    assert failed(branches) == {
        "sms_report queue queue": Fault.CONFIGURATION,
        "sms_up queue queue": Fault.CONFIGURATION,
        "jushita queue queue": Fault.CONFIGURATION,
    }
    assert "QueueNotExist, http 404" in found["sms_report queue queue"].verdict.detail
    assert "消息接收" in found["sms_report queue queue"].verdict.cure
    assert "instance_id" in found["jushita queue queue"].verdict.cure
    assert found["jushita queue messages"].verdict.detail == "skipped: queue failed"


def test_a_queue_with_messages_of_another_type_is_told_by_name(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.send_mns(sandbox.queue("SmsReport"), UPLINK)
    branches = visit(settings(tmp_path, sandbox.url))

    verdict = steps(branches)["sms_report queue messages"].verdict
    assert failed(branches) == {"sms_report queue messages": Fault.CONFIGURATION}
    assert verdict.detail == "the queue holds SmsUp, but message_type is SmsReport"


def test_messages_that_nobody_can_read_are_a_warning(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.send_sms([PHONE])
    sandbox.send_mns(sandbox.queue("SmsReport"), b"plain", encode=False)
    sandbox.send_mns(sandbox.queue("SmsReport"), b"no json")
    branches = visit(settings(tmp_path, sandbox.url))

    verdict = steps(branches)["sms_report queue messages"].verdict
    assert verdict.outcome is Outcome.WARN
    assert verdict.detail == "2 of 3 peeked messages cannot be read"


def test_a_key_that_may_read_but_not_peek_is_accepted(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.set_fault(Misbehaviour.error("AccessDenied", "peek"))
    branches = visit(settings(tmp_path, sandbox.url))

    assert failed(branches) == {}
    assert outcomes(branches, "sms_report queue queue", "sms_report queue messages") == [
        Outcome.OK,
        Outcome.SKIP,
    ]


def test_a_key_that_may_neither_peek_nor_delete_is_refused(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.set_fault(Misbehaviour.error("AccessDenied", "mns"))
    branches = visit(settings(tmp_path, sandbox.url))

    assert failed(branches)["sms_report queue queue"] is Fault.CREDENTIALS
    assert "message_type" in steps(branches)["sms_report queue queue"].verdict.cure


def test_one_message_of_another_type_among_others_is_a_warning(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.send_sms([PHONE])
    sandbox.send_mns(sandbox.queue("SmsReport"), UPLINK)
    branches = visit(settings(tmp_path, sandbox.url))

    verdict = steps(branches)["sms_report queue messages"].verdict
    assert verdict.outcome is Outcome.WARN
    assert verdict.detail == "1 of 2 peeked messages are SmsUp"


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        (Misbehaviour.html(502, ("rpc", "mns", "mq", "top")), "bad_answer"),
        (Misbehaviour.portal(("rpc", "mns", "mq", "top")), "bad_answer"),
        (Misbehaviour.error("InternalError", ("mns", "mq"), status=500), "InternalError"),
        (Misbehaviour.error("QpsLimitExceeded", ("mns", "mq")), "QpsLimitExceeded"),
        (Misbehaviour.error("Throttling.User", ("token", "query_details")), "Throttling.User"),
        (Misbehaviour.build("reset", ("query_details", "peek")), ""),
    ],
)
def test_what_passes_by_itself_is_of_the_network(
    sandbox: Sandbox, tmp_path: Path, fault: Misbehaviour, detail: str
) -> None:
    sandbox.set_fault(fault)
    branches = visit(settings(tmp_path, sandbox.url))

    assert failed(branches)
    assert set(failed(branches).values()) == {Fault.NETWORK}
    assert all(detail in step.verdict.detail for step in steps(branches).values() if step.failed)
    assert all(step.verdict.cure for step in steps(branches).values() if step.failed and detail)


def test_a_service_that_hangs_is_left_after_the_timeout(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.set_fault(Misbehaviour.build("hang", ("token", "query", "peek", "ack")))
    branches = visit(settings(tmp_path, sandbox.url), DEADLINE_S)

    found = steps(branches)
    assert failed(branches) == {
        "main query details": Fault.NETWORK,
        "shop query details": Fault.NETWORK,
        "sms_report token token": Fault.NETWORK,
        "sms_up token token": Fault.NETWORK,
        "jushita queue queue": Fault.NETWORK,
    }
    assert "--timeout" in found["jushita queue queue"].verdict.cure
    assert all(step.seconds < PATIENCE_S / 2 for step in found.values())


def test_a_closed_port_fails_and_what_follows_is_skipped(tmp_path: Path) -> None:
    with closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        branches = visit(settings(tmp_path, f"http://127.0.0.1:{closed.getsockname()[1]}"))

    found = steps(branches)
    assert failed(branches) == {"main query connect": Fault.NETWORK}
    assert found["main query connect"].verdict.detail.endswith(": refused")
    assert found["main query connect"].verdict.cure
    skipped = [name for name, step in found.items() if step.verdict.outcome is Outcome.SKIP]
    assert len(skipped) == len(found) - 2  # but the name, and the connection itself


@pytest.mark.parametrize(("scheme", "step"), [("http", "clock"), ("https", "tls")])
def test_a_silent_port_is_left_after_the_timeout(tmp_path: Path, scheme: str, step: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        branches = visit(settings(tmp_path, url), DEADLINE_S)

    assert failed(branches) == {f"main query {step}": Fault.NETWORK}
    assert "timeout" in steps(branches)[f"main query {step}"].verdict.detail


def test_a_name_that_does_not_exist_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_args: object, **_options: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    branches = visit(settings(tmp_path, "https://no-such-host.example"))

    verdict = steps(branches)["main query name"].verdict
    assert failed(branches) == {"main query name": Fault.NETWORK}
    assert verdict.detail == "no-such-host.example: dns"
    assert "resolver" in verdict.cure


def test_a_certificate_of_an_unknown_authority_is_told(tmp_path: Path) -> None:
    with Sandbox(tls=server_tls()) as running:
        branches = visit(settings(tmp_path, running.url))

    assert failed(branches) == {"main query tls": Fault.NETWORK}
    assert "SSL_CERT_FILE" in steps(branches)["main query tls"].verdict.cure


def test_a_trusted_certificate_is_shown_with_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust_the_authority(monkeypatch, tmp_path)
    with Sandbox(tls=server_tls()) as running:
        branches = visit(settings(tmp_path, running.url))

    assert failed(branches) == {}
    assert "TLSv1.3, certificate valid until " in steps(branches)["main query tls"].verdict.detail


@pytest.mark.parametrize(
    ("tls", "detail"),
    [
        (lambda: server_tls("elsewhere.example"), "the certificate is not for 127.0.0.1"),
        (
            lambda: server_tls(not_after=datetime(2020, 1, 1, tzinfo=UTC)),
            "the certificate has expired",
        ),
    ],
)
def test_a_wrong_certificate_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: Any, detail: str
) -> None:
    trust_the_authority(monkeypatch, tmp_path)
    context: ssl.SSLContext = tls()
    with Sandbox(tls=context) as running:
        branches = visit(settings(tmp_path, running.url))

    assert failed(branches) == {"main query tls": Fault.NETWORK}
    assert steps(branches)["main query tls"].verdict.detail == detail


def test_https_at_a_port_without_tls_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    url = sandbox.url.replace("http:", "https:")
    branches = visit(settings(tmp_path, url))

    assert failed(branches) == {"main query tls": Fault.NETWORK}
    assert "does not speak TLS" in steps(branches)["main query tls"].verdict.detail


def test_a_queue_named_after_another_type_is_a_problem(sandbox: Sandbox, tmp_path: Path) -> None:
    found = settings(tmp_path, sandbox.url)
    assert [name_problem(plan) for plan in assembly.plan(found, SystemClock())] == [None] * 3

    text = (tmp_path / "config.toml").read_text().replace('"SmsUp"', '"SmsReport"')
    (tmp_path / "config.toml").write_text(text)
    plans = assembly.plan(load(tmp_path / "config.toml", {}), SystemClock())

    [problem] = [problem for plan in plans if (problem := name_problem(plan))]
    assert problem.place == "sources.sms_up.message_type"
    assert 'message_type = "SmsUp"' in problem.cure


def test_a_puller_that_cannot_be_asked_is_skipped(sandbox: Sandbox, tmp_path: Path) -> None:
    push = """
    [sources.pushed]
    puller = "push"
    account = "main"
    message_type = "SmsReport"
    push_secret = "0123456789abcdef0123456789abcdef"
    """
    text = config_toml(sandbox.url) + push
    (tmp_path / "config.toml").write_text(text)
    branches = visit(load(tmp_path / "config.toml", {}))

    verdict = steps(branches)["pushed queue queue"].verdict
    assert verdict.outcome is Outcome.SKIP
    assert verdict.detail == "not asked: this puller has nothing to ask"
