"""`python -m torture.soak`: a million receipts with 1 % of faults, after half a million at full
load, and what the daemon then holds.

The report goes to stdout and to `soak-report.md`. Exits with 1 if anything was lost, unexpected,
duplicated or acked early, if memory, threads or descriptors leak, or if the time was up before all
was sent.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.databases import databases, fresh_url
from torture.soak_report import markdown
from torture.soak_run import Ended, Plan, soak


def main(arguments: Sequence[str]) -> int:
    """Run, print the report and save it; return the exit code."""
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m torture.soak", description=__doc__)
    parser.add_argument("--warm-up", type=int, default=plan.warm_up, help="SMS at full load first")
    parser.add_argument("--messages", type=int, default=plan.messages, help="SMS, with those")
    parser.add_argument("--per-second", type=float, default=plan.per_s, help="0: at full load")
    parser.add_argument("--database", choices=databases(), default=plan.database)
    parser.add_argument("--sample-every", type=float, default=plan.sample_every_s, help="seconds")
    parser.add_argument("--trouble-every", type=float, default=plan.trouble_every_s, help="seconds")
    parser.add_argument("--minutes", type=float, default=plan.minutes, help="then it is given up")
    parser.add_argument("--report", type=Path, default=Path("soak-report.md"))
    options = parser.parse_args(arguments)
    plan = Plan(
        warm_up=options.warm_up,
        messages=options.messages,
        per_s=options.per_second,
        database=options.database,
        sample_every_s=options.sample_every,
        trouble_every_s=options.trouble_every,
        minutes=options.minutes,
    )
    with tempfile.TemporaryDirectory() as folder, fresh_url(plan.database) as url:
        try:
            soaked = soak(plan, url, Path(folder), tell=_tell)
        except Ended as exc:
            _tell(str(exc))
            return 1
    report = markdown(soaked)
    options.report.write_text(report)
    print(report)
    return 0 if soaked.is_clean else 1


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
