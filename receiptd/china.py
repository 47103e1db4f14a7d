"""China's clock, in which every vendor counts days and stamps requests. Pure."""

from datetime import date, datetime, timedelta, timezone

# Ahead of UTC. No daylight saving since 1991: wire-formats 1.3.
OFFSET = timedelta(hours=8)
SHANGHAI = timezone(OFFSET, "Asia/Shanghai")

# A provider books a send on the day it handed it to the carrier; the sender's clock may be off.
_MIDNIGHT = timedelta(minutes=15)


def china_day(time: datetime) -> date:
    """Return the day that an aware time is on in China."""
    return time.astimezone(SHANGHAI).date()


def china_days(submitted_at: datetime) -> tuple[date, ...]:
    """Return the China days on which a send may be booked, the likeliest first: its own, and the
    neighbour within 15 minutes of midnight. `submitted_at` is aware."""
    around = (submitted_at, submitted_at - _MIDNIGHT, submitted_at + _MIDNIGHT)
    return tuple(dict.fromkeys(map(china_day, around)))


def china_text(time: datetime) -> str:
    """Return an aware time as the vendors write it: `yyyy-MM-dd HH:mm:ss` in Shanghai."""
    return time.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")


def day_text(day: date) -> str:
    """Return a day as the query APIs want it: `yyyyMMdd`."""
    return day.strftime("%Y%m%d")
