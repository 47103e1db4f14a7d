"""What is found of an SMS, and in which order it is told."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.errors import StoreUnavailable
from receiptd.explain import Explainer, Explanation, Said, Timeline, Unsearchable, What, finding
from receiptd.explain.finding import spellings
from receiptd.explain.shown import plain
from receiptd.explain.words import describe, ordinal, span
from receiptd.model import ErrClass, Origin, Status
from receiptd.plugins import Installed
from receiptd.pullers.mns import KIND
from tests.databases import databases, fresh_url
from tests.told_story import BIZ_ID, PHONE, SETTINGS, Story, after

DELIVERED_ROW = {
    "PhoneNum": "13900000001",
    "SendStatus": 3,
    "ErrCode": "DELIVERED",
    "SendDate": "2026-11-01 20:00:01",
    "ReceiveDate": "2026-11-01 20:00:05",
}


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    story = Story(f"sqlite:///{tmp_path}/x.db")
    yield story
    story.store.close()


def explain(story: Story, wanted: str = BIZ_ID, **options: Any) -> Explanation:
    return Explainer(story.store, SETTINGS, Installed(), story.clock).explain(wanted, **options)


class Nothing:
    """No plug-in is installed."""

    def provider(self, name: str) -> None:
        return None

    def puller(self, name: str) -> None:
        return None


def timeline(story: Story, wanted: str = BIZ_ID, **options: Any) -> Timeline:
    [found] = explain(story, wanted, **options).timelines
    return found


def whats(timeline: Timeline) -> list[str]:
    return [event.what.value for event in timeline.events]


def facts(timeline: Timeline, what: What) -> list[Any]:
    return [event.facts for event in timeline.events if event.what is what]


# --- the timeline ---


@pytest.mark.parametrize("kind", databases())
def test_a_delivered_sms_is_told_from_its_send_to_its_redelivery(kind: str, tmp_path: Path) -> None:
    with fresh_url(kind, tmp_path) as url:
        story = Story(url)
        story.send()
        story.at(5).report()
        story.at(40).report(
            pull_count=2, send_time="2026-11-01 20:00:02", report_time="2026-11-01 20:00:04"
        )

        told = timeline(story)
        story.store.close()

    assert whats(told) == ["sent", "handed_over", "reported", "pulled", "status", "pulled"]
    assert [event.at for event in told.events] == [after(s) for s in (0, 2, 4, 5, 5, 40)]
    [change] = facts(told, What.STATUS)
    assert (change["before"], change["after"], change["origin"]) == (
        "awaited",
        "delivered",
        "queue",
    )
    first, second = facts(told, What.PULLED)
    assert (first["effect"], second["effect"]) == (Said.CHANGED, Said.NOTHING_NEW)
    assert (first["lag_s"], second["pull_count"]) == (0.5, 2)
    assert told.lost_at is None


def test_a_receipt_whose_send_was_not_recorded_says_so(story: Story) -> None:
    story.at(5).report()

    told = timeline(story)

    assert whats(told) == ["not_recorded", "handed_over", "reported", "pulled", "status"]
    assert facts(told, What.STATUS)[0]["before"] is None


def test_a_weaker_record_that_comes_late_changes_nothing(story: Story) -> None:
    story.at(5).report()
    story.at(6).report(success=False, err_code="MK:0001", report_time="2026-11-01 20:00:01")

    first, second = facts(timeline(story), What.PULLED)

    assert (first["effect"], second["effect"]) == (Said.CHANGED, Said.WEAKER)


def test_a_later_report_of_the_same_end_is_told_as_one(story: Story) -> None:
    story.at(5).report(success=False, err_code="MK:0001")
    story.at(60).report(success=False, err_code="MK:0004")

    told = timeline(story)

    assert [one["effect"] for one in facts(told, What.PULLED)] == [Said.CHANGED, Said.UPDATED]
    assert len(facts(told, What.STATUS)) == 1


def test_a_time_that_was_cut_to_the_second_is_not_before_the_send(story: Story) -> None:
    story.at(0.4).send()
    story.at(5).report(send_time="2026-11-01 20:00:00", report_time="2026-11-01 20:00:00")

    assert whats(timeline(story))[:3] == ["sent", "handed_over", "reported"]


def test_two_sources_that_disagree_are_both_told(story: Story) -> None:
    story.at(5).report(success=False, err_code="MK:0001", err_msg="空号")
    story.at(60).report()

    told = timeline(story)

    assert told.sms.conflict
    assert [(one["before"], one["after"]) for one in facts(told, What.STATUS)] == [
        (None, "failed"),
        ("failed", "delivered"),
    ]


def test_the_answers_of_queries_are_told(story: Story) -> None:
    story.send()
    story.at(900).answer(None)
    story.at(3600).answer({**DELIVERED_ROW, "SendStatus": 1}, Status.PENDING)
    story.at(21600).answer(DELIVERED_ROW, Status.DELIVERED)

    told = timeline(story)

    asked = facts(told, What.ASKED)
    assert [one["says"] for one in asked] == [None, "pending", "delivered"]
    assert asked[0]["reason"] == "nothing_found"
    assert [(one["before"], one["after"]) for one in facts(told, What.STATUS)] == [
        ("awaited", "pending"),
        ("pending", "delivered"),
    ]
    assert "knows nothing" in describe(told.events[1])


def test_an_open_send_says_when_it_is_asked_about_and_when_it_is_lost(story: Story) -> None:
    story.send()

    told = timeline(story)

    assert whats(told) == ["sent", "next_query", "lost_at"]
    assert told.events[1].at == after(900)
    assert told.lost_at == told.events[2].at == after(30 * 86400)


def test_a_send_whose_window_closed_is_lost(story: Story) -> None:
    story.send()
    story.at(30 * 86400).close_window()

    told = timeline(story)

    assert whats(told) == ["sent", "window_closed", "status"]
    assert told.sms.status is Status.LOST
    assert told.lost_at is None


def test_a_refused_send_is_told_with_the_code_and_its_cure(story: Story) -> None:
    story.send(
        "failed:R-000001",
        status=Status.FAILED,
        err_code="isv.OUT_OF_SERVICE",
        err_msg="业务停机",
        err_class=ErrClass.CONFIG,
    )

    told = timeline(story, "failed:R-000001")

    assert whats(told) == ["refused"]
    assert told.meaning is not None
    assert "top up" in told.meaning.cure
    assert "业务停机" in describe(told.events[0])


def test_a_send_without_an_answer_is_told_as_one(story: Story) -> None:
    story.send("unanswered:0123456789abcdef")

    assert whats(timeline(story, "unanswered:0123456789abcdef"))[0] == "unanswered"


def test_a_carriers_number_is_no_code_of_the_send_api(story: Story) -> None:
    story.at(5).report(success=False, err_code="10", err_msg="x")

    meaning = timeline(story).meaning

    assert meaning is not None
    assert meaning.cure == ""


def test_what_the_journal_no_longer_holds_is_told_as_unexplained(story: Story) -> None:
    story.send()
    story.at(5).report()
    with story.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM journal")

    told = timeline(story)

    assert whats(told)[-1] == "unexplained"
    assert (told.events[-1].facts["before"], told.events[-1].facts["after"]) == (
        "awaited",
        "delivered",
    )


def test_without_its_provider_the_row_alone_tells(story: Story) -> None:
    story.at(5).report()

    explainer = Explainer(story.store, SETTINGS, Nothing(), story.clock)
    [told] = explainer.explain(BIZ_ID).timelines

    assert facts(told, What.PULLED)[0]["effect"] == Said.UNREAD
    assert whats(told)[-1] == "unexplained"


def test_what_a_receipt_came_through_is_what_its_puller_says(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(KIND), "origin", Origin.PUSH, raising=False)
    story.at(5).report()

    assert facts(timeline(story), What.STATUS)[0]["origin"] == "push"


def test_plug_ins_are_looked_for_once_however_many_rows_there_are(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        story.at(number).report(pull_count=number + 1)
    groups: list[str] = []

    def counted(*, group: str) -> object:
        groups.append(group)
        return entry_points(group=group)

    monkeypatch.setattr("receiptd.plugins.entry_points", counted)
    told = timeline(story)

    assert len(facts(told, What.PULLED)) == 20
    assert sorted(groups) == ["receiptd.providers", "receiptd.pullers"]


def test_a_source_that_is_no_longer_configured_is_read_all_the_same(story: Story) -> None:
    story.pull(
        {
            "phone_number": "13900000001",
            "biz_id": BIZ_ID,
            "send_time": "2026-11-01 20:00:00",
            "report_time": "2026-11-01 20:00:00",
            "success": True,
            "err_code": "DELIVERED",
        },
        source="removed",
    )

    assert facts(timeline(story), What.PULLED)[0]["says"] == "delivered"


# --- the quarantine ---


def test_a_receipt_in_the_quarantine_is_part_of_its_sms(story: Story) -> None:
    story.send()
    story.at(5).report(success="perhaps")

    explanation = explain(story)
    told = explanation.timelines[0]

    assert whats(told)[:2] == ["sent", "quarantined"]
    assert "bad_field" in describe(told.events[1])
    assert not explanation.quarantined


def test_a_receipt_in_the_quarantine_is_part_of_no_other_number_of_its_batch(story: Story) -> None:
    story.send()
    story.send(phone="+8613900000002")
    story.at(5).report(success="perhaps")

    other, mine = explain(story).timelines

    assert "quarantined" in whats(mine)
    assert "quarantined" not in whats(other)


def test_an_id_that_only_the_quarantine_knows_is_found_there(story: Story) -> None:
    story.at(5).report(success="perhaps")

    explanation = explain(story)

    assert explanation.found_by is None
    assert not explanation.is_empty
    assert [row.reason for row in explanation.quarantined] == ["bad_field:success"]


def test_what_was_replayed_changes_the_status_when_it_was_replayed(story: Story) -> None:
    story.send()
    story.at(5).report()
    story.at(6).report("2^0")  # the journal is larger than this one
    with story.store.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE journal SET outcome = 'replayed', reason = 'bad_field:x',"
            f" received_at = '2026-10-30 11:30:00.000000' WHERE biz_id = '{BIZ_ID}'"
        )

    told = timeline(story, "order-1")  # which the body does not hold

    quarantined, change = told.events[0], told.events[-1]
    assert quarantined.what is What.QUARANTINED
    assert "replayed since" in describe(quarantined)
    assert (change.what, change.at) == (What.STATUS, told.sms.updated_at)


def test_what_came_from_a_file_was_never_in_the_quarantine(story: Story) -> None:
    story.at(5).report()
    with story.store.writing() as connection:
        connection.exec_driver_sql("UPDATE journal SET outcome = 'replayed', source = 'replay'")

    told = timeline(story)

    assert facts(told, What.STATUS)[0]["origin"] == "replay"
    assert "read from a file" in describe(told.events[3])


# --- replies ---


def test_a_reply_belongs_to_the_last_sms_before_it(story: Story) -> None:
    story.send("1^0")
    story.at(3600).send("2^0")
    story.at(3700).reply("TD")

    newer, older = explain(story, PHONE).timelines

    assert facts(newer, What.REPLY)[0]["content"] == "TD"
    assert facts(newer, What.REPLY)[0]["after_s"] == 100
    assert not facts(older, What.REPLY)


def test_a_reply_of_another_conversation_is_told_apart(story: Story) -> None:
    story.send()
    story.at(86400 * 5).reply("您好")

    explanation = explain(story, PHONE)

    assert not facts(explanation.timelines[0], What.REPLY)
    assert [one.content for one in explanation.replies] == ["您好"]
    assert explain(story, BIZ_ID).replies == ()


def test_a_reply_is_found_by_its_sequence_id(story: Story) -> None:
    story.reply("TD", "568000009")

    explanation = explain(story, "568000009")

    assert explanation.found_by == "sequence_id"
    assert [one.content for one in explanation.replies] == ["TD"]


def test_the_sms_that_a_reply_names_is_found_with_it(story: Story) -> None:
    story.send()
    story.at(60).reply("TD")
    with story.store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE uplinks SET biz_id = '{BIZ_ID}'")

    [told] = explain(story, "568000001").timelines

    assert facts(told, What.REPLY)[0]["content"] == "TD"


# --- what was asked for ---


@pytest.mark.parametrize(
    "written",
    [
        "13900000001",
        "+86 139 0000 0001",
        "0086-139-0000-0001",
        "139-0000-0001",
        "(+86) 139.0000.0001",
        "１３９０００００００１",
        " 139 0000 0001\n",
        "139\u00a00000\u20110001",
    ],
)
def test_a_phone_is_found_however_it_is_written(story: Story, written: str) -> None:
    story.send()

    explanation = explain(story, written)

    assert (explanation.found_by, explanation.total) == ("phone", 1)


@pytest.mark.parametrize("written", ["139****0001", "+86139****0001", "139 **** 0001"])
def test_a_masked_phone_is_refused(story: Story, written: str) -> None:
    with pytest.raises(Unsearchable, match="all of its digits"):
        explain(story, written)


def test_nothing_is_refused(story: Story) -> None:
    with pytest.raises(Unsearchable):
        explain(story, "  ")


@given(st.text())
def test_no_text_is_too_strange_to_be_a_phone_or_none(text: str) -> None:
    assert all(isinstance(one, str) for one in spellings(text))


def test_a_phone_that_can_be_read_twice_is_sought_twice(story: Story) -> None:
    story.send("1^0", phone="+13105551234")
    story.send("2^0", phone="+8613105551234")

    assert explain(story, "13105551234").total == 2


def test_an_out_id_is_found_though_it_looks_like_a_phone(story: Story) -> None:
    story.send(out_id="20261121001")

    explanation = explain(story, "20261121001")

    assert explanation.found_by == "out_id"
    assert explanation.searched[:4] == ("biz_id", "sequence_id", "phone", "out_id")


def test_an_erased_phone_is_still_found_by_its_biz_id(story: Story) -> None:
    story.send(phone="erased:0123456789abcdef", out_id=None)

    assert timeline(story).sms.phone.startswith("erased:")


def test_all_numbers_of_a_batch_are_found_by_its_biz_id(story: Story) -> None:
    for last in range(5):
        story.send(phone=f"+861390000000{last}")
    story.at(5).report()

    explanation = explain(story, limit=2)

    assert [one.sms.phone[-1] for one in explanation.timelines] == ["4", "3"]
    assert explanation.total == 5


def test_of_many_sms_the_newest_are_told_and_the_rest_is_counted(story: Story) -> None:
    for number in range(30):
        story.send(f"{number}^0")

    explanation = explain(story, PHONE, limit=20)

    assert [one.sms.biz_id for one in explanation.timelines] == [f"{n}^0" for n in range(29, 9, -1)]
    assert explanation.total == 30
    assert explanation.is_complete


def test_of_very_many_replies_the_newest_are_told(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "_REPLIES_MOST", 3)
    for number in range(5):
        story.reply(f"{number}", f"R-{number}")

    explanation = explain(story, PHONE)

    assert [one.content for one in explanation.replies] == ["2", "3", "4"]
    assert explanation.found_by == "phone"  # though nothing was ever sent to it


def test_only_the_sms_of_an_account_are_found_if_it_is_named(story: Story) -> None:
    story.send(account="main")
    story.send(account="other")

    for wanted in (BIZ_ID, PHONE, "order-1"):
        assert [one.sms.account for one in explain(story, wanted, account="other").timelines] == [
            "other"
        ]


def test_nothing_known_is_said_with_where_it_was_sought(story: Story) -> None:
    explanation = explain(story, "order-9")

    assert explanation.is_empty
    assert explanation.searched == ("biz_id", "sequence_id", "out_id", "quarantine")


def test_when_the_time_is_up_what_was_found_is_told_as_not_all(story: Story) -> None:
    story.send()
    story.at(5).report()

    explanation = explain(story, budget_s=0)

    assert not explanation.is_complete
    assert len(explanation.timelines) == 1


def test_what_is_read_is_told(story: Story) -> None:
    story.send()
    story.at(5).report()
    told: list[tuple[str, int, int]] = []

    explain(story, PHONE, told=lambda *one: told.append(one))

    assert [one[0] for one in told] == ["phone", "journal"]
    assert all(done == total for _, done, total in told)


def test_a_database_that_is_away_is_told(story: Story) -> None:
    story.store.close()

    with pytest.raises(StoreUnavailable):
        explain(story)


# --- as JSON and in words ---


def test_json_masks_phones_everywhere(story: Story) -> None:
    story.send(out_id="for 13900000001")
    story.at(5).report(err_msg="13900000001 已接收")
    story.at(60).reply("call me: 13900000001", sent_at=None)

    shown = plain(explain(story, PHONE), show_phones=False)

    assert "13900000001" not in repr(shown)
    assert "call me" not in repr(shown)
    assert shown["messages"][0]["phone"] == "139****0001"


def test_json_shows_phones_if_asked(story: Story) -> None:
    story.send()
    story.at(60).reply("TD")

    shown = plain(explain(story, PHONE), show_phones=True)

    assert shown["messages"][0]["phone"] == PHONE
    assert "TD" in repr(shown)


def test_every_event_has_words() -> None:
    import receiptd.explain.words as words

    assert set(words._WORDS) == set(What)
    assert set(words._EFFECTS) == set(Said)
    assert set(words.ERR_CLASSES) == set(ErrClass)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (1, "1 s"),
        (60, "1 min"),
        (3725, "1 h 2 min"),
        (90061, "1 d 1 h"),
        (30 * 86400, "30 d"),
        (-65, "-1 min 5 s"),
        (0, "0.0 s"),
    ],
)
def test_a_span_has_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_ordinals_are_english() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th",
    ]  # fmt: skip
