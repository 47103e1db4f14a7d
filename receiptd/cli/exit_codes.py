"""What the exit codes mean, after sysexits.h; the README has the same table."""

OK = 0
BUG = 1
USAGE = 2
DATA_REFUSED = 65  # EX_DATAERR
UNAVAILABLE = 69  # EX_UNAVAILABLE
TRY_AGAIN = 75  # EX_TEMPFAIL
CREDENTIALS_REFUSED = 77  # EX_NOPERM
CONFIG = 78  # EX_CONFIG; the systemd unit does not restart after it
INTERRUPTED = 130  # 128 + SIGINT, as shells say it

MEANINGS = {
    OK: "done",
    BUG: "a bug of ours",
    USAGE: "usage",
    DATA_REFUSED: "some input was refused (and is listed)",
    UNAVAILABLE: "a service is unavailable",
    TRY_AGAIN: "try again later",
    CREDENTIALS_REFUSED: "credentials refused",
    CONFIG: "configuration",
    INTERRUPTED: "interrupted by the user",
}
