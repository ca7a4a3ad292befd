#!/usr/bin/env python3
"""Shows traces from the Jaeger of `make run TRACE=1` in a terminal. `make trace JOB=...` calls it.

The argument is the id of a job or of a trace. The Jaeger of deploy/install-jaeger has an API, but
no web UI.
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

JAEGER = f"http://127.0.0.1:{os.environ.get('JAEGER_PORT') or 16686}"
SERVICES = ["wordmill-gateway", "wordmill-worker"]
BAR_WIDTH = 30
SHOWN_ATTRIBUTES = ["job.status", "job.attempt", "error.type", "http.response.status_code", "url.full", "wordmill.words.total"]


def fetch_traces(path):
    """Requests traces from Jaeger's API. Returns an empty list if it finds none."""
    try:
        with urllib.request.urlopen(JAEGER + path, timeout=10) as response:
            return json.load(response)["data"] or []
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return []
        raise SystemExit(f"Jaeger at {JAEGER} returned status {error.code}") from error
    except OSError as error:
        raise SystemExit(f"cannot reach Jaeger at {JAEGER}: {error}; start it with `make run TRACE=1`") from error


def find_traces(identifier):
    """Returns the trace with this id, or the traces of the job with this id."""
    if len(identifier) == 32 and identifier.isalnum():
        return fetch_traces(f"/api/traces/{identifier}")
    tags = json.dumps({"job.id": identifier})
    for service in SERVICES:
        query = urllib.parse.urlencode({"service": service, "tags": tags, "lookback": "48h", "limit": 20})
        traces = fetch_traces(f"/api/traces?{query}")
        if traces:
            return traces
    return []


def show(trace):
    spans = {span["spanID"]: span for span in trace["spans"]}
    begin = min(span["startTime"] for span in spans.values())
    length = max(max(span["startTime"] + span["duration"] for span in spans.values()) - begin, 1)
    children = {}
    for span in sorted(spans.values(), key=lambda span: span["startTime"]):
        # Parents come first, then links. Links count, because Jaeger keeps only the link if a span
        # also links to its parent.
        references = sorted(span["references"], key=lambda reference: reference["refType"] != "CHILD_OF")
        parents = [reference["spanID"] for reference in references if reference["spanID"] in spans]
        parent = parents[0] if parents else None
        children.setdefault(parent, []).append(span)
    print(f"trace {trace['traceID']}, {length / 1000:.1f} ms")

    def row(span, depth):
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        left = (span["startTime"] - begin) * BAR_WIDTH // length
        width = max(span["duration"] * BAR_WIDTH // length, 1)
        bar = (" " * min(left, BAR_WIDTH - 1) + "#" * width)[:BAR_WIDTH]
        service = trace["processes"][span["processID"]]["serviceName"].removeprefix("wordmill-")
        name = "  " * depth + span["operationName"]
        mark = "!" if tags.get("otel.status_code") == "ERROR" else " "
        attributes = " ".join(f"{key}={tags[key]}" for key in SHOWN_ATTRIBUTES if key in tags)
        if tags.get("otel.status_description"):
            attributes += f" ({tags['otel.status_description']})"
        print(f"{mark} {name:<30} {service:<8} |{bar:<{BAR_WIDTH}}| {span['duration'] / 1000:9.2f} ms  {attributes}".rstrip())
        for child in children.get(span["spanID"], []):
            row(child, depth + 1)

    for root in children.get(None, []):
        row(root, 0)


def main():
    identifier = sys.argv[1].strip() if len(sys.argv) == 2 else ""
    if not identifier:
        print("JOB is missing: run `make trace JOB=<id of a job or a trace>`", file=sys.stderr)
        return 64
    traces = find_traces(identifier)
    if not traces:
        print(f"Jaeger has no trace of {identifier}; a new trace appears after about a second", file=sys.stderr)
        return 1
    for trace in traces:
        show(trace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
