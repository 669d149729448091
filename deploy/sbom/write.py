"""Merges a container image's Python and Debian packages into a CycloneDX document, validates it, and lists the licences."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

UNKNOWN = "not stated in the image"
# Licences that the packages' metadata do not name; from the LICENSE files of their repositories.
ELSEWHERE = {"keras": "Apache-2.0", "namex": "Apache-2.0", "protobuf": "BSD-3-Clause"}


def debian_packages(folder: Path) -> Iterator[Component]:
    """Every installed package of dpkg's status file, with the licences that its copyright file names."""
    for paragraph in (folder / "dpkg-status").read_text("utf-8").split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.M))
        if "ok installed" not in fields.get("Status", ""):
            continue
        name, version = fields["Package"], fields["Version"]
        purl = PackageURL("deb", "debian", name, version, {"arch": fields["Architecture"], "distro": "bookworm"})
        component = Component(type=ComponentType.LIBRARY, name=name, version=version, purl=purl, bom_ref=str(purl))
        licences = debian_licences(folder / "doc" / name / "copyright")
        component.licenses.update(DisjunctiveLicense(name=licence) for licence in licences)
        yield component


def debian_licences(file: Path) -> list[str]:
    """Short names of the licences in a machine-readable copyright file; empty if there is no file."""
    if not file.is_file():
        return []
    return sorted(set(re.findall(r"^License: *(\S.*)$", file.read_text("utf-8", "replace"), re.M)))


def licence_text(component: Component) -> str:
    """The licences of a component, in one line."""
    said = []
    for licence in component.licenses:
        if isinstance(licence, DisjunctiveLicense):
            said.append(licence.id or (licence.name or "").strip().splitlines()[0][:80])
        else:
            said.append(licence.value)
    words = sorted({text.removeprefix("License :: ").removeprefix("OSI Approved :: ") for text in said})
    return "; ".join(words) or ELSEWHERE.get(component.name, UNKNOWN)


def main(name: str, image: str, folder: Path, target: Path) -> None:
    """Writes both files of one container image."""
    python = folder / "python.json"
    bom = Bom.from_json(json.loads(python.read_text("utf-8"))) if python.exists() else Bom()
    bom.metadata.component = Component(type=ComponentType.CONTAINER, name=f"aiderm-{name}", version=image.rpartition(":")[2])
    of_python = sorted(bom.components, key=lambda component: component.name.lower())
    of_debian = sorted(debian_packages(folder), key=lambda component: component.name)
    bom.components.update(of_debian)
    bom.register_dependency(bom.metadata.component, bom.components)
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise SystemExit(f"sbom: the document of {name} breaks CycloneDX' schema: {error}")
    (target / f"{name}.cdx.json").write_text(f"{text}\n", "utf-8")
    with (target / f"{name}.licences.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["kind", "package", "version", "licence"])
        for kind, components in (("python", of_python), ("debian", of_debian)):
            rows.writerows([kind, component.name, component.version, licence_text(component)] for component in components)
    sys.stdout.write(f"{target}/{name}.cdx.json: {len(of_python)} Python and {len(of_debian)} Debian packages\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
