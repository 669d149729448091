"""The contents of the images, layer by layer, as seen by someone who unpacks them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import docker, run

if TYPE_CHECKING:
    from .conftest import Stack

pytestmark = pytest.mark.containers

BASES = {"api": "python:3.11-slim-bookworm", "frontend": "nginxinc/nginx-unprivileged:1.28-bookworm"}
MEGABYTE = 1_000_000
# Build tools, package caches, and secrets that must never leave the build machine.
TOOLS = re.compile(r"(^|/)bin/(gcc|g\+\+|cc|c\+\+|clang|make|ld|as|strip|git|pip[\d.]*|npm|node|wget)$")
CACHES = re.compile(r"(^|/)(\.cache|pip/cache|__pypackages__|\.npm|apt/archives/.+\.deb|apt/lists/.+_Packages.*)(/|$)")
SECRETS = re.compile(r"(^|/)(\.env|\.git|\.netrc|\.ssh|\.aws|\.docker|id_(rsa|ed25519)|keys\.json|[^/]+\.(key|p12|pfx))(/|$)")
SECRET_TEXT = re.compile(
    rb"-----BEGIN (RSA |EC |OPENSSH )?PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{100}|aiderm_[0-9a-f]{8}_[0-9a-f]{64}"
)


def layers(image: str) -> list[str]:
    return json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", image))


def own_files(image: str, base: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yields all files in the layers above the base, including files that a later layer hides."""
    inherited = len(layers(base))
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
        assert saving.stdout
        data = io.BytesIO(saving.stdout.read())
    with tarfile.open(fileobj=data) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest
        for name in json.load(manifest)[0]["Layers"][inherited:]:
            layer = archive.extractfile(name)
            assert layer
            with tarfile.open(fileobj=layer) as tar:
                for entry in tar:
                    content = tar.extractfile(entry) if entry.isreg() else None
                    yield entry, content.read() if content else b""


def contents(image: str, base: str) -> dict[str, tuple[object, ...]]:
    """Everything that the layers record of each file, except times."""
    return {
        entry.name: (entry.type, entry.mode, entry.uid, entry.gid, entry.linkname, hashlib.sha256(data).hexdigest())
        for entry, data in own_files(image, base)
    }


@pytest.fixture(scope="module", params=["api", "frontend"])
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_image_holds_no_compiler_no_cache_and_no_secret(project: Stack, service: str) -> None:
    image = f"aiderm-{service}:{project.environment['AIDERM_VERSION']}"
    found = 0
    for entry, data in own_files(image, BASES[service]):
        found += 1
        for unwanted in (TOOLS, CACHES, SECRETS):
            match = unwanted.search(entry.name)
            assert not match or "/.wh." in f"/{entry.name}", entry.name
        assert not SECRET_TEXT.search(data), entry.name
        assert not entry.mode & 0o6000, f"{entry.name} would run as another user"
    assert found > 50
    # The same from inside a container, including the base:
    seen = docker("run", "--rm", "--entrypoint", "sh", image, "-c", "command -v gcc cc g++ make ld git pip npm node; true")
    assert not seen.strip()


def test_image_says_what_it_is_and_runs_as_nobody_special(project: Stack, service: str) -> None:
    image = f"aiderm-{service}:{project.environment['AIDERM_VERSION']}"
    config = json.loads(docker("image", "inspect", image))[0]["Config"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == project.environment["AIDERM_VERSION"]
    assert labels["org.opencontainers.image.revision"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"])
    assert config["Healthcheck"]["Test"]
    for variable in config["Env"]:
        assert not re.search(r"(?i)(password|secret|token|api_key)=", variable)


def test_api_image_is_small_and_can_read_every_format(project: Stack) -> None:
    image = f"aiderm-api:{project.environment['AIDERM_VERSION']}"
    size = int(docker("image", "inspect", "--format", "{{.Size}}", image))
    assert size <= 685 * MEGABYTE, f"{size / MEGABYTE:.0f} MB"
    # Nothing that the service needs was left out.
    probe = "import PIL.ImageCms, PIL.features as f, cv2, openvino, aiderm_api.app; assert f.check('webp') and f.check('jpg')"
    docker("run", "--rm", "--network", "none", image, "python", "-c", probe)


@pytest.mark.soak
def test_built_twice_the_layers_are_the_same_but_for_times(project: Stack, service: str) -> None:
    tag = f"aiderm-{service}:{project.project}-again"
    dockerfile = {"api": "services/Dockerfile", "frontend": "frontend/Dockerfile"}[service]
    try:
        run(
            [
                "docker",
                "build",
                "--quiet",
                "--no-cache",
                "--build-arg",
                f"SERVICE={service}",
                "--file",
                dockerfile,
                "--tag",
                tag,
                ".",
            ],
            timeout=600,
        )
        first = contents(f"aiderm-{service}:{project.environment['AIDERM_VERSION']}", BASES[service])
        again = contents(tag, BASES[service])
    finally:
        run(["docker", "image", "rm", tag], check=False)
    assert first.keys() == again.keys()
    assert [name for name in first if first[name] != again[name]] == []


def test_sbom_names_every_locked_package_with_its_licence(project: Stack, tmp_path: Path) -> None:
    environment = {**project.environment, "AIDERM_SBOM": str(tmp_path), "AIDERM_SBOM_BUILD": "no"}
    run(["deploy/sbom/sbom.sh", "api"], environment)
    document = json.loads((tmp_path / "api.cdx.json").read_text("utf-8"))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    named = {component["name"].replace("_", "-").lower(): component["version"] for component in document["components"]}
    lock = (Path(__file__).parents[2] / "services/api/requirements.lock").read_text("utf-8")
    for name, version in re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", lock, re.M):
        if name not in {"setuptools", "watchfiles", "websockets", "pyyaml"}:  # not in the image
            assert named[name] == version
    assert {"libc6", "aiderm-api", "aiderm-core"} <= set(named)
    with (tmp_path / "api.licences.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["licence"] for row in rows if row["kind"] == "python"} >= {"Apache-2.0", "MIT", "BSD-3-Clause"}
    assert not [row for row in rows if row["kind"] == "python" and row["licence"].startswith("not stated")]
