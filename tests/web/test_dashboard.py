"""The dashboard over HTTP: what it shows, to whom, in which language, and what it never does."""

import re
import threading
from base64 import b64encode
from collections.abc import Iterator
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from receiptd.clock import ManualClock
from receiptd.explain.events import What
from receiptd.model import ErrClass, Status
from receiptd.store import rollup_blocks, rollups
from receiptd.web import overview
from receiptd.web.words import CLASSES, EVENTS, STATUSES, WORDS
from tests.store.store_samples import entry, uplink
from tests.web.dashboard_scene import DAY, HOUR, NOW, PHONE, Scene, ordinary_day
from tests.web.http_harness import TOKEN, Running, running

HTML = "text/html,application/xhtml+xml"
MASKED = "139****0001"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def server(url: str, clock: ManualClock) -> Iterator[Running]:
    with running(url, clock=clock) as one:
        yield one


@pytest.fixture
def scene(server: Running, clock: ManualClock) -> Scene:
    return Scene(server.store, clock)


class Page(HTMLParser):
    """A page's text, its tables, and everything that it points at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.language = ""
        self.links: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self._texts: list[str] = []
        self._rows: list[list[str]] = []
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.attributes += list(given)
        self.language = self.language or given.get("lang") or ""
        self.links += [value for name in ("href", "src", "action") if (value := given.get(name))]
        self._cell = tag in ("td", "th") or (self._cell and tag not in ("table", "tr"))
        if tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        self._texts.append(data)
        if self._cell and self._rows and self._rows[-1]:
            self._rows[-1][-1] = (self._rows[-1][-1] + data).strip()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._texts).split())

    def row(self, *begin: str) -> list[str]:
        """The rest of the one row that begins so."""
        found = [row for row in self._rows if tuple(row[: len(begin)]) == begin]
        assert len(found) == 1, found
        return found[0][len(begin) :]


def page(server: Running, target: str = "/?lang=en", **headers: str) -> Page:
    answer = server.get(target, **headers)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.body.decode())


def tile(seen: Page, name: str) -> str:
    found = re.search(rf"<dt>{name}</dt><dd>([^<]*)</dd>", seen.html)
    assert found is not None
    return found[1]


# --- what it shows ---


def test_it_shows_how_many_were_sent_and_what_became_of_them(server: Running, scene: Scene) -> None:
    scene.sms(1234)
    scene.failed(56, "MK:0001", "absent")
    scene.awaited(7, ago=HOUR / 4)
    scene.count()

    seen = page(server)

    assert tile(seen, "Sent") == "1,297"
    assert tile(seen, "Delivery rate") == "95.7 %"
    assert tile(seen, "Failed") == "56"
    assert tile(seen, "Waiting") == "7"
    assert tile(seen, "Time to the phone") == "4 s"
    assert tile(seen, "Receipt lag") == "1 s"


def test_it_shows_errors_by_class_and_code(server: Running, scene: Scene) -> None:
    scene.failed(3, "MK:0001", "absent")
    scene.failed(1, "DB:0141", "blacklist")
    scene.count()

    seen = page(server)

    assert seen.row("phone off or out of reach", "MK:0001")[:2] == ["3", "75 %"]
    assert seen.row("blacklisted or unsubscribed", "DB:0141")[:2] == ["1", "25 %"]


def test_it_shows_templates_and_accounts(server: Running, scene: Scene) -> None:
    scene.sms(3)
    scene.failed(1, "MK:0001", "absent", account="shop", template_code="SMS_2")
    scene.sms(2, account="shop", template_code=None)
    scene.count()

    seen = page(server)

    assert seen.row("SMS_1") == ["3", "3", "0", "0", "100 %"]
    assert seen.row("SMS_2") == ["1", "0", "1", "0", "0 %"]
    assert seen.row("(not told)") == ["2", "2", "0", "0", "100 %"]
    assert seen.row("shop") == ["3", "2", "1", "0", "66.7 %"]


@pytest.mark.parametrize(("period", "sent"), [("24h", "1"), ("7d", "3"), ("30d", "6")])
def test_a_period_holds_what_was_sent_in_it(
    server: Running, scene: Scene, period: str, sent: str
) -> None:
    scene.sms(1, ago=40 * DAY)
    scene.sms(3, ago=20 * DAY)
    scene.sms(2, ago=5 * DAY)
    scene.sms(1)
    scene.count()

    assert tile(page(server, f"/?lang=en&period={period}"), "Sent") == sent


def test_an_account_is_shown_by_itself(server: Running, scene: Scene) -> None:
    scene.sms(5)
    scene.sms(2, account="shop", template_code="SMS_2")
    scene.awaited(1, ago=DAY, account="shop")
    scene.count()

    seen = page(server, "/?lang=en&account=shop")

    assert tile(seen, "Sent") == "2"
    assert "SMS_1 " not in seen.text
    assert seen.row("more than 7 d") == ["1", "1"]
    assert "<option selected>shop</option>" in seen.html


def test_hours_and_days_are_those_of_china(server: Running, scene: Scene) -> None:
    scene.sms(3, ago=timedelta(minutes=31))  # 14:59
    scene.sms(4, ago=timedelta(minutes=29))  # 15:01
    scene.count()

    seen = page(server)
    assert seen.html.count('<th scope="row">11-21 15:00</th><td>4</td>') == 1
    assert seen.html.count('<th scope="row">11-21 14:00</th><td>3</td>') == 1

    # Midnight of China is 16:00 of the day before.
    days = page(server, "/?lang=en&period=30d")
    assert days.html.count('<th scope="row">11-21 00:00</th><td>7</td>') == 1


def test_charts_have_a_title_a_description_and_a_table(server: Running, scene: Scene) -> None:
    ordinary_day(scene)

    seen = page(server)

    for name in ("volume", "rate", "times"):
        figure = re.search(rf'<figure[^>]*"{name}-caption".*?</figure>', seen.html, re.S)
        assert figure is not None
        assert f'<title id="{name}-title">' in figure[0]
        assert f'<desc id="{name}-desc">' in figure[0]
        assert figure[0].count("<tr>") == 25


def test_an_hour_without_an_end_is_a_gap_in_the_line(server: Running, scene: Scene) -> None:
    ordinary_day(scene)

    seen = page(server)

    path = re.search(r'<path class="line l-rate" d="([^"]*)"', seen.html)
    assert path is not None
    # The day's line is broken where nothing was sent, and nowhere else.
    assert path[1].count("M") == 2


def test_gaps_are_told_by_their_deadline(server: Running, scene: Scene) -> None:
    scene.awaited(2, ago=30 * DAY - 3 * HOUR)
    scene.awaited(3, ago=30 * DAY - 20 * HOUR, account="shop")
    scene.awaited(1, ago=30 * DAY + HOUR)
    scene.awaited(4, ago=HOUR)
    scene.count()

    seen = page(server)

    assert seen.row("already over") == ["1", "0", "1"]
    assert seen.row("less than 6 h") == ["2", "0", "2"]
    assert seen.row("less than 24 h") == ["0", "3", "3"]
    assert seen.row("more than 7 d") == ["4", "0", "4"]
    assert "Sends without an end that are lost for ever within 24 h: 6." in seen.text


def test_very_many_gaps_are_told_from_the_counts(
    server: Running, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiptd.store.glance.GAPS_EXACT", 3)
    scene.awaited(4, ago=30 * DAY - 20 * HOUR)
    scene.sms(9)
    scene.count()

    seen = page(server)

    assert seen.row("less than 24 h") == ["4", "4"]
    assert "told from the counts by hour" in seen.text


def test_quarantine_is_told_by_reason_without_its_detail(server: Running, scene: Scene) -> None:
    scene.quarantined(2, "missing_field: phone_number")
    scene.quarantined(1, "not_json")

    seen = page(server)

    assert seen.row("missing_field") == ["2"]
    assert seen.row("not_json") == ["1"]
    assert "wait for a decision: 3." in seen.text


def test_audits_that_differ_are_told_and_others_are_not(server: Running, scene: Scene) -> None:
    scene.audit(date(2026, 11, 20), theirs=100, ours=98)
    scene.audit(date(2026, 11, 19), theirs=70, ours=70)
    scene.audit(date(2026, 11, 18), theirs=60, ours=60, provider_failed=3, held_pending=3)
    scene.audit(date(2026, 11, 1), theirs=50, ours=40)

    seen = page(server)

    assert seen.row("2026-11-20") == ["main", "100", "98", "0", "0", "0", "0"]
    assert seen.row("2026-11-18") == ["main", "60", "60", "0", "0", "3", "0"]
    assert "2026-11-19" not in seen.text
    assert "2026-11-01" not in seen.text


# --- what is wrong ---


def test_a_day_without_trouble_says_so(server: Running, scene: Scene) -> None:
    ordinary_day(scene)

    seen = page(server)

    assert "All is well" in seen.text
    assert "Needs attention" not in seen.text
    assert seen.row("pushed")[0].endswith("well")


@pytest.mark.parametrize(
    ("told_ago", "pulled_ago", "says"),
    [
        (
            timedelta(minutes=8),
            timedelta(minutes=8),
            "Source pushed is silent: no process has told",
        ),
        (
            timedelta(seconds=2),
            timedelta(minutes=4),
            "Source pushed: no poll has returned for 4 min",
        ),
    ],
)
def test_a_source_that_stands_still_is_told_in_words(
    server: Running, scene: Scene, told_ago: timedelta, pulled_ago: timedelta, says: str
) -> None:
    scene.source("pushed", told_ago=told_ago, pulled_ago=pulled_ago)

    assert says in page(server).text


def test_a_source_that_one_of_two_processes_pulls_is_well(server: Running, scene: Scene) -> None:
    scene.source("pushed", told_ago=DAY, pulled_ago=DAY, instance="host:1")
    scene.source("pushed", instance="host:2")

    assert page(server).row("pushed")[0].endswith("well")


def test_a_configured_source_that_never_ran_is_told(server: Running) -> None:
    assert "Source pushed is configured, but no process has ever told of it." in page(server).text


def test_old_counts_are_told(server: Running, scene: Scene, clock: ManualClock) -> None:
    ordinary_day(scene)
    clock.advance(600)

    assert "The counts are old: nothing was counted for 10 min." in page(server).text


def test_that_history_is_still_being_counted_is_told(server: Running, scene: Scene) -> None:
    scene.sms(3, ago=5 * DAY)
    assert "Nothing was counted yet" in page(server).text

    scene.sms(1)
    with scene.store.reading() as connection:
        made = rollup_blocks.block_above(connection, NOW)
    assert made is not None
    with scene.store.writing() as connection:
        rollup_blocks.add(connection, None, made[1])
        rollups.replace(connection, rollups.Count(made[1]), NOW)
        rollup_blocks.looked(connection, NOW)

    seen = page(server)
    assert (
        "Receipts from before are still being counted, the newest first: 25 % are done" in seen.text
    )


def test_a_daemon_that_is_not_ready_says_why(server: Running, clock: ManualClock) -> None:
    with server.gate.attempt(threading.Event()) as attempt:
        attempt.failed()
    clock.advance(30)

    assert "The daemon that answers here: database: away for 30 s" in page(server).text


def test_a_database_that_is_away_is_a_page_that_tries_again(server: Running) -> None:
    server.store.close()

    answer = server.get("/?lang=en")

    assert answer.status == 503
    seen = Page(answer.body.decode())
    assert "The database does not answer" in seen.text
    assert "Receipts are not acked meanwhile, so none is lost" in seen.text
    assert '<meta http-equiv="refresh" content="60">' in seen.html


# --- search ---


@pytest.mark.parametrize("question", ["9{:014}^0", "order-{}"])
def test_a_search_leads_to_the_timeline(server: Running, scene: Scene, question: str) -> None:
    scene.sms(3)

    seen = page(server, "/search?lang=en&q=" + question.format(2).replace("^", "%5E"))

    assert "9" + "2".zfill(14) + "^0" in seen.text
    assert "sent through SendSms (account main, template SMS_1, out_id order-2)" in seen.text
    assert "the carrier reported: delivered (DELIVERED)" in seen.text


def test_a_phone_is_sought_in_any_spelling_and_shown_masked(server: Running, scene: Scene) -> None:
    scene.sms(2)

    seen = page(server, "/search?lang=en&q=139+0000-0001")

    assert seen.text.count(MASKED) == 2
    assert PHONE not in seen.html
    assert "Phones are masked" in seen.text


def test_nothing_found_says_where_it_was_sought(server: Running) -> None:
    seen = page(server, "/search?lang=en&q=order-404")

    assert "looked in: biz_id" in seen.text
    assert "Nothing is known of it." in seen.text


def test_a_masked_number_is_refused_with_a_reason(server: Running) -> None:
    assert "a masked number is many numbers" in page(server, f"/search?lang=en&q={MASKED}").text


def test_an_empty_search_is_refused(server: Running) -> None:
    assert "nothing was asked for" in page(server, "/search?lang=en&q=+").text


def test_in_chinese_the_timeline_is_chinese(server: Running, scene: Scene) -> None:
    scene.failed(1, "MK:0001", "absent")

    seen = page(server, "/search?lang=zh&q=order-1")

    assert "运营商报告" in seen.text
    assert "状态: 失败；错误码: MK:0001" in seen.text
    assert "the carrier" not in seen.text


# --- to whom ---


def test_with_a_token_it_is_asked_for_and_phones_are_whole(url: str, clock: ManualClock) -> None:
    basic = "Basic " + b64encode(f"any:{TOKEN}".encode()).decode()
    with running(url, clock=clock, token=TOKEN) as server:
        Scene(server.store, clock).sms(1)

        refused = server.get("/search?q=order-1", Accept=HTML)
        allowed = page(server, "/search?lang=en&q=order-1", Authorization=basic)

    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert "order-1 " not in refused.body.decode()
    assert PHONE in allowed.text
    assert "Phones are masked" not in allowed.text


def test_replies_are_read_by_those_with_the_token_only(url: str, clock: ManualClock) -> None:
    basic = "Basic " + b64encode(f":{TOKEN}".encode()).decode()
    with running(url, clock=clock, token=TOKEN) as server:
        Scene(server.store, clock).sms(1)
        server.store.save([entry(uplink(content="退订", sent_at=NOW))])
        shown = page(server, "/search?lang=en&q=13900000001", Authorization=basic)
    with running(url, clock=clock) as server:
        hidden = page(server, "/search?lang=en&q=13900000001")

    assert "退订" in shown.text
    assert "退订" not in hidden.text
    assert "a reply came from the phone" in hidden.text


# --- in which language ---


@pytest.mark.parametrize(
    ("target", "header", "language"),
    [
        ("/", "", "en"),
        ("/", "zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
        ("/", "fr-FR, zh;q=0.3, en;q=0.5", "en"),
        ("/", "de, zh-TW;q=0.1", "zh-Hans"),
        ("/", "zh;q=nonsense, en;q=0.2", "en"),
        ("/?lang=zh", "en", "zh-Hans"),
        ("/?lang=en", "zh", "en"),
        ("/?lang=xx", "zh", "zh-Hans"),
    ],
)
def test_it_speaks_what_the_browser_likes_or_the_link_says(
    server: Running, target: str, header: str, language: str
) -> None:
    seen = page(server, target, **{"Accept-Language": header})

    assert seen.language == language
    assert ("需要关注" in seen.text) == (language == "zh-Hans")


def test_links_keep_how_somebody_looks_at_it(server: Running, scene: Scene) -> None:
    seen = page(server, "/?lang=zh&period=7d&account=shop&refresh=0")

    for link in (
        "?lang=zh&period=30d&account=shop&refresh=0",
        "?lang=en&period=7d&account=shop&refresh=0",
    ):
        assert link in seen.links


# --- what it never does ---


def hostile(scene: Scene) -> None:
    nasty = '"><script>alert(1)</script>'
    scene.sms(1, template_code=nasty, account=nasty[:20], out_id=nasty, sign_name=nasty)
    scene.failed(1, nasty, "absent", err_msg=nasty, out_id=nasty)
    scene.quarantined(1, nasty)
    scene.count()


@pytest.mark.parametrize(
    "target",
    [
        "/?lang=en",
        "/?lang=%22%3E%3Cscript%3E&account=%22%3E%3Cscript%3E&refresh=%22%3E%3Cscript%3E",
        "/search?lang=en&q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
    ],
)
def test_nothing_in_a_receipt_or_a_link_becomes_markup(
    server: Running, scene: Scene, target: str
) -> None:
    hostile(scene)

    seen = page(server, target)

    assert "script" not in seen.tags
    assert "<script" not in seen.html
    assert "alert(1)" in seen.text or "refresh" in target


@pytest.mark.parametrize("target", ["/?lang=en", "/search?lang=zh&q=order-1", "/?period=1y"])
def test_it_asks_for_nothing_from_elsewhere_and_runs_nothing(
    server: Running, scene: Scene, target: str
) -> None:
    ordinary_day(scene)

    answer = server.get(target)
    seen = Page(answer.body.decode())

    assert not [link for link in seen.links if "//" in link or link.startswith(("/", "data:"))]
    assert not {"script", "style", "iframe", "object", "img"} & set(seen.tags)
    assert not [one for one in seen.attributes if one == "style" or one.startswith("on")]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("target", "kind"), [("/dashboard.css", "text/css"), ("/dashboard.svg", "image/svg+xml")]
)
def test_what_does_not_change_is_sent_once(server: Running, target: str, kind: str) -> None:
    first = server.get(target)
    again = server.get(target, **{"If-None-Match": first.headers["etag"]})

    assert (first.status, again.status) == (200, 304)
    assert first.headers["content-type"].startswith(kind)
    assert b"http:" not in first.body.replace(b"http://www.w3.org/2000/svg", b"")
    assert again.body == b""


def test_it_renews_itself_until_told_not_to(server: Running) -> None:
    renewing, paused = page(server), page(server, "/?lang=en&refresh=0")

    assert '<meta http-equiv="refresh" content="60">' in renewing.html
    assert "Pause refresh" in renewing.text
    assert "http-equiv" not in paused.html
    assert "Resume refresh" in paused.text
    # What somebody types or reads is not taken away.
    assert "http-equiv" not in page(server, "/search?q=1").html


def test_a_period_that_there_is_not_is_refused(server: Running) -> None:
    answer = server.get("/?period=1y&lang=en")

    assert answer.status == 400
    assert "Choose 24h, 7d or 30d." in Page(answer.body.decode()).text


def test_a_person_gets_errors_as_pages_and_a_program_as_json(server: Running) -> None:
    person = server.get("/nowhere?lang=en", Accept=HTML)
    program = server.get("/nowhere")
    api = server.get("/v1/nowhere", Accept=HTML)

    assert person.status == program.status == api.status == 404
    assert "404 · there is nothing here" in Page(person.body.decode()).text
    assert program.code == api.code == "not_found"


def test_it_is_read_only(server: Running) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert server.ask(method, "/").status == 405
    assert server.ask("HEAD", "/").body == b""


def test_a_page_reads_in_one_transaction(
    server: Running, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary_day(scene)
    reading = server.store.reading
    read: list[None] = []

    def counted():
        read.append(None)
        return reading()

    monkeypatch.setattr(server.store, "reading", counted)
    page(server)

    assert len(read) == 1


# --- wording ---


def test_all_words_of_the_templates_are_in_the_table_and_no_others() -> None:
    folder = Path(overview.__file__).parent
    sources = [*folder.glob("templates/*.html"), folder / "pages.py", folder / "words.py"]
    texts = "\n".join(file.read_text() for file in sources)
    used = set(re.findall(r"\bt\('([a-z0-9_]+)'", texts))
    used |= set(re.findall(r"\bt\(\s*\"([a-z0-9_]+)\"", texts)) | set(
        re.findall(r"\bself\(\"([a-z0-9_]+)\"", texts)
    )
    made = {"step_", "state_", "alert_source_", "error_"}
    direct = {*overview.PERIODS, *overview.PARTS, "phone", "account", "template", "sign"}
    direct |= {"err_class", "err_code"}

    assert used - {"step_", "state_"} <= set(WORDS)
    unused = set(WORDS) - used - direct
    assert {word for word in unused if not word.startswith(tuple(made))} == set()


def test_both_languages_say_the_same_things() -> None:
    def blanks(text: str) -> list[str]:
        return sorted(re.findall(r"{(\w+)}", text))

    for english, chinese in WORDS.values():
        assert blanks(english) == blanks(chinese)
        assert english
        assert chinese
    assert set(CLASSES) == {one.value for one in ErrClass}
    assert set(STATUSES) == {one.value for one in Status}
    assert set(EVENTS) == {one.value for one in What}
