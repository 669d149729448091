"""The manifests as `kubectl apply --kustomize` would send them: valid, consistent with the API, and locked down."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from aiderm_api.settings import PREFIX, Settings

from .conftest import ROOT, run

kubernetes_validate = pytest.importorskip("kubernetes_validate")
pytestmark = pytest.mark.ci  # needs kustomize, which .ci/run installs

FOLDER = ROOT / "deploy" / "kubernetes"
NAMESPACE = "aiderm"
# Provided by the cluster, or created by hand as docs/kubernetes.md describes.
SECRETS = {"api-keys", "page-key", "aiderm-tls"}
Document = dict[str, Any]


def fields(required: str = "", **properties: Document) -> Document:
    """The schema of an object that may have these fields and no others."""
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


def several(schema: Document) -> Document:
    return {"type": "array", "minItems": 1, "items": schema}


TEXT, NUMBER, DURATION = {"type": "string"}, {"type": "integer"}, {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
METADATA = fields("name namespace", name=TEXT, namespace=TEXT, labels={"type": "object"}, annotations={"type": "object"})
PARENT = fields("name", name=TEXT, namespace=TEXT, sectionName=TEXT, port=NUMBER)
REDIRECT = fields("", scheme={"enum": ["http", "https"]}, hostname=TEXT, port=NUMBER, statusCode={"enum": [301, 302]})
FILTER = fields("type requestRedirect", type={"const": "RequestRedirect"}, requestRedirect=REDIRECT)
RULE = fields(
    "",
    filters=several(FILTER),
    backendRefs=several(fields("name port", name=TEXT, port=NUMBER, weight=NUMBER)),
    timeouts=fields("", request=DURATION, backendRequest=DURATION),
)
LISTENER = fields(
    "name port protocol",
    **{"name": TEXT, "hostname": TEXT, "port": NUMBER, "protocol": {"enum": ["HTTP", "HTTPS"]}},
    tls=fields("certificateRefs", mode={"enum": ["Terminate"]}, certificateRefs=several(fields("name", name=TEXT))),
    allowedRoutes=fields("", namespaces=fields("from", **{"from": {"enum": ["All", "Selector", "Same"]}})),
)
# The part of the Gateway API's schemas (v1, standard channel) that the manifests use; kubernetes-validate lacks them.
GATEWAY_API = {
    "gateway.networking.k8s.io/v1": {
        kind: fields("apiVersion kind metadata spec", apiVersion=TEXT, kind=TEXT, metadata=METADATA, spec=specification)
        for kind, specification in {
            "Gateway": fields("gatewayClassName listeners", gatewayClassName=TEXT, listeners=several(LISTENER)),
            "HTTPRoute": fields("parentRefs rules", parentRefs=several(PARENT), hostnames=several(TEXT), rules=several(RULE)),
        }.items()
    }
}


def rendered(folder: str) -> list[Document]:
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]):
            return list(yaml.safe_load_all(run([*command, str(FOLDER / folder)], timeout=60).stdout))
    pytest.skip("needs kustomize or kubectl (Debian: apt-get install kustomize)")


@pytest.fixture(scope="module", params=["base", "overlays/example"])
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return rendered(request.param)


@pytest.fixture(scope="module")
def writer() -> Document:
    """The pod through which models are copied; the only manifest that is applied separately."""
    return yaml.safe_load((FOLDER / "models-writer.yaml").read_text("utf-8"))


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def one(documents: list[Document], kind: str, name: str) -> Document:
    return of_kind(documents, kind)[name]


def pods(documents: list[Document]) -> dict[str, Document]:
    """Pod templates by the name of their deployment."""
    return {name: deployment["spec"]["template"] for name, deployment in of_kind(documents, "Deployment").items()}


def selected(documents: list[Document], labels: dict[str, str]) -> set[str]:
    """Deployments whose pods have the labels."""
    return {name for name, pod in pods(documents).items() if labels.items() <= pod["metadata"]["labels"].items()}


def environment(documents: list[Document], name: str) -> dict[str, str]:
    """The environment of a deployment's container, without values that only the cluster knows."""
    found: dict[str, str] = {}
    (container,) = pods(documents)[name]["spec"]["containers"]
    for source in container["envFrom"]:
        found |= one(documents, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}


def minor_versions() -> list[str]:
    major, minor = map(int, kubernetes_validate.latest_version().split(".")[:2])
    return [f"{major}.{minor - back}" for back in range(3)]


@pytest.mark.parametrize("version", minor_versions())
def test_every_document_is_valid_in_the_latest_minor_versions(documents: list[Document], writer: Document, version: str) -> None:
    for document in [*documents, writer]:
        if document["apiVersion"] in GATEWAY_API:
            jsonschema.validate(document, GATEWAY_API[document["apiVersion"]][document["kind"]])
        else:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_validation_sees_a_misspelt_field(documents: list[Document]) -> None:
    bad = {**one(documents, "Service", "api"), "spec": {"clusterip": "None"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(bad, minor_versions()[0], strict=True)
    route = one(documents, "HTTPRoute", "frontend")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**route, "spec": {"parentrefs": []}}, GATEWAY_API[route["apiVersion"]]["HTTPRoute"])


def test_all_is_there_and_in_one_namespace(documents: list[Document]) -> None:
    kinds = {document["kind"] for document in documents}
    assert kinds == {
        *("Namespace", "ConfigMap", "PersistentVolumeClaim", "Deployment", "Service"),
        *("HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "Gateway", "HTTPRoute"),
    }
    for document in documents:
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == NAMESPACE


def test_each_selector_means_the_pods_that_it_should(documents: list[Document]) -> None:
    for name, deployment in of_kind(documents, "Deployment").items():
        assert selected(documents, deployment["spec"]["selector"]["matchLabels"]) == {name}
        for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert selected(documents, constraint["labelSelector"]["matchLabels"]) == {name}
    for name, service in of_kind(documents, "Service").items():
        assert selected(documents, service["spec"]["selector"]) == {name}
    for name, budget in of_kind(documents, "PodDisruptionBudget").items():
        assert selected(documents, budget["spec"]["selector"]["matchLabels"]) == {name}
    for scaler in of_kind(documents, "HorizontalPodAutoscaler").values():
        target = scaler["spec"]["scaleTargetRef"]
        deployment = one(documents, target["kind"], target["name"])
        assert deployment["apiVersion"] == target["apiVersion"]
        assert "replicas" not in deployment["spec"], "each apply would undo what the autoscaler has set"


def test_each_port_name_exists_where_it_is_used(documents: list[Document]) -> None:
    for name, pod in pods(documents).items():
        (container,) = pod["spec"]["containers"]
        names = {port["name"] for port in container["ports"]}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert kind not in container or container[kind]["httpGet"]["port"] in names
        for port in one(documents, "Service", name)["spec"]["ports"]:
            assert port["targetPort"] in names
    for rule in one(documents, "HTTPRoute", "frontend")["spec"]["rules"]:
        for backend in rule["backendRefs"]:
            assert backend["port"] in {port["port"] for port in one(documents, "Service", backend["name"])["spec"]["ports"]}


def test_each_mount_has_its_volume_and_each_volume_its_source(documents: list[Document], writer: Document) -> None:
    for pod in [*pods(documents).values(), writer]:
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        (container,) = pod["spec"]["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in of_kind(documents, "PersistentVolumeClaim")
            elif "configMap" in volume:
                data = one(documents, "ConfigMap", volume["configMap"]["name"])["data"]
                mounted = next(mount for mount in container["volumeMounts"] if mount["name"] == volume["name"])
                assert mounted["subPath"] in data
            elif "secret" in volume:
                assert volume["secret"]["secretName"] in SECRETS
                assert volume["secret"]["optional"] is True
            else:
                assert volume["emptyDir"]["medium"] == "Memory", "images are never written to a disk"
                assert volume["emptyDir"]["sizeLimit"]


def test_the_environment_is_what_the_programs_know(documents: list[Document]) -> None:
    api = environment(documents, "api")
    assert set(api) <= {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    settings = Settings.model_validate({name.removeprefix(PREFIX).lower(): value for name, value in api.items()})
    (container,) = pods(documents)["api"]["spec"]["containers"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert settings.port == container["ports"][0]["containerPort"]
    assert settings.host == "0.0.0.0"
    assert api["AIDERM_HOSTS"] == "*", "nginx checks the name; probes and Prometheus call a pod by its address"
    assert str(settings.models_dir) in mounts
    assert settings.keys_file is None or str(settings.keys_file.parent) in mounts

    nginx = environment(documents, "frontend")
    dockerfile = (ROOT / "frontend" / "Dockerfile").read_text("utf-8")
    script = (ROOT / "frontend" / "nginx" / "17-site.sh").read_text("utf-8")
    assert all(f"{name}=" in dockerfile or f"${{{name}:-" in script for name in nginx)
    service = one(documents, "Service", "api")
    assert nginx["AIDERM_API_ADDRESS"] == f"api.$(POD_NAMESPACE).svc.cluster.local:{service['spec']['ports'][0]['port']}"
    # Only if the name resolves to the replicas themselves can nginx skip one that fails.
    assert service["spec"]["clusterIP"] == "None"


def test_a_stop_leaves_time_for_the_requests_in_progress(documents: list[Document]) -> None:
    api = pods(documents)["api"]["spec"]
    sleep = api["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = int(environment(documents, "api")["AIDERM_DRAIN_SECONDS"])
    assert api["terminationGracePeriodSeconds"] >= sleep + drain + 5
    nginx = pods(documents)["frontend"]["spec"]
    sleep = nginx["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert nginx["terminationGracePeriodSeconds"] >= sleep + 60  # proxy_read_timeout
    for deployment in of_kind(documents, "Deployment").values():
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_probes_ask_what_the_programs_answer(documents: list[Document]) -> None:
    (api,) = pods(documents)["api"]["spec"]["containers"]
    assert api["livenessProbe"]["httpGet"]["path"] == api["startupProbe"]["httpGet"]["path"] == "/health/live"
    assert api["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    (nginx,) = pods(documents)["frontend"]["spec"]["containers"]
    template = (ROOT / "frontend" / "nginx" / "default.conf.template").read_text("utf-8")
    for kind in ("livenessProbe", "readinessProbe"):
        assert f"location = {nginx[kind]['httpGet']['path']} " in template


def containers_of(pod: Document) -> Iterator[Document]:
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]


def test_no_container_may_do_more_than_it_must(documents: list[Document], writer: Document) -> None:
    labels = one(documents, "Namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    users = {"api": 10001, "frontend": 101, "writer": 10001}  # as in the Dockerfiles
    for name, pod in {**pods(documents), "writer": writer}.items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == users[name]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers_of(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    models = [mount for mount in pods(documents)["api"]["spec"]["containers"][0]["volumeMounts"] if mount["name"] == "models"]
    assert [mount["readOnly"] for mount in models] == [True]


def test_images_go_to_nginx_and_the_api_and_nowhere_else(documents: list[Document]) -> None:
    policies = {name: policy["spec"] for name, policy in of_kind(documents, "NetworkPolicy").items()}
    everything = policies.pop("nothing-else")
    assert everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, policy in policies.items():
        assert selected(documents, policy["podSelector"]["matchLabels"]) == {name}
        assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert not policies["api"].get("egress")
    (rule,) = policies["api"]["ingress"]
    nginx, prometheus = rule["from"]
    assert selected(documents, nginx["podSelector"]["matchLabels"]) == {"frontend"}
    assert prometheus["namespaceSelector"]
    to_api, to_dns = policies["frontend"]["egress"]
    assert [selected(documents, peer["podSelector"]["matchLabels"]) for peer in to_api["to"]] == [{"api"}]
    assert {port["port"] for port in to_dns["ports"]} == {53}


def test_the_gateway_serves_over_tls_and_redirects_everything_else(documents: list[Document]) -> None:
    listeners = {listener["name"]: listener for listener in one(documents, "Gateway", "aiderm")["spec"]["listeners"]}
    assert {name: listener["protocol"] for name, listener in listeners.items()} == {"http": "HTTP", "https": "HTTPS"}
    assert {reference["name"] for reference in listeners["https"]["tls"]["certificateRefs"]} <= SECRETS
    for route in of_kind(documents, "HTTPRoute").values():
        for parent in route["spec"]["parentRefs"]:
            assert parent["name"] == "aiderm"
            assert parent["sectionName"] in listeners
    (redirect,) = one(documents, "HTTPRoute", "redirect-to-https")["spec"]["rules"]
    assert one(documents, "HTTPRoute", "redirect-to-https")["spec"]["parentRefs"][0]["sectionName"] == "http"
    assert redirect["filters"][0]["requestRedirect"]["scheme"] == "https"
    assert "backendRefs" not in redirect
    (served,) = one(documents, "HTTPRoute", "frontend")["spec"]["rules"]
    assert one(documents, "HTTPRoute", "frontend")["spec"]["parentRefs"][0]["sectionName"] == "https"
    assert int(served["timeouts"]["request"].removesuffix("s")) > 60, "nginx waits 60 s for the API"


def test_nginx_answers_to_the_gateways_names_and_believes_nobody_else(documents: list[Document]) -> None:
    settings = environment(documents, "frontend")
    hosts = {listener["hostname"] for listener in one(documents, "Gateway", "aiderm")["spec"]["listeners"]}
    assert set(settings["AIDERM_HOSTS"].split(",")) == hosts
    # nginx trusts the client address from any peer that can reach it, and only the gateway can.
    assert "10.0.0.0/8" in settings["AIDERM_REAL_IP_FROM"].split(",")
    (rule,) = one(documents, "NetworkPolicy", "frontend")["spec"]["ingress"]
    assert [set(peer) for peer in rule["from"]] == [{"namespaceSelector"}]


def test_an_overlay_only_says_what_its_site_needs() -> None:
    base, example = rendered("base"), rendered("overlays/example")
    assert {image for pod in pods(base).values() for image in (pod["spec"]["containers"][0]["image"],)} == {
        "aiderm-api:local",
        "aiderm-frontend:local",
    }
    assert all(pod["spec"]["containers"][0]["image"].startswith("registry.") for pod in pods(example).values())
    changed = dict(environment(example, "api").items() - environment(base, "api").items())
    assert changed == {"AIDERM_KEYS_FILE": "/keys/keys.json", "AIDERM_AUDIT": "stdout"}
