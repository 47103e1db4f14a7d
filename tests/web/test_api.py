"""The API over a real server and a real store: sends in, receipts and replies out."""

from datetime import UTC, datetime

import pytest

from receiptd.model import Entry, Envelope, Kind, Outcome, Uplink
from tests.web.http_harness import TOKEN, own, running

SEND_SMS = {
    "api": "SendSms",
    "account": "main",
    "request": {"PhoneNumbers": "13900000001", "SignName": "示例", "TemplateCode": "SMS_1"},
    "response": {"Code": "OK", "Message": "OK", "RequestId": "r", "BizId": "900000000000000001^0"},
    "submitted_at": "2026-11-20T08:00:00+08:00",
}
POLYV = {
    "api": "polyv",
    "account": "live",
    "request": {"phoneNumbers": "13900000002", "signName": "示例", "templateId": "SMS_2"},
    "response": {
        "code": 200,
        "data": [
            {"phoneNumber": "13900000002", "status": "12", "serialNo": "900000000000000002^0"}
        ],
    },
}


def reply(number: int) -> Entry:
    """A stored reply."""
    return Entry(
        envelope=Envelope(source="up", envelope_id=f"u{number}", body=b"{}", handle="h"),
        part=0,
        body=b"{}",
        kind=Kind.UPLINK,
        outcome=Outcome.STORED,
        received_at=datetime(2026, 11, 20, tzinfo=UTC),
        record=Uplink(
            provider="aliyun",
            account="main",
            phone="+8613900000001",
            content="call 13900000001",
            dest_code="1",
            sign_name=None,
            sequence_id=str(number),
            sent_at=None,
        ),
    )


def test_one_send_is_recorded_and_found_by_its_biz_id(server):
    recorded = server.ask("POST", "/v1/sends", own(1, out_id="order-1"))
    found = server.get("/v1/receipts/900000000000000001%5E0")

    assert recorded.status == 200
    assert recorded.json == {
        "sends": 1,
        "rows": 1,
        "accepted": 1,
        "refused": 0,
        "unanswered": 0,
        "changed": 1,
    }
    [receipt] = found.json["receipts"]
    assert (receipt["status"], receipt["out_id"]) == ("awaited", "order-1")
    assert receipt["submitted_at"] == "2026-11-20T00:00:00Z"


def test_raw_calls_of_several_apis_are_recorded_in_one_request(server):
    recorded = server.record(SEND_SMS, POLYV)

    assert recorded.status == 200, recorded.body
    assert recorded.json["accepted"] == 2
    found = {one["biz_id"]: one for one in server.get("/v1/receipts").json["receipts"]}
    assert found["900000000000000001^0"]["template_code"] == "SMS_1"
    assert found["900000000000000002^0"]["account"] == "main"


def test_recording_again_changes_nothing(server):
    server.record(SEND_SMS, own(7))

    again = server.record(SEND_SMS, own(7))

    assert (again.json["rows"], again.json["changed"]) == (2, 0)
    assert len(server.get("/v1/receipts").json["receipts"]) == 2


def test_a_refused_send_is_told_with_its_place_and_the_rest_is_recorded(server):
    answer = server.record(own(1), {"account": "main", "phone": "13900000002"}, own(3, account="x"))

    assert (answer.status, answer.code) == (422, "refused")
    told = answer.json["error"]["details"]
    assert [one["index"] for one in told] == [1, 2]
    assert "biz_id" in told[0]["message"]
    assert len(server.get("/v1/receipts").json["receipts"]) == 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 9000 + b"]" * 9000, b'[{"a":1},', b"\xff\xfe", b"3", b'"x"']
)
def test_what_is_no_json_object_is_refused_in_words(server, body):
    answer = server.ask("POST", "/v1/sends", body, {"Content-Type": "application/json"})

    assert answer.status == 400
    assert set(answer.json["error"]) == {"code", "message", "cure"}


def test_an_empty_array_is_no_send(server):
    assert server.ask("POST", "/v1/sends", []).status == 400


def test_more_than_five_hundred_sends_are_refused(server):
    answer = server.record(*[own(number) for number in range(501)])

    assert (answer.status, answer.code) == (422, "too_many_sends")


def test_a_body_must_be_declared_as_json(server):
    answer = server.ask("POST", "/v1/sends", b"{}", {"Content-Type": "text/plain"})

    assert (answer.status, answer.code) == (415, "not_json")


def test_an_unknown_biz_id_is_not_found(server):
    assert server.get("/v1/receipts/nobody").code == "unknown"


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("phone=13900000003", [3]),
        ("phone=%2B8613900000003", [3]),
        ("out_id=order-4", [4]),
        ("biz_id=900000000000000002%5E0", [2]),
        ("status=awaited&limit=2", [4, 3]),
        ("status=delivered", []),
        ("account=shop", []),
        ("since=2020-01-01T00:00:00Z&until=2021-01-01T00:00:00Z", []),
        ("since=2020-01-01T00:00:00Z", [4, 3, 2, 1]),
        ("until=2020-01-01T00:00:00Z", []),
    ],
)
def test_receipts_are_filtered_newest_first(server, query, numbers):
    server.record(*[own(number, out_id=f"order-{number}") for number in (1, 2, 3, 4)])

    found = server.get(f"/v1/receipts?{query}").json["receipts"]

    assert [int(one["out_id"].removeprefix("order-")) for one in found] == numbers


def test_pages_hold_each_row_once_though_rows_come_meanwhile(server):
    server.record(*[own(number) for number in range(1, 251)])
    seen, cursor = [], ""
    while cursor is not None:
        page = server.get(f"/v1/receipts?limit=40{cursor and '&cursor='}{cursor}").json
        seen += [one["biz_id"] for one in page["receipts"]]
        cursor = page["cursor"]
        server.record(*[own(1000 + len(seen) + more) for more in range(5)])

    assert seen == [own(number)["biz_id"] for number in range(250, 0, -1)]


def test_the_numbers_of_one_send_come_in_pages_too(server):
    server.record(*[own(1, phone=f"139{number:08d}") for number in range(30)])
    target, seen, cursor = "/v1/receipts/900000000000000001%5E0?limit=12", [], ""
    while cursor is not None:
        page = server.get(target + (f"&cursor={cursor}" if cursor else "")).json
        seen += [one["phone"] for one in page["receipts"]]
        cursor = page["cursor"]

    assert len(seen) == 30


@pytest.mark.parametrize(
    "query",
    [
        "phon=1",
        "limit=0",
        "limit=501",
        "limit=x",
        "status=gone",
        "cursor=17",
        "since=yesterday",
        "since=2026-01-01T00:00:00",
        "out_id=",
        "out_id=a&out_id=b",
        "out_id=a%00b",
        "out_id=" + "x" * 300,
    ],
)
def test_a_parameter_that_is_not_understood_is_refused(server, query):
    answer = server.get(f"/v1/receipts?{query}")

    assert (answer.status, answer.code) == (400, "bad_request")


def test_phones_are_masked_without_a_token_also_in_the_text_of_replies(server):
    server.record(own(1))
    server.store.save([reply(1)])

    [receipt] = server.get("/v1/receipts").json["receipts"]
    [uplink] = server.get("/v1/uplinks?phone=13900000001").json["uplinks"]

    assert receipt["phone"] == "139****0001"
    assert (uplink["phone"], uplink["content"]) == ("139****0001", "call 139****0001")


def test_phones_are_whole_behind_the_token(url):
    with running(url, token=TOKEN) as server:
        server.store.save([reply(1)])
        answer = server.get("/v1/uplinks?sequence_id=1", Authorization=f"Bearer {TOKEN}")

    [uplink] = answer.json["uplinks"]
    assert (uplink["phone"], uplink["content"]) == ("+8613900000001", "call 13900000001")


def test_while_the_database_is_away_the_api_says_so(server):
    server.store.close()

    for answer in (server.get("/v1/receipts"), server.record(own(1))):
        assert (answer.status, answer.code) == (503, "unavailable")
        assert answer.headers["retry-after"] == "5"


def test_every_answer_carries_the_security_headers_and_no_banner(server):
    for target in ("/livez", "/v1/receipts", "/nothing", "/openapi.json", "/metrics"):
        headers = server.get(target).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in headers


def test_methods_that_a_path_does_not_have_are_refused(server):
    head = server.ask("HEAD", "/v1/receipts")
    options = server.ask("OPTIONS", "/v1/sends")

    assert (head.status, head.body) == (200, b"")
    assert (options.status, options.headers["allow"]) == (405, "POST")
    assert options.code == "method_not_allowed"
    assert server.get("/v1/receipts/").code in ("not_found", "unknown")
