"""Bundles on disk: ``models/<name>/<version>/`` and the one that serves; list, verify, write, promote, roll back."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from aiderm_core.bundle.manifest import MANIFEST_FILE, NAME_PATTERN, Manifest, ManifestError, VersionName
from aiderm_core.files import sync, write_text

SERVING_FILE = "SERVING"
PREVIOUS_FILE = "PREVIOUS"
GRAPH_FILE = "saved_model.pb"
_STAGING_PREFIX = ".staging-"

_VERSION = TypeAdapter(VersionName)


class BundleError(Exception):
    """A bundle or store that is missing, damaged, or not what was asked for."""


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(bundle: Path) -> Manifest:
    """Checks a bundle as a whole: manifest, graph, and that each file is listed with its checksum and none is missing.

    Raises:
        BundleError: the first thing found wrong.
    """
    try:
        return _verify(bundle)
    except ManifestError as error:
        raise BundleError(str(error)) from error
    except OSError as error:
        raise BundleError(f"{bundle} cannot be read: {error}") from error


def _verify(bundle: Path) -> Manifest:
    manifest = Manifest.load(bundle)
    found = _files(bundle)
    listed = set(manifest.files)
    present = set(found) - {MANIFEST_FILE}
    if missing := sorted(listed - present):
        raise BundleError(f"{bundle} lacks {_some(missing)}")
    if unlisted := sorted(present - listed):
        raise BundleError(f"{bundle} holds files that its manifest does not list: {_some(unlisted)}")
    if GRAPH_FILE not in listed:
        raise BundleError(f"{bundle} has no {GRAPH_FILE}")
    if absent := sorted(manifest.golden_paths() - listed):
        raise BundleError(f"{bundle} lacks golden inputs: {_some(absent)}")
    root = bundle.resolve()
    for form in manifest.forms:
        target = (root / form.path).resolve()
        if not target.is_relative_to(root) or not target.exists():
            raise BundleError(f"{bundle} has no {form.path} for its form {form.runtime}/{form.precision}")
    for name, expected in manifest.files.items():
        received = sha256_file(found[name])
        if received != expected:
            raise BundleError(f"{bundle}/{name} is not what the manifest lists. Received: {received}, listed: {expected}")
    return manifest


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Lists the checksums of everything in ``folder`` in the manifest and writes it there as manifest.json.

    Raises:
        BundleError: a file that a manifest cannot list.
    """
    files = {name: sha256_file(path) for name, path in sorted(_files(folder).items()) if name != MANIFEST_FILE}
    try:
        sealed = Manifest.model_validate(manifest.model_dump() | {"files": files})
    except ValidationError as error:
        raise BundleError(f"{folder} cannot be sealed: {error.errors()[0]['msg']}") from error
    write_text(folder / MANIFEST_FILE, sealed.dump())
    return sealed


class ModelStore:
    """The folder ``models``: one folder a name, in it one a version, and the files SERVING and PREVIOUS."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Names that have at least one version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(
            entry.name for entry in self.root.iterdir() if re.fullmatch(NAME_PATTERN, entry.name) and self.versions(entry.name)
        )

    def versions(self, name: str) -> list[str]:
        """Versions of ``name`` in natural order (2 before 10); empty when there are none.

        Raises:
            BundleError: not a name.
        """
        folder = self._folder(name)
        if not folder.is_dir():
            return []
        found = [entry.name for entry in folder.iterdir() if _is_version(entry.name) and (entry / MANIFEST_FILE).is_file()]
        return sorted(found, key=_natural)

    def serving(self, name: str) -> str:
        """The promoted version.

        Raises:
            BundleError: none is promoted, or it is not there.
        """
        version = self._read(name, SERVING_FILE)
        if version is None:
            raise BundleError(f"no version of {name} is promoted; it has: {_some(self.versions(name))}")
        self.path(name, version)
        return version

    def path(self, name: str, version: str) -> Path:
        """The folder of an existing version.

        Raises:
            BundleError: not a name or version, or no such bundle.
        """
        target = self._folder(name) / _checked_version(version)
        if not (target / MANIFEST_FILE).is_file():
            raise BundleError(f"{name} has no version {version}; it has: {_some(self.versions(name))}")
        return target

    def promote(self, name: str, version: str) -> None:
        """Verifies a version and lets it serve; the one that served before is remembered for ``rollback``.

        Raises:
            BundleError: the bundle is missing or damaged; what served goes on serving.
        """
        self._verified(name, version)
        current = self._read(name, SERVING_FILE)
        if current == version:
            return
        if current is not None:
            write_text(self._folder(name) / PREVIOUS_FILE, f"{current}\n")
        write_text(self._folder(name) / SERVING_FILE, f"{version}\n")

    def rollback(self, name: str) -> str:
        """Lets the previous version serve again; a second rollback undoes the first.

        Returns:
            The version that serves now.

        Raises:
            BundleError: there is no previous version, or it is damaged.
        """
        previous, current = self._read(name, PREVIOUS_FILE), self._read(name, SERVING_FILE)
        if previous is None or previous == current:
            raise BundleError(f"{name} has no previous version to return to; it has: {_some(self.versions(name))}")
        self.promote(name, previous)
        return previous

    @contextmanager
    def stage(self, name: str, version: str) -> Iterator[Path]:
        """A temporary folder for a new version, on the same filesystem.

        When the block ends well, the folder is verified, synced to disk and renamed into place; else it is removed.
        Call ``seal`` in the block.

        Raises:
            BundleError: the version exists, or what was written is not a sound bundle of that name and version.
        """
        folder = self._folder(name)
        target = folder / _checked_version(version)
        if target.exists() or target.is_symlink():
            raise BundleError(f"{name} {version} exists already; versions are never overwritten")
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{_STAGING_PREFIX}{version}-", dir=folder))
        try:
            yield temporary
            _match(verify(temporary), name, version)
            # mkdtemp made it private, and servers run as another user.
            temporary.chmod(0o755)
            _sync_tree(temporary)
            try:
                temporary.rename(target)
            except OSError as error:
                raise BundleError(f"{name} {version} cannot be put in place: {error.strerror}") from error
            sync(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):  # only when nothing else is there
                folder.rmdir()
            raise

    def _verified(self, name: str, version: str) -> Manifest:
        return _match(verify(self.path(name, version)), name, version)

    def _folder(self, name: str) -> Path:
        if not re.fullmatch(NAME_PATTERN, name):
            raise BundleError(f"a model's name must match {NAME_PATTERN}. Received: {name!r}")
        return self.root / name

    def _read(self, name: str, file: str) -> str | None:
        try:
            text = (self._folder(name) / file).read_text("utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"cannot read {name}/{file}: {error}") from error
        return _checked_version(text)


def _match(manifest: Manifest, name: str, version: str) -> Manifest:
    if (manifest.name, manifest.version) != (name, version):
        raise BundleError(f"the manifest must be of {name} {version}. Received: {manifest.name} {manifest.version}")
    return manifest


def _is_version(text: str) -> bool:
    if text in (SERVING_FILE, PREVIOUS_FILE):
        return False
    try:
        _VERSION.validate_python(text)
    except ValidationError:
        return False
    return True


def _checked_version(version: str) -> str:
    if not _is_version(version):
        raise BundleError(f"a version must be 1-32 letters, digits, dots, dashes or underscores. Received: {version!r}")
    return version


def _natural(version: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", version)]


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "none"
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _files(folder: Path) -> dict[str, Path]:
    """Every file below ``folder`` by its relative path.

    Raises:
        BundleError: links that leave the folder or lead to a folder, and anything that is no regular file.
    """
    root = folder.resolve()
    found: dict[str, Path] = {}
    for parent, folders, files in os.walk(root):
        for entry in (*folders, *files):
            path = Path(parent, entry)
            name = path.relative_to(root).as_posix()
            if path.is_symlink():
                target = os.path.realpath(path)  # unlike Path.resolve it does not raise on a loop
                if not Path(target).is_relative_to(root) or not os.path.isfile(target):  # noqa: PTH113 (nor does this)
                    raise BundleError(f"{folder}/{name} is a link that leaves the bundle or leads to no file")
            if path.is_dir():
                continue
            if not stat.S_ISREG(path.stat().st_mode):
                raise BundleError(f"{folder}/{name} is no regular file")
            found[name] = path
    return found


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for file in files:
            sync(Path(parent, file))
        sync(Path(parent))
