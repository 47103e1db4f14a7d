"""What went wrong on the way to a broker, in one short word and with what an operator can do."""

import errno
import ssl

from receiptd.pullers.dialing import NoAddress
from receiptd.pullers.http1 import WireError

CURES = {
    "timeout": "the broker did not answer in time; check the network path and the endpoint",
    "refused": "nothing listens at the endpoint; check host and port",
    "reset": "the connection ended before the answer was complete",
    "unreachable": "no route to the endpoint; check network and firewall",
    "dns": "the endpoint's name could not be resolved; check the name and the resolver",
    "tls": "the TLS connection failed; check the endpoint, the system's roots and SSL_CERT_FILE",
    "too_big": "the answer was larger than any batch; something else answers at the endpoint",
    "bad_answer": "what answered is not the broker; check the endpoint and proxies on the way",
    "unsendable": "the request could not be formed; check keys and names for stray characters",
    "cancelled": "",
}

_CODES: tuple[tuple[type[OSError], str], ...] = (
    (TimeoutError, "timeout"),
    (NoAddress, "dns"),
    (ConnectionRefusedError, "refused"),
    (ConnectionError, "reset"),
    (ssl.SSLError, "tls"),
)


def explain(exc: OSError | WireError) -> tuple[str, str]:
    """Return the short code and the cure; never the exception's own text, which may quote."""
    if isinstance(exc, WireError):
        return exc.code, CURES[exc.code]
    if isinstance(exc, ssl.SSLCertVerificationError):
        return "tls", f"{exc.verify_message}; {CURES['tls']}"
    for kind, code in _CODES:
        if isinstance(exc, kind):
            return code, CURES[code]
    name = errno.errorcode.get(exc.errno or 0, "")
    return "unreachable", f"{name}; {CURES['unreachable']}" if name else CURES["unreachable"]
