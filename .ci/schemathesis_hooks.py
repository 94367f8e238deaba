"""What schemathesis can't know from the document: how to sign, where two limits end for sure, what a cursor is."""

import hashlib
import hmac
import os
import re

import requests
import schemathesis

MESSAGE_ID_BYTES_MAX = 512
OFFSET_MAX = 2**63 - 1


class Signed(requests.auth.AuthBase):
    """A generated header that could be a signature becomes the right one; no header, and what could not be, stays."""

    def __call__(self, request):
        given = request.headers.get("X-Signature", "")
        given = given if isinstance(given, str) else given.decode("latin-1")
        if re.fullmatch("[0-9A-Fa-f]{64}", given):
            body = request.body or b""
            body = body.encode() if isinstance(body, str) else body
            request.headers["X-Signature"] = hmac.new(os.environb[b"WEBHOOK_SECRET"], body, hashlib.sha256).hexdigest()
        return request


@schemathesis.hook
def before_call(context, case, kwargs):
    kwargs["auth"] = Signed()


@schemathesis.hook
def filter_case(context, case):
    """Leaves out what is past a limit in a way that schemathesis does not see."""
    return not (
        is_long_in_bytes_only(case.body) or is_large_in_integers_only(case.query) or has_made_up_cursor(case.query)
    )


def is_long_in_bytes_only(body):
    """JSON Schema counts characters, and the limit is one of bytes."""
    message_id = body.get("message_id") if isinstance(body, dict) else None
    if not isinstance(message_id, str) or len(message_id) > MESSAGE_ID_BYTES_MAX:
        return False
    return len(message_id.encode(errors="replace")) > MESSAGE_ID_BYTES_MAX


def has_made_up_cursor(query):
    """A cursor is a text that the service made; any other is refused."""
    return bool((query or {}).get("cursor"))


def is_large_in_integers_only(query):
    """Schemathesis compares as floating-point numbers, of which the next one is 2048 away."""
    offset = str((query or {}).get("offset", ""))
    return offset.isdecimal() and OFFSET_MAX < int(offset) and float(offset) <= OFFSET_MAX + 1
