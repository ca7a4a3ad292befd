"""What the fuzzing client cannot know from the description.

Pages are fetched and webhooks sent for real, so every URL that is generated as a good one is on loopback, at a port that is never dialled: a test
must not ask strangers for anything. URLs that are no good are generated freely.

And a name that a client gives its submission belongs to what is submitted: other contents under the same name are refused, as they
should be, and no description can say that. So names that are well-formed are replaced by one that follows from the whole request, of the same
form and length. A repeat repeats its name, too. What is not well-formed is sent as it was generated.
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
# As the description has it: plain, or in double quotes.
KEY = re.compile(r'[!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}"')

part = st.text(alphabet=string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@", max_size=12)
path = st.lists(part, max_size=4).map("/".join)
scheme = st.sampled_from(["http", "https", "HTTP", "hTTps"])
schemathesis.openapi.format("uri", st.builds(lambda scheme, path: f"{scheme}://{NOWHERE}/{path}", scheme, path))


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """Writes one job a line."""
    jobs = value if isinstance(value, list) else [value]
    return "".join(json.dumps(job) + "\n" for job in jobs).encode()


@schemathesis.hook
def filter_query(context, query):
    """Leaves out queries that do not fit into the head of a request. The limit of 16 KiB is stated once, in the introduction of the description."""
    return len(urlencode(query or {}, doseq=True, errors="surrogatepass")) <= QUERY_BYTES_MAX


@schemathesis.hook
def before_call(context, case, kwargs):
    """Names what is submitted by what it is."""
    said = repr((case.method, case.path, case.path_parameters, case.query, case.media_type, case.body)).encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(said)
    if case.method == "PUT" and is_uuid(case.path_parameters.get("id")):
        case.path_parameters["id"] = str(uuid.UUID(bytes=digest.digest()[:16], version=5))
    names = [name for name in case.headers if name.lower() == "idempotency-key"]
    for name in names:
        if is_key(case.headers[name]):
            case.headers[name] = renamed(case.headers[name], digest.hexdigest())


def renamed(key, digest):
    """Returns another key, in the same form; as long, but for those too short to tell requests apart."""
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
