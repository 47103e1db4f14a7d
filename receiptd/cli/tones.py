"""The colour of each status, the same in every command; never the only sign of anything."""

from receiptd.model import Status

TONES = {
    Status.AWAITED: "yellow",
    Status.PENDING: "yellow",
    Status.LOST: "magenta",
    Status.UNKNOWN: "magenta",
    Status.FAILED: "red",
    Status.DELIVERED: "green",
}
