"""Extends schemathesis with rules that the OpenAPI description cannot express.

The services fetch pages and send webhooks during the test. So every valid generated URL refers to an unused port of
loopback, and no request is sent to another host. Invalid URLs are sent as generated.

A job id or idempotency key belongs to one submission: the service refuses the same name with other contents. So valid
names are replaced with names derived from the request, in the same form and length. A repeated request has the same
name. Invalid names are sent as generated.
"""

import hashlib
import json
import re
import string
import uuid
from urllib.parse import urlencode

import schemathesis
from hypothesis import strategies as st

NOWHERE = "127.0.0.1:9"
QUERY_BYTES_MAX = 12 << 10
# Syntax as in the description: plain, or in double quotes.
KEY = re.compile(r'[!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}"')

part = st.text(alphabet=string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@", max_size=12)
path = st.lists(part, max_size=4).map("/".join)
scheme = st.sampled_from(["http", "https", "HTTP", "hTTps"])
schemathesis.openapi.format("uri", st.builds(lambda scheme, path: f"{scheme}://{NOWHERE}/{path}", scheme, path))


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """Serializes one job per line."""
    jobs = value if isinstance(value, list) else [value]
    return "".join(json.dumps(job) + "\n" for job in jobs).encode()


@schemathesis.hook
def filter_query(context, query):
    """Rejects queries that do not fit into the head of a request.

    The description states the limit of 16 KiB only in its introduction.
    """
    return len(urlencode(query or {}, doseq=True, errors="surrogatepass")) <= QUERY_BYTES_MAX


@schemathesis.hook
def before_call(context, case, kwargs):
    """Replaces valid job ids and idempotency keys with names derived from the request."""
    contents = repr((case.method, case.path, case.path_parameters, case.query, case.media_type, case.body)).encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(contents)
    if case.method == "PUT" and is_uuid(case.path_parameters.get("id")):
        case.path_parameters["id"] = str(uuid.UUID(bytes=digest.digest()[:16], version=5))
    names = [name for name in case.headers if name.lower() == "idempotency-key"]
    for name in names:
        if is_key(case.headers[name]):
            case.headers[name] = renamed(case.headers[name], digest.hexdigest())


def renamed(key, digest):
    """Returns another key of the same form and length.

    It has at least 32 characters, so that the keys of different requests differ.
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
