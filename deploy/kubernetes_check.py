"""Checks the manifests in deploy/kubernetes: each against its schema, and all against each other
and the rest of the tree.

Uses `kubernetes-validate`, which contains the schemas of Kubernetes, and KEDA's own schema. Runs
nats-server to check its configuration, and promtool to check the queries that set the number of
workers. Part of deploy/validate.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pinned

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy/kubernetes"
VALIDATOR_VERSION = "1.37.0"
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
# Runs in the environment of the validator, which also contains PyYAML. Prints all manifests and
# their problems as JSON.
VALIDATE = """
import json, pathlib, sys
import jsonschema, kubernetes_validate, yaml
folder, version, keda = pathlib.Path(sys.argv[1]), sys.argv[2], yaml.safe_load(open(sys.argv[3]))
scaled = next(v for v in keda["spec"]["versions"] if v["name"] == "v1alpha1")["schema"]["openAPIV3Schema"]

def refuse_unknown_fields(schema):
    if isinstance(schema, dict):
        fields = schema.get("properties")
        if isinstance(fields, dict) and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema["additionalProperties"] = False
        for part in schema.values():
            refuse_unknown_fields(part)
    elif isinstance(schema, list):
        for part in schema:
            refuse_unknown_fields(part)

refuse_unknown_fields(scaled)
# KEDA's schema leaves the metadata to Kubernetes: any object is accepted here.
scaled["properties"]["metadata"] = {"type": "object"}
manifests, problems = [], []
for path in sorted(folder.glob("*.yaml")):
    for manifest in yaml.safe_load_all(path.read_text()):
        manifests.append({"file": path.name, **manifest})
        name = f"{path.name}: {manifest['kind']}"
        try:
            if manifest["apiVersion"] == "keda.sh/v1alpha1":
                jsonschema.validate(manifest, scaled)
            elif not manifest["apiVersion"].startswith("kustomize."):
                kubernetes_validate.validate(manifest, version.rpartition(".")[0], strict=True)
        except Exception as error:
            problems.append(f"{name}: {str(error).splitlines()[0]}")
json.dump({"manifests": manifests, "problems": problems}, sys.stdout)
"""


def find_or_install_validator():
    """Returns the Python interpreter of an environment that contains the validator. Creates the
    environment if it is missing.
    """
    home = pinned.TOOLS / f"kubernetes-validate-{VALIDATOR_VERSION}"
    python = home / "bin/python"
    with pinned.lock():
        if not (home / "complete").exists():
            pinned.print_progress(f"fetching kubernetes-validate {VALIDATOR_VERSION} from PyPI")
            pinned.attempt([sys.executable, "-m", "venv", "--clear", str(home)], "python3 -m venv")
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            pinned.attempt([*pip, f"kubernetes-validate=={VALIDATOR_VERSION}"], "pip")
            (home / "complete").touch()
    return str(python)


def download_keda_definition():
    """Downloads the source of KEDA's release. Returns the path of its schema of a ScaledObject."""
    output = pinned.attempt(["go", "mod", "download", "-json", KEDA], "go mod download", {"GOFLAGS": "-mod=mod", "GOWORK": "off"}, "/")
    return f"{json.loads(output)['Dir']}/config/crd/bases/keda.sh_scaledobjects.yaml"


def containers(manifest):
    return manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])


def find_problems(nats_server):
    """Returns all problems as sentences."""
    try:
        command = [find_or_install_validator(), "-c", VALIDATE, str(FOLDER), VALIDATOR_VERSION, download_keda_definition()]
    except pinned.Unavailable as error:
        raise SystemExit(f"cannot check deploy/kubernetes: {error}") from error
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"cannot check deploy/kubernetes: {run.stderr.strip()}")
    checked = json.loads(run.stdout)
    manifests = {(manifest["kind"], manifest.get("metadata", {}).get("name")): manifest for manifest in checked["manifests"]}
    return [
        *checked["problems"],
        *check_selectors(manifests),
        *check_settings(manifests),
        *check_references(manifests),
        *check_images(manifests),
        *check_broker_configuration(manifests, nats_server),
        *check_scaling_queries(manifests),
    ]


def check_selectors(manifests):
    """Checks that selectors match pods, that probed ports and mounted volumes exist, and that
    containers are restricted.
    """
    labels = {name: manifest["spec"]["template"]["metadata"]["labels"] for (_, name), manifest in manifests.items() if containers(manifest)}
    for (kind, name), manifest in manifests.items():
        selector = manifest.get("spec", {}).get("selector")
        if selector:
            selected = selector.get("matchLabels", selector)
            if labels.get(name) != selected:
                yield f"{kind} {name} selects {selected}, but the pods have {labels.get(name)}"
        for container in containers(manifest):
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                if port and port not in ports:
                    yield f"{name}: {probe} uses port {port}, which the container does not define"
            volumes = {volume["name"] for volume in manifest["spec"]["template"]["spec"].get("volumes", [])}
            volumes |= {claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])}
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{name}: the volume {mount['name']} does not exist"
            security = container.get("securityContext", {})
            if not security.get("readOnlyRootFilesystem") or security.get("allowPrivilegeEscalation") is not False:
                yield f"{name}: may write to its root file system or gain privileges"
            if not container.get("resources", {}).get("limits", {}).get("memory"):
                yield f"{name}: no memory limit"
    service = manifests["Service", "gateway"]["spec"]["ports"][0]["targetPort"]
    if service not in {port["name"] for port in containers(manifests["Deployment", "gateway"])[0]["ports"]}:
        yield f"the Service gateway uses port {service}, which gateways do not define"


def check_settings(manifests):
    """Checks that the services read every variable, and that all manifests use the same port for a
    service.
    """
    code = "".join(path.read_text() for crate in ("common", "nats", "gateway", "worker") for path in (ROOT / crate).glob("**/src/**/*.rs"))
    names = set(manifests["ConfigMap", "wordmill"]["data"])
    for (_, name), manifest in manifests.items():
        if name == "nats":
            continue
        for container in containers(manifest):
            defined, used = set(), set()
            for variable in container.get("env", []):
                # Kubernetes replaces only variables that are defined earlier in the list.
                parts = set(re.findall(r"\$\((\w+)\)", variable.get("value", "")))
                for part in sorted(parts - defined):
                    yield f"{name}: {variable['name']} contains $({part}), which no earlier entry of the list defines"
                used |= parts
                defined.add(variable["name"])
            names |= defined - used
    for name in sorted(names):
        if f'"{name}"' not in code and not re.fullmatch(r"WORDMILL_NATS_(USER|PASSWORD)", name):
            yield f"deploy/kubernetes sets {name}, which no service reads"
    for name in ("gateway", "worker"):
        listen = next((v["value"] for v in containers(manifests["Deployment", name])[0]["env"] if v["name"].endswith("_LISTEN")), "")
        port = str(containers(manifests["Deployment", name])[0]["ports"][0]["containerPort"])
        scraped = manifests["Deployment", name]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"]
        if {port, scraped} != {listen.rpartition(":")[2]}:
            yield f"{name} listens on {listen}, but its container port is {port}, and Prometheus scrapes port {scraped}"


def check_references(manifests):
    """Checks that the README or a manifest creates every secret, ConfigMap and key that is used."""
    readme = (FOLDER / "README.md").read_text()
    created = set(re.findall(r"kubectl create (?:secret generic|configmap) ([\w-]+)", readme)) | {n for k, n in manifests if k == "ConfigMap"}
    keys = set(re.findall(r"--from-literal=([\w-]+)=", readme))
    for (kind, name), manifest in manifests.items():
        text = json.dumps(manifest.get("spec", {}).get("template", {}))
        for needed in re.findall(r'"(?:secretName|(?:configMap|configMapRef)": \{"name)": "([\w-]+)"', text):
            if needed not in created:
                yield f"{kind} {name}: neither the README nor a manifest creates {needed}"
    for (kind, name), manifest in manifests.items():
        for container in containers(manifest):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference and (reference["name"] not in created or reference["key"] not in keys):
                    yield f"{kind} {name}: {variable['name']} comes from {reference}, which the README does not create"
    kustomization = next(m for (kind, _), m in manifests.items() if kind == "Kustomization")
    existing = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    if set(kustomization["resources"]) != existing:
        yield f"kustomization.yaml lists {sorted(kustomization['resources'])}, but the folder contains {sorted(existing)}"


def check_images(manifests):
    """Checks that docker-compose.yml has the same images, including the version of the broker."""
    compose = (ROOT / "docker-compose.yml").read_text()
    known = set(re.findall(r"^    image: (\S+)", compose, re.M))
    kustomization = next(m for (kind, _), m in manifests.items() if kind == "Kustomization")
    named = {image["name"] for image in kustomization["images"]}
    for (kind, name), manifest in manifests.items():
        for container in containers(manifest):
            if container["image"] not in known:
                yield f"{kind} {name}: the image {container['image']} is not in docker-compose.yml"
            if ":" not in container["image"] and container["image"] not in named:
                yield f"{kind} {name}: kustomization.yaml does not list the image {container['image']}"


def check_broker_configuration(manifests, nats_server):
    """Checks that nats-server accepts its configuration with the environment of its manifest, and
    that all files name three servers.
    """
    environment = {}
    for variable in containers(manifests["StatefulSet", "nats"])[0]["env"]:
        value = variable.get("value", f"p{len(environment)}")
        environment[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda match: environment[match.group(1)], value)
    with tempfile.TemporaryDirectory() as folder:
        for path in (ROOT / "nats/server.conf", FOLDER / "nats.conf"):
            pathlib.Path(folder, path.name).write_text(path.read_text())
        command = [nats_server, "--config", f"{folder}/nats.conf", "--store_dir", f"{folder}/data", "-t"]
        run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if run.returncode != 0:
        yield f"nats-server rejects deploy/kubernetes/nats.conf: {(run.stdout + run.stderr).strip()}"
    replicas = manifests["StatefulSet", "nats"]["spec"]["replicas"]
    routes = sum(name.startswith("ROUTE_") for name in environment)
    urls = manifests["ConfigMap", "wordmill"]["data"]["WORDMILL_NATS_URL"].count("nats://")
    stream_replicas = int(manifests["ConfigMap", "wordmill"]["data"]["WORDMILL_REPLICAS"])
    if {replicas, routes, urls, stream_replicas} != {3}:
        yield f"{replicas} servers, {routes} routes, {urls} URLs and {stream_replicas} stream replicas: there must be 3 of each"


CASES = [
    ("no job waits for a worker, but one waits for its next attempt", {"age": {"interactive": 500, "bulk": 0}, "waiting": {"interactive": 0, "bulk": 0}}, 0, 0),
    ("all jobs are late", {"age": {"interactive": 45, "bulk": 900}, "waiting": {"interactive": 30, "bulk": 4000}}, 45, 4030),
    ("only bulk jobs are late", {"age": {"interactive": 0, "bulk": 900}, "waiting": {"interactive": 0, "bulk": 4000}}, 0, 4000),
    ("no gateway can be scraped", {}, None, None),
]
SERIES = {"age": "wordmill_queue_oldest_age_seconds", "waiting": "wordmill_jobs_waiting"}


def check_scaling_queries(manifests):
    """Checks that the queries return the expected values, with promtool, and that their metrics are
    documented.
    """
    scaled = manifests["ScaledObject", "worker"]["spec"]
    if scaled["scaleTargetRef"]["name"] != "worker":
        yield "the ScaledObject does not scale the workers"
    queries = {trigger["name"]: trigger["metadata"]["query"] for trigger in scaled["triggers"]}
    documented = (ROOT / "docs/metrics.md").read_text()
    for name in set(re.findall(r"\bwordmill_\w+", " ".join(queries.values()))):
        if f"`{name}`" not in documented:
            yield f"scaling.yaml uses {name}, which docs/metrics.md does not describe"
    tests = []
    for _, given, age, waiting in CASES:
        # Both gateways report the same values.
        series = [
            {"series": f'{SERIES[name]}{{lane="{lane}",instance="{gateway}"}}', "values": f"{value}x5"}
            for name, lanes in given.items()
            for lane, value in lanes.items()
            for gateway in ("a", "b")
        ]
        expected = [("age", age), ("waiting", waiting)]
        promql = [
            {"expr": queries[name], "eval_time": "1m", "exp_samples": [] if value is None else [{"labels": "{}", "value": value}]}
            for name, value in expected
        ]
        tests.append({"interval": "1m", "input_series": series, "promql_expr_test": promql})
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        # promtool reads YAML, and every JSON document is one.
        json.dump({"rule_files": [], "evaluation_interval": "1m", "tests": tests}, file)
        file.flush()
        run = subprocess.run(["promtool", "test", "rules", file.name], capture_output=True, text=True)
    if run.returncode != 0:
        yield f"the queries of scaling.yaml return unexpected values: {(run.stdout + run.stderr).strip()}"
