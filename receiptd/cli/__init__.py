"""The command line: parses, calls, prints. `main` turns errors into exit codes."""

import sys
from collections.abc import Sequence

from receiptd.cli import exit_codes
from receiptd.errors import (
    ConfigError,
    InvalidEnvelope,
    ReceiptdError,
    SourceError,
    SourceRefused,
    StoreError,
    StoreRejected,
)

# The first that fits counts, so a subclass stands above its base.
_CODES: tuple[tuple[type[ReceiptdError], int], ...] = (
    (ConfigError, exit_codes.CONFIG),
    (SourceRefused, exit_codes.CREDENTIALS_REFUSED),
    (SourceError, exit_codes.UNAVAILABLE),
    (StoreRejected, exit_codes.DATA_REFUSED),
    (StoreError, exit_codes.UNAVAILABLE),
    (InvalidEnvelope, exit_codes.DATA_REFUSED),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Never raises."""
    if arguments is None and "run" in sys.argv[1:]:  # of all commands it alone lives long
        from receiptd import memory

        memory.settle_heap()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from receiptd.cli.app import command

        command().main(args=arguments, prog_name="receiptd")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else exit_codes.OK
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except ReceiptdError as exc:
        from receiptd.cli import languages

        _complain(languages.error(exc))
        return exit_code(exc)
    except Exception as exc:
        _report_bug(exc, with_traceback="--debug" in arguments)
        return exit_codes.BUG
    return exit_codes.OK


def exit_code(exc: ReceiptdError) -> int:
    """Return the exit code that this error ends a command with."""
    return next((code for kind, code in _CODES if isinstance(exc, kind)), exit_codes.BUG)


def _complain(text: str) -> None:
    from receiptd import masking

    for line in text.splitlines():
        _print(f"receiptd: {masking.text(line)}")


def _report_bug(exc: Exception, *, with_traceback: bool) -> None:
    """Say where it happened, not what the exception says: that can hold what it was working on."""
    if with_traceback:
        import traceback

        _print("".join(traceback.format_exception(exc)).rstrip())
        return
    from receiptd import masking
    from receiptd.cli import languages

    frames = masking.exception(exc)["frames"]
    where = frames[-1] if isinstance(frames, list) and frames else "nowhere"
    told = languages.translated(
        f"a bug: {type(exc).__name__} at {where} (`receiptd --debug …` shows all of it)"
    )
    _print(f"receiptd: {told}")


def _print(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return  # nobody listens; the exit code still tells
