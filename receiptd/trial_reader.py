"""The process that trial.py starts: it reads bodies as the daemon would, and says of each that it
has outlived it.

    python -m receiptd.trial_reader PROVIDER MESSAGE_TYPE ACCOUNT ORIGIN

Its standard input is a socket: READY goes out, then a length (4 bytes) and a body come in and NEXT
goes out, until the other side closes.
"""

import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from receiptd.errors import InvalidEnvelope
from receiptd.model import Origin
from receiptd.plugins import find_normalizer, find_provider
from receiptd.providers.base import Context, Normalizer
from receiptd.providers.decode import decode

READY = b"R"
NEXT = b"."
_LENGTH_BYTES = 4
# A new batch comes sooner, if there is one.
_IDLE_S = 60.0
# Only for the case that the daemon died meanwhile: it is less patient, and kills.
_LONGEST_READ_S = 10
# What a body of 4 MiB needs at most, on top of what the interpreter has.
_MEMORY_BYTES = 256 * 2**20


def framed(body: bytes) -> bytes:
    """Return `body` as it goes over the socket."""
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def main(arguments: list[str]) -> int:
    """Read bodies until there are no more; return the exit code."""
    # A stop is meant for the daemon; dying of it would look like dying of the body.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    provider_name, message_type, account, origin = arguments
    provider = find_provider(provider_name, "", [])
    if provider is None:
        return 1
    normalize = find_normalizer(provider, message_type, "", [])
    if normalize is None:
        return 1
    context = Context(provider=provider.name, account=account, origin=Origin(origin))
    _limit_itself()
    with socket.socket(fileno=0) as daemon, suppress(OSError):
        daemon.settimeout(_IDLE_S)
        daemon.sendall(READY)
        while (body := _receive(daemon)) is not None:
            signal.alarm(_LONGEST_READ_S)
            _read(body, normalize, context)
            signal.alarm(0)
            daemon.sendall(NEXT)
    return 0


def _read(body: bytes, normalize: Normalizer, context: Context) -> None:
    """Do what pipeline.read does, and forget the result."""
    try:
        for part in decode(body):
            if not isinstance(part.data, InvalidEnvelope):
                with suppress(InvalidEnvelope):
                    normalize(part.data, context)
    except MemoryError:
        os._exit(1)  # without our limit this would have been everybody's memory
    except Exception:
        return  # the daemon outlives an exception, and quarantines under a reason of its own


def _receive(daemon: socket.socket) -> bytes | None:
    """Return the next body; None if the other side has closed. Raises OSError when idle."""
    length = _exactly(daemon, _LENGTH_BYTES)
    return None if length is None else _exactly(daemon, int.from_bytes(length, "big"))


def _exactly(daemon: socket.socket, count: int) -> bytes | None:
    read = bytearray()
    while len(read) < count:
        chunk = daemon.recv(count - len(read))
        if not chunk:
            return None
        read += chunk
    return bytes(read)


def _limit_itself() -> None:
    """Limit memory where the system allows it, and leave no core file: it would hold phones."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
