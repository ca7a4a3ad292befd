#!/usr/bin/env python3
"""Shows a trace from the Jaeger of `make run TRACE=1` in a terminal. `make trace JOB=...` calls it.

Takes the id of a job or of a trace. The Jaeger of deploy/install-jaeger has no web pages, so this shows traces without Docker.
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
SHOWN = ["job.status", "job.attempt", "error.type", "http.response.status_code", "url.full", "wordmill.words.total"]


def ask(path):
    """Returns the traces that Jaeger finds, or none."""
    try:
        with urllib.request.urlopen(JAEGER + path, timeout=10) as answer:
            return json.load(answer)["data"] or []
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return []
        raise SystemExit(f"Jaeger answered with status {error.code}") from error
    except OSError as error:
        raise SystemExit(f"Jaeger at {JAEGER} cannot be reached: {error}; start it with `make run TRACE=1`") from error


def find(name):
    """Returns the trace with this id, or those of the job with this id."""
    if len(name) == 32 and name.isalnum():
        return ask(f"/api/traces/{name}")
    tags = json.dumps({"job.id": name})
    for service in SERVICES:
        query = urllib.parse.urlencode({"service": service, "tags": tags, "lookback": "48h", "limit": 20})
        found = ask(f"/api/traces?{query}")
        if found:
            return found
    return []


def show(trace):
    spans = {span["spanID"]: span for span in trace["spans"]}
    begin = min(span["startTime"] for span in spans.values())
    length = max(max(span["startTime"] + span["duration"] for span in spans.values()) - begin, 1)
    children = {}
    for span in sorted(spans.values(), key=lambda span: span["startTime"]):
        # Prefers the parent. If a span also links to its parent, Jaeger keeps only the link.
        references = sorted(span["references"], key=lambda one: one["refType"] != "CHILD_OF")
        parents = [one["spanID"] for one in references if one["spanID"] in spans]
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
        notes = " ".join(f"{key}={tags[key]}" for key in SHOWN if key in tags)
        print(f"{mark} {name:<30} {service:<8} |{bar:<{BAR_WIDTH}}| {span['duration'] / 1000:9.2f} ms  {notes}".rstrip())
        for child in children.get(span["spanID"], []):
            row(child, depth + 1)

    for root in children.get(None, []):
        row(root, 0)


def main():
    name = sys.argv[1].strip() if len(sys.argv) == 2 else ""
    if not name:
        print("no id: run `make trace JOB=<id of a job or a trace>`", file=sys.stderr)
        return 64
    traces = find(name)
    if not traces:
        print(f"Jaeger has no trace of {name}; a new trace appears after about a second", file=sys.stderr)
        return 1
    for trace in traces:
        show(trace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
