"""What the figures add up to."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from receiptd.config import Settings
from receiptd.errors import StoreUnavailable
from receiptd.model import Status
from receiptd.status import Account, Source, StatusReader
from receiptd.status.shown import plain
from receiptd.store.schema import audits
from receiptd.tally import Counts
from tests.databases import databases, fresh_url
from tests.told_story import NOON, SETTINGS, Story, after


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    story = Story(f"sqlite:///{tmp_path}/x.db")
    yield story
    story.store.close()


def read(story: Story, settings: Settings = SETTINGS, **options: Any) -> Any:
    return StatusReader(story.store, settings, story.clock, **options).read()


def source(story: Story) -> Source:
    [found] = read(story).sources
    return found  # type: ignore[no-any-return]  # read() is Any, to be short elsewhere


def account(story: Story) -> Account:
    [found] = read(story).accounts
    return found  # type: ignore[no-any-return]  # as above


# --- sources ---


def test_a_source_that_nobody_pulled_is_there(story: Story) -> None:
    found = source(story)

    assert (found.name, found.instances, found.last_pull_at) == ("sms_report", (), None)
    assert found.silent_since is None


def test_the_counts_of_all_instances_are_summed(story: Story) -> None:
    story.store.record_progress("a/1", "sms_report", Counts(pulled=20, acked=16, last_pull_at=NOON))
    story.at(30).store.record_progress(
        "b/2", "sms_report", Counts(pulled=5, acked=3, ack_expired=1, last_pull_at=after(29))
    )

    found = source(story)

    assert (found.pulled, found.acked, found.in_flight) == (25, 19, 5)
    assert found.last_pull_at == after(29)
    assert [(one.name, one.age_s, one.is_silent) for one in found.instances] == [
        ("b/2", 0.0, False),
        ("a/1", 30.0, False),
    ]


def test_an_instance_that_is_silent_is_not_summed(story: Story) -> None:
    story.store.record_progress("a/1", "sms_report", Counts(pulled=20, acked=1))
    story.at(121).store.record_progress("b/2", "sms_report", Counts(pulled=5, acked=5))

    found = source(story)

    assert (found.pulled, found.in_flight, found.silent_since) == (5, 0, None)
    assert [one.is_silent for one in found.instances] == [False, True]


def test_a_source_whose_instances_are_all_silent_says_since_when(story: Story) -> None:
    story.store.record_progress("a/1", "sms_report", Counts(pulled=20, acked=1))
    story.at(10).store.record_progress("b/2", "sms_report", Counts(pulled=7, acked=5))
    story.at(131)

    found = source(story)

    assert found.silent_since == after(10)
    assert (found.pulled, found.in_flight) == (7, 0)


def test_a_source_that_is_no_longer_configured_is_told(story: Story) -> None:
    story.store.record_progress("a/1", "removed", Counts())

    assert [(one.name, one.is_configured) for one in read(story).sources] == [
        ("sms_report", True),
        ("removed", False),
    ]


def test_the_lag_is_that_of_the_newest_envelope(story: Story) -> None:
    story.report()

    assert source(story).lag_s == 0.5


# --- accounts ---


@pytest.mark.parametrize("kind", databases())
def test_an_account_tells_what_waits_and_what_ended(kind: str, tmp_path: Path) -> None:
    with fresh_url(kind, tmp_path) as url:
        story = Story(url)
        story.send("1^0")
        story.send("2^0", submitted_at=None)
        story.send("failed:R-1", status=Status.FAILED)
        story.send("3^0", submitted_at=NOON + timedelta(days=3000))
        story.report("4^0")
        story.report("5^0", success=False)
        found = account(story)
        story.store.close()

    assert (found.awaited, found.pending, found.undated) == (3, 0, 1)
    assert (found.delivered, found.failed, found.lost, found.unknown) == (1, 2, 0, 0)


def test_a_send_is_overdue_after_its_time_and_lost_at_the_end_of_the_window(story: Story) -> None:
    story.send("1^0")
    early = account(story)
    story.at(900)
    late = account(story)

    assert (early.overdue, early.due, early.oldest_gap_at, early.hours_to_loss) == (
        0,
        0,
        None,
        None,
    )
    assert (late.overdue, late.due, late.oldest_gap_at) == (1, 1, NOON)
    assert late.hours_to_loss == 30 * 24 - 0.25


def test_an_undated_send_is_never_overdue(story: Story) -> None:
    story.send("1^0", submitted_at=None)
    story.at(86400 * 40)

    assert (account(story).overdue, account(story).undated) == (0, 1)


def test_an_account_without_sends_is_there_unless_its_sends_stand_elsewhere(story: Story) -> None:
    settings = Settings.model_validate(
        {
            "accounts": {
                "main": {"provider": "aliyun"},
                "live": {"provider": "polyv", "receipts_account": "main"},
            }
        }
    )

    assert [(one.provider, one.name) for one in read(story, settings).accounts] == [
        ("aliyun", "main")
    ]


def test_when_the_time_is_up_the_newest_are_counted(story: Story) -> None:
    story.report()

    assert read(story).counted.is_complete
    status = read(story, budget_s=0)

    assert not status.counted.is_complete
    assert status.counted.rows == 0


def test_what_took_a_while_to_count_is_kept_for_ten_times_as_long(story: Story) -> None:
    class Slow:
        """A database whose every read takes 100 ms."""

        def reading(self) -> Any:
            story.clock.advance(0.1)
            return story.store.reading()

        def revision(self) -> str | None:
            return "1"

    reader = StatusReader(Slow(), SETTINGS, story.clock)
    story.report("1^0")
    first = reader.read().accounts[0].delivered
    story.report("2^0")
    soon = reader.read().accounts[0].delivered
    story.clock.advance(3)
    later = reader.read().accounts[0].delivered

    assert (first, soon, later) == (1, 1, 2)


# --- the rest ---


def test_only_audits_of_the_last_days_that_differ_are_told(story: Story) -> None:
    today = NOON.date()
    names = ("total", "delivered", "failed", "pending")
    for days_ago, theirs in ((1, {"failed": 5}), (2, {}), (3, {"pending": 5}), (8, {"total": 9})):
        row = {f"provider_{name}": theirs.get(name, 3) for name in names}
        row |= {f"held_{name}": 3 for name in names}
        day = today - timedelta(days=days_ago)
        values = {"provider": "aliyun", "account": "main", "day": day, "audited_at": NOON}
        with story.store.writing() as connection:
            connection.execute(insert(audits).values(row | values))

    [found] = read(story).audits

    assert found.day == today - timedelta(days=1)


def test_the_quarantine_the_leases_and_the_database_are_told(story: Story) -> None:
    story.pull(b"no json")
    story.store.leases("host/1").acquire("housekeeping", 300)

    status = read(story)

    assert status.quarantine == {"not_json": 1}
    assert [one.name for one in status.leases] == ["housekeeping"]
    assert status.database.kind == "sqlite"
    assert status.database.revision is not None
    assert status.database.size_bytes > 0


def test_a_database_that_is_away_is_told(story: Story) -> None:
    story.store.close()

    with pytest.raises(StoreUnavailable):
        read(story)


def test_json_has_no_time_without_a_zone(story: Story) -> None:
    story.send()
    story.store.record_progress("a/1", "sms_report", Counts(last_pull_at=NOON))

    shown = plain(read(story))

    assert shown["taken_at"] == "2026-11-01T12:00:00.000Z"
    assert shown["sources"][0]["last_pull_at"] == "2026-11-01T12:00:00.000Z"
    assert shown["sources"][0]["instances"][0]["silent"] is False
    assert shown["counted"]["complete"] is True
