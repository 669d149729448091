"""The documentation matches the packages, and a class name is used only once."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PACKAGES = sorted(folder.name for folder in (ROOT / "services").iterdir() if (folder / "src").is_dir())


def source(package: str) -> Path:
    return ROOT / "services" / package / "src" / f"aiderm_{package}"


@cache
def parsed(package: str) -> dict[Path, ast.Module]:
    """The parsed modules of a package."""
    return {file: ast.parse(file.read_text("utf-8")) for file in sorted(source(package).rglob("*.py"))}


@cache
def imported(package: str) -> set[str]:
    """The other packages of this project that a package imports, anywhere in its modules."""
    names = set()
    for module in parsed(package).values():
        for node in ast.walk(module):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names |= {module.split(".")[0] for module in modules}
    return {name.removeprefix("aiderm_") for name in names if name.startswith("aiderm_")} - {package}


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_are_the_imports(package: str) -> None:
    diagram = PAGE.split("```mermaid")[1].split("```")[0]
    arrows = set(re.findall(r"^ *(\w+)(?:\[.*\])? --> (\w+)", diagram, re.M))
    assert {target for origin, target in arrows if origin == package} == imported(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_asks_for_the_packages_that_it_imports(package: str) -> None:
    project = tomllib.loads((ROOT / "services" / package / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {name.removeprefix("aiderm-") for name in project["dependencies"] if name.startswith("aiderm-")}
    assert asked == imported(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_table_names_modules_that_exist(package: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `services/{package}` |"))
    named = re.findall(r"`(\w+)`", row.split("|")[2])
    assert named
    here = source(package)
    known = {path.stem for path in here.rglob("*") if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert set(named) <= known


def test_contributing_names_files_that_exist() -> None:
    """Each path in CONTRIBUTING.md exists, relative to the repository or to a service's sources."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = set(re.findall(r"`([\w.-]+(?:/[\w.-]+)+)`", text))
    assert len(paths) > 40
    places = {path: [ROOT / path] for path in paths}
    for path in paths:
        package, _, rest = path.partition("/")
        if package in PACKAGES:
            places[path].append(source(package) / rest)
    missing = {path for path, candidates in places.items() if not any(place.exists() for place in candidates)}
    assert not missing


def test_a_class_name_means_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for file, module in (found for package in PACKAGES for found in parsed(package).items()):
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
