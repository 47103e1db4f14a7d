"""What a service's refusal means to who set receiptd up."""

import threading
from collections.abc import Callable

from receiptd.errors import SourceCancelled, SourceError, SourceRefused
from receiptd.online.steps import Fault, Verdict, fail, ok

# Codes that no other key would mend.
_CONFIGURATION = (
    "QueueNotExist",
    "TopicNotExist",
    "QueueNameLengthError",
    "InvalidArgument",
    "InvalidVersion",
    "InvalidAction",
    "InvalidTimeStamp",
    "TimeExpired",
    "unsendable",
)
# The key was judged and accepted before the number that we made up.
_ABOUT_THE_QUESTION = ("isv.INVALID_PARAMETERS", "isv.MOBILE_NUMBER_ILLEGAL")
# What to do at the set-up; the errors' own cures are for a daemon that worked before.
_KEY = "check access_key_id and access_key_secret for a missing or an extra character"
_RIGHTS = (
    "give the RAM user the policy AliyunDysmsFullAccess, for a queue of your own also"
    " AliyunMNSFullAccess, and wait a minute"
)
_CURES = {
    "QueueNotExist": "check queue, region and endpoint; a queue is made, and one that slept after"
    " three months without a send woken, by the switch 消息接收 in the SMS console",
    "TopicNotExist": "check topic, instance_id and endpoint against the instance's page in the"
    " console",
    "AccessDenied": "the name of the queue or its message_type is not what the key is for, or it"
    " has no right to read: check queue and message_type, then the RAM policy",
    "SignatureDoesNotMatch": _KEY,
    "InvalidAccessKeyId": "the access key does not exist or is disabled: compare access_key_id"
    " with the RAM console",
    "InvalidAccessKeyId.NotFound": "the access key does not exist or is disabled: compare"
    " access_key_id with the RAM console",
    "NoPermission": _RIGHTS,
    "Forbidden": _RIGHTS,
    "Forbidden.RAM": _RIGHTS,
    "isp.RAM_PERMISSION_DENY": _RIGHTS,
    "Throttling": "the service is busy with this account: try again in a minute",
    "Throttling.User": "the service is busy with this account: try again in a minute",
    "QpsLimitExceeded": "the service is busy with this account: try again in a minute",
    "bad_answer": "what answered is not the service: check the endpoint, and proxies and portals"
    " on the way",
    "timeout": "the service took the connection but gave no answer in time: check proxies and"
    " firewalls, or give more time with --timeout",
}


def bounded(act: Callable[[], Verdict], cancel: Callable[[], None], seconds: float) -> Verdict:
    """Return what `act` found, or what the refusal it met means; `cancel` ends it after
    `seconds`."""
    timer = threading.Timer(seconds, cancel)
    timer.daemon = True
    timer.start()
    try:
        return act()
    except SourceCancelled:
        return fail(Fault.NETWORK, "timeout", _CURES["timeout"])
    except SourceError as exc:
        return refused(exc)
    finally:
        timer.cancel()


def refused(exc: SourceError) -> Verdict:
    """Return the verdict for an error, with the cure for a set-up."""
    if exc.code in _ABOUT_THE_QUESTION:
        return ok(f"the key is accepted, our made-up question was not ({exc.code})")
    detail = exc.code
    if exc.http_status is not None:
        detail += f", http {exc.http_status}"
    if exc.request_id:
        detail += f", request {exc.request_id}"
    if exc.code.startswith(_CONFIGURATION):
        fault = Fault.CONFIGURATION
    elif isinstance(exc, SourceRefused):
        fault = Fault.CREDENTIALS
    else:
        fault = Fault.NETWORK
    return fail(fault, detail, _CURES.get(exc.code, exc.cure))
