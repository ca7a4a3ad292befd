"""Adds rules to schemathesis that the OpenAPI description cannot express.

The services under test fetch pages and send webhooks. Every valid generated URL therefore refers to
an unused port on loopback, so that a test sends no request to another host. Invalid URLs are sent
as generated.

A client's job id or idempotency key belongs to one submission: the service refuses it for another
submission. Valid ids and keys are therefore replaced with ones that are derived from the complete
request, in the same form and length. A repeated request has the same id or key. Invalid ids and
keys are sent as generated.
"""

import hashlib
import json
import re
import string
import uuid
from urllib.parse import urlencode

import schemathesis
from hypothesis import strategies as st

UNUSED_ADDRESS = "127.0.0.1:9"
QUERY_BYTES_MAX = 12 << 10
# Syntax of an idempotency key in the OpenAPI description: plain, or in double quotes.
KEY = re.compile(r'[!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}"')

part = st.text(alphabet=string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@", max_size=12)
path = st.lists(part, max_size=4).map("/".join)
scheme = st.sampled_from(["http", "https", "HTTP", "hTTps"])
schemathesis.openapi.format("uri", st.builds(lambda scheme, path: f"{scheme}://{UNUSED_ADDRESS}/{path}", scheme, path))


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """Serializes one job per line."""
    jobs = value if isinstance(value, list) else [value]
    return "".join(json.dumps(job) + "\n" for job in jobs).encode()


@schemathesis.hook
def filter_query(context, query):
    """Returns whether a query fits into the head of a request.

    The OpenAPI description states the limit of 16 KiB in its introduction only.
    """
    return len(urlencode(query or {}, doseq=True, errors="surrogatepass")) <= QUERY_BYTES_MAX


@schemathesis.hook
def before_call(context, case, kwargs):
    """Replaces valid job ids and idempotency keys with ones that are derived from the request."""
    request = repr((case.method, case.path, case.path_parameters, case.query, case.media_type, case.body)).encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(request)
    if case.method == "PUT" and is_uuid(case.path_parameters.get("id")):
        case.path_parameters["id"] = str(uuid.UUID(bytes=digest.digest()[:16], version=5))
    names = [name for name in case.headers if name.lower() == "idempotency-key"]
    for name in names:
        if is_key(case.headers[name]):
            case.headers[name] = derive_key(case.headers[name], digest.hexdigest())


def derive_key(key, digest):
    """Returns a key that is derived from a digest, with the form and length of `key`.

    Shorter keys get 32 characters, so that the keys of different requests differ.
    """
    quote = '"' if key.startswith('"') else ""
    length = min(max(len(key) - 2 * len(quote), 32), 255)
    return quote + (digest * 4)[:length] + quote


def is_uuid(text):
    try:
        return isinstance(text, str) and bool(uuid.UUID(text))
    except ValueError:
        return False


def is_key(text):
    return isinstance(text, str) and bool(KEY.fullmatch(text))
