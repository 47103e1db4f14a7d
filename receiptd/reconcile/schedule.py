"""When a send is asked about, and when nobody can know any more. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from receiptd.config.settings import ReconcileSettings


class Schedule(msgspec.Struct, frozen=True):
    """`steps` are the times after the send at which it is asked about, rising; at its end, `window`
    after the send, the providers have forgotten it."""

    steps: Sequence[timedelta]
    window: timedelta

    def after(self, submitted_at: datetime, now: datetime) -> datetime:
        """Return when a send that was asked about just now is asked about next, or is over."""
        ahead = (submitted_at + step for step in self.steps)
        return next((time for time in ahead if time > now), self.end(submitted_at))

    def end(self, submitted_at: datetime) -> datetime:
        """Return from when on nobody can be asked about a send."""
        return submitted_at + self.window

    def is_over(self, submitted_at: datetime, now: datetime) -> bool:
        """Return whether it is too late to ask."""
        return now >= self.end(submitted_at)


def schedule(settings: ReconcileSettings) -> Schedule:
    """Return the schedule of `[reconcile]`; steps beyond the window are left out."""
    window = timedelta(days=settings.window_days)
    steps = sorted({settings.first_after, *settings.then_after})
    return Schedule(tuple(step for step in steps if step < window), window)
