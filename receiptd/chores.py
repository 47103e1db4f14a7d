"""The daemon's work beside the receipts' way, built from the configuration."""

import threading

from receiptd import assembly
from receiptd.chore import Chore
from receiptd.clock import Clock
from receiptd.config import Settings
from receiptd.gate import Gate
from receiptd.housekeeping import Housekeeping
from receiptd.metrics import Metrics
from receiptd.pulse import Pulse
from receiptd.reconcile.losses import Losses
from receiptd.reconcile.part import Part
from receiptd.reconcile.runner import Reconciler
from receiptd.reconcile.schedule import schedule
from receiptd.rollup import RollupKeeper
from receiptd.store import Store
from receiptd.store.retention import Limits


def chores(
    settings: Settings,
    store: Store,
    *,
    instance: str,
    store_gate: Gate,
    stopping: threading.Event,
    clock: Clock,
    metrics: Metrics,
) -> list[Chore]:
    """Return what is to be done, none of it begun: retention, roll-ups, and reconciliation where it
    is enabled."""
    limits = Limits(journal=settings.retention.journal, receipts=settings.retention.receipts)
    found: list[Chore] = [
        Housekeeping(
            store=store,
            limits=limits,
            instance=instance,
            store_gate=store_gate,
            pulse=Pulse("housekeeping", clock),
            stopping=stopping,
            clock=clock,
        ),
        RollupKeeper(
            store=store,
            instance=instance,
            store_gate=store_gate,
            pulse=Pulse("rollups", clock),
            stopping=stopping,
            clock=clock,
        ),
    ]
    if settings.reconcile.enabled:
        part = Part(
            store=store,
            schedule=schedule(settings.reconcile),
            per_second=settings.reconcile.max_per_second,
            instance=instance,
            store_gate=store_gate,
            stopping=stopping,
            clock=clock,
            told=metrics.queried,
            lost=metrics.lost,
        )
        found += _reconciliation(settings, part)
    return found


def _reconciliation(settings: Settings, part: Part) -> list[Chore]:
    found: list[Chore] = [Losses(part, pulse=Pulse("losses", part.clock))]
    for query in assembly.plan_queries(settings, part.clock):
        pulse = Pulse(f"query/{query.account}", part.clock)
        found.append(
            Reconciler(
                part, provider=query.provider, account=query.account, api=query.api, pulse=pulse
            )
        )
    return found
