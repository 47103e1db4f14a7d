"""The soak's report: first whether anything is not as promised, then the figures."""

import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from torture.evidence import Verdict
from torture.soak_samples import FLOOR_MB_H, Memory, Sample

_WORDS = """\
*sent*: SMS whose receipts were handed to the broker, or pushed. *lost*: no row, one that says
something else than the latest receipt, a receipt without its line in the journal, a reply or a
message that cannot be understood that is not there. *unexpected*: what nobody sent. *duplicated*:
one SMS in two rows, or more lines in the journal than were handed out. *early acks*: of every
eighth ack, those that another connection saw before the record. *recovered*: SMS that were handed
out again after a fault and have one right row.
"""


class Soaked(msgspec.Struct, frozen=True):
    """One whole run."""

    database: str
    verdict: Verdict
    messages: int
    took_s: float
    looked: int  # acks that another connection looked at
    quiet: Sequence[Sample]  # after the warm-up, and at the end, when nothing went on
    memory: Memory | None  # None: there was no time for samples
    struck: Mapping[str, int]
    looks: Mapping[str, int]
    events: Mapping[str, int]
    complaints: Sequence[str]
    tail: Sequence[str]  # of the log

    @property
    def is_clean(self) -> bool:
        """Whether all is as promised."""
        return self.verdict.is_clean and not self.complaints


def markdown(soaked: Soaked) -> str:
    """Return the report."""
    verdict, minutes = soaked.verdict, soaked.took_s / 60
    result = "Nothing" if soaked.is_clean else "SOMETHING"
    numbers = [
        verdict.sent, verdict.lost, verdict.unexpected, verdict.duplicated, verdict.early,
        verdict.recovered,
    ]  # fmt: skip
    head = ["sent", "lost", "unexpected", "duplicated", "early acks", "recovered"]
    parts = [
        "# Soak report\n",
        f"**{result} was lost, invented, doubled, acked early or kept** in {soaked.messages:,} SMS"
        f" on {soaked.database}; {minutes:.1f} min on {os.cpu_count()} cores, {platform.system()}"
        f" {platform.release()}, Python {platform.python_version()}, SQLite"
        f" {sqlite3.sqlite_version}; {soaked.looked:,} acks looked at.\n",
        _table(head, [numbers]),
        "",
        _WORDS,
        "## Memory, threads, descriptors\n",
        *_memory(soaked.memory),
        _quiet(soaked.quiet),
        "\n## What befell it\n",
        _table(["fault", "times"], sorted(soaked.struck.items())),
        "\n## What it said\n",
        _table(["what", "times"], sorted({**soaked.looks, **soaked.events}.items())),
        "",
    ]
    if soaked.complaints:
        parts += ["## Wrong\n", *(f"- {text}" for text in soaked.complaints), "", "```"]
        parts += [*soaked.tail, "```", ""]
    return "\n".join(parts)


def _memory(memory: Memory | None) -> list[str]:
    if memory is None:
        return ["No samples.\n"]
    return [
        f"{memory.judgement.capitalize()}: RSS {memory.slope_mb_h:+.1f} MB/h"
        f" ± {2 * memory.error_mb_h:.1f} (at most {FLOOR_MB_H:g} beyond error and noise),"
        f" {memory.bytes_per_receipt:+.2f} bytes an ack, {memory.growth_kib:+.0f} KiB from the"
        f" second quarter's median to the last one's, {memory.late_kib:+.0f} of it from the third"
        f" quarter's; {memory.first_kib / 1024:.1f} MB at first,"
        f" {memory.last_kib / 1024:.1f} at last, {memory.highest_kib / 1024:.1f} at most;"
        f" {memory.samples} samples over {memory.receipts:,} acks.\n"
    ]


def _quiet(quiet: Sequence[Sample]) -> str:
    kinds = sorted({kind for one in quiet for kind in one.descriptors})
    head = ["when all is quiet", "acks", "RSS MB", "anonymous MB", "threads", *kinds]
    lines = [
        [
            name, one.receipts, f"{one.rss_kib / 1024:.1f}", f"{one.anon_kib / 1024:.1f}",
            one.threads, *(one.descriptors.get(kind, 0) for kind in kinds),
        ]
        for name, one in zip(("after the warm-up", "at the end"), quiet, strict=False)
    ]  # fmt: skip
    return _table(head, lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    texts = [[f"{one:,}" if isinstance(one, int) else str(one) for one in line] for line in lines]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(head), rule, *texts])
