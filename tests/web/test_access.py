"""Who may ask."""

import base64

import pytest
from pydantic import ValidationError

from receiptd.clock import ManualClock
from receiptd.config import Settings
from receiptd.web.access import Access
from receiptd.web.rates import REQUESTS_AT_ONCE, Rates
from tests.web.http_harness import TOKEN, own, running

RIGHT = {"Authorization": f"Bearer {TOKEN}"}


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"any:{password}".encode()).decode()}


@pytest.fixture
def guarded(url):
    with running(url, token=TOKEN, clock=ManualClock()) as server:
        yield server


@pytest.mark.parametrize("target", ["/", "/v1/receipts", "/metrics", "/openapi.json", "/nothing"])
def test_a_configured_token_is_needed_on_loopback_too(guarded, target):
    bare, wrong = guarded.get(target), guarded.get(target, Authorization="Bearer wrong")

    assert (bare.status, wrong.status) == (401, 401)
    assert "realm" in bare.headers["www-authenticate"]
    assert guarded.ask("GET", target, headers=RIGHT).status != 401


def test_probes_need_no_token(guarded):
    assert guarded.get("/livez").status == 200
    assert guarded.get("/readyz").status == 200


def test_a_browser_may_show_the_token_as_a_password_to_read_but_not_to_write(guarded):
    reads = guarded.ask("GET", "/v1/receipts", headers=basic(TOKEN))
    writes = guarded.ask("POST", "/v1/sends", own(1), headers=basic(TOKEN))

    assert (reads.status, writes.status) == (200, 401)
    assert guarded.ask("GET", "/v1/receipts", headers=basic("wrong")).status == 401


@pytest.mark.parametrize("value", ["Basic ###", "Basic ", "Bearer", "", "Bearer  ", "Negotiate x"])
def test_a_header_that_makes_no_sense_is_no_token(guarded, value):
    assert guarded.get("/v1/receipts", Authorization=value).status == 401


def test_guessing_is_slowed_down_and_whoever_knows_the_token_is_not(guarded, capfd):
    statuses = [
        guarded.get("/v1/receipts", Authorization=f"Bearer guess-{number}").status
        for number in range(12)
    ]

    assert statuses == [401] * 10 + [429] * 2
    assert guarded.ask("GET", "/v1/receipts", headers=RIGHT).status == 200
    told = [line for line in capfd.readouterr().err.splitlines() if "http.refused" in line]
    assert len(told) == 1
    assert "guess" not in told[0]


def test_a_name_that_points_at_loopback_is_not_ours(server):
    assert server.get("/v1/receipts", Host="evil.example").status == 421
    assert server.get("/", Host="evil.example:8650").status == 421
    for host in ("localhost:8650", "127.0.0.1", "[::1]:8650", "LOCALHOST"):
        assert server.get("/v1/receipts", Host=host).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_another_page_cannot_let_a_browser_write(server, origin):
    answer = server.ask("POST", "/v1/sends", own(1), headers={"Origin": origin})

    assert answer.status == 421
    assert server.get("/v1/receipts").json["receipts"] == []


def test_another_page_cannot_use_the_password_that_a_browser_remembers(guarded):
    headers = {**basic(TOKEN), "Origin": "https://evil.example"}

    assert guarded.ask("GET", "/v1/receipts", headers=headers).status == 421


def test_more_requests_than_allowed_are_refused_until_time_has_passed(url):
    clock = ManualClock()
    with running(url, clock=clock) as server:
        statuses = [server.get("/nothing").status for _ in range(int(REQUESTS_AT_ONCE) + 2)]
        refused = server.get("/nothing")
        probe = server.get("/livez")
        clock.advance(1)
        later = server.get("/nothing")

    assert statuses[-3:] == [404, 429, 429]
    assert (refused.code, refused.headers["retry-after"]) == ("too_many", "1")
    assert (probe.status, later.status) == (200, 404)


def test_the_addresses_that_are_remembered_are_bounded():
    rates = Rates(ManualClock())
    for number in range(5000):
        rates.admit(f"10.0.{number // 256}.{number % 256}")

    assert len(rates._requests._levels) <= 1024


def test_an_empty_token_is_never_right():
    assert not Access("", "127.0.0.1").shows_token("GET", "Bearer ")


@pytest.mark.parametrize("listen", ["0.0.0.0:8650", "[::]:8650", "10.0.0.1:80", "host.example:80"])
def test_another_address_than_loopback_needs_a_token(listen):
    with pytest.raises(ValidationError) as error:
        Settings.model_validate({"http": {"listen": listen}})

    assert error.value.errors()[0]["loc"] == ("http", "token")
    Settings.model_validate({"http": {"listen": listen, "token": TOKEN}})


@pytest.mark.parametrize("listen", ["", "127.0.0.1:8650", "[::1]:0", "localhost:80"])
def test_loopback_needs_none(listen):
    assert Settings.model_validate({"http": {"listen": listen}}).http.listen == listen


@pytest.mark.parametrize("listen", ["8650", ":8650", "::1:80", "127.0.0.1:", "h:x", "h:99999"])
def test_what_is_no_address_is_refused(listen):
    with pytest.raises(ValidationError) as error:
        Settings.model_validate({"http": {"listen": listen, "token": TOKEN}})

    assert error.value.errors()[0]["loc"] == ("http", "listen")


def test_a_short_token_is_refused():
    with pytest.raises(ValidationError, match="at least 16"):
        Settings.model_validate({"http": {"token": "short"}})
