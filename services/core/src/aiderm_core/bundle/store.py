"""Stores bundles on disk: lists, verifies, writes, promotes and rolls back versions.

A model's folder ``models/<name>`` holds:

- ``<version>/``: a bundle. Its manifest lists the checksums of all its other files.
- ``<version>.sha256``: the checksum of that version's manifest, written when the version is first promoted, so that nobody can
  change a threshold unnoticed. ``sha256sum --check`` reads it.
- ``SERVING``: the version in service.
- ``PREVIOUS``: up to two versions that were in service before, the latest first.
"""

from __future__ import annotations

import errno
import fcntl
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

from aiderm_core.bundle.manifest import MANIFEST_FILE, NAME_PATTERN, Manifest, ManifestError, VersionName, read_manifest
from aiderm_core.files import sync, write_text

SERVING_FILE = "SERVING"
PREVIOUS_FILE = "PREVIOUS"
DIGEST_SUFFIX = ".sha256"
GRAPH_FILE = "saved_model.pb"
_STAGING_PREFIX = ".staging-"

_VERSION = TypeAdapter(VersionName)


class BundleError(Exception):
    """A bundle or store is missing, damaged, or not the requested one."""


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(bundle: Path, digest: str | None = None) -> Manifest:
    """Checks a bundle: manifest, graph, and that the manifest lists exactly the files that exist, with their checksums.

    Args:
        bundle: its folder.
        digest: SHA-256 that its manifest.json must have; not checked when None.

    Raises:
        BundleError: the first problem found.
    """
    return _verify_and_hash(bundle, digest)[0]


def _verify_and_hash(bundle: Path, digest: str | None) -> tuple[Manifest, str]:
    """Verifies a bundle; returns its manifest and the SHA-256 of the same bytes that the manifest was parsed from."""
    try:
        content = read_manifest(bundle)
        received = hashlib.sha256(content).hexdigest()
        return _verify(bundle, Manifest.parse(content, bundle / MANIFEST_FILE), received, digest), received
    except ManifestError as error:
        raise BundleError(str(error)) from error
    except OSError as error:
        raise BundleError(f"{bundle} cannot be read: {error}") from error


def _verify(bundle: Path, manifest: Manifest, received: str, digest: str | None) -> Manifest:
    if digest is not None and received != digest:
        raise BundleError(f"{bundle}/{MANIFEST_FILE} is not the one that was promoted. Received: {received}, promoted: {digest}")
    found = _files(bundle)
    listed = set(manifest.files)
    present = set(found) - {MANIFEST_FILE}
    if missing := sorted(listed - present):
        raise BundleError(f"{bundle} lacks {_listed(missing)}")
    if unlisted := sorted(present - listed):
        raise BundleError(f"{bundle} holds files that its manifest does not list: {_listed(unlisted)}")
    if GRAPH_FILE not in listed:
        raise BundleError(f"{bundle} has no {GRAPH_FILE}")
    if absent := sorted(manifest.golden_paths() - listed):
        raise BundleError(f"{bundle} lacks golden inputs: {_listed(absent)}")
    root = bundle.resolve()
    for variant in manifest.forms:
        target = (root / variant.path).resolve()
        if not target.is_relative_to(root) or not target.exists():
            raise BundleError(f"{bundle} has no {variant.path} for its variant {variant.runtime}/{variant.precision}")
    for name, expected in manifest.files.items():
        received = sha256_file(found[name])
        if received != expected:
            raise BundleError(f"{bundle}/{name} is not what the manifest lists. Received: {received}, listed: {expected}")
    return manifest


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Adds the checksums of all files in ``folder`` to the manifest and writes it there as manifest.json.

    Raises:
        BundleError: a manifest cannot list one of the files.
    """
    files = {name: sha256_file(path) for name, path in sorted(_files(folder).items()) if name != MANIFEST_FILE}
    try:
        sealed = Manifest.model_validate(manifest.model_dump() | {"files": files})
    except ValidationError as error:
        raise BundleError(f"{folder} cannot be sealed: {error.errors()[0]['msg']}") from error
    write_text(folder / MANIFEST_FILE, sealed.dump())
    return sealed


class ModelStore:
    """The folder ``models``, with one folder per model name; see this module's docstring for the layout."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Returns the names that have at least one version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(
            entry.name for entry in self.root.iterdir() if re.fullmatch(NAME_PATTERN, entry.name) and self.versions(entry.name)
        )

    def versions(self, name: str) -> list[str]:
        """Returns the versions of ``name`` in natural order (2 before 10); empty if there are none.

        Raises:
            BundleError: ``name`` is not a valid name.
        """
        folder = self._folder(name)
        if not folder.is_dir():
            return []
        found = [entry.name for entry in folder.iterdir() if _is_version(entry.name) and (entry / MANIFEST_FILE).is_file()]
        return sorted(found, key=_natural)

    def serving(self, name: str) -> str:
        """Returns the version in service.

        Raises:
            BundleError: no version is promoted, or the promoted one is missing.
        """
        version = self._read(name, SERVING_FILE)
        if version is None:
            raise BundleError(f"no version of {name} is promoted; it has: {_listed(self.versions(name))}")
        self.path(name, version)
        return version

    def path(self, name: str, version: str) -> Path:
        """Returns the folder of an existing version.

        Raises:
            BundleError: the name or version is invalid, or there is no such bundle.
        """
        target = self._folder(name) / _checked_version(version)
        if not (target / MANIFEST_FILE).is_file():
            raise BundleError(f"{name} has no version {version}; it has: {_listed(self.versions(name))}")
        return target

    def verified(self, name: str, version: str, *, promoted: bool = False) -> Manifest:
        """Verifies a version: its files against its manifest, and its manifest against the digest from its promotion.

        Args:
            name: name of the model.
            version: version of the model.
            promoted: refuse a version that was never promoted; when False, such a version only lacks the second check.

        Raises:
            BundleError: it is missing or damaged, its manifest was changed, or its manifest names another model or version.
        """
        digest = self._digest(name, version)
        if digest is None and promoted:
            raise BundleError(
                f"{name}/{version}{DIGEST_SUFFIX} is missing, so nobody can tell whether {name} {version} is what was promoted. "
                f"Check it and promote it again: aiderm-train promote {name} {version}"
            )
        return _match(verify(self.path(name, version), digest), name, version)

    def promote(self, name: str, version: str) -> None:
        """Verifies a version and puts it into service; the one before it is remembered for ``rollback``.

        If the process is killed at any point, the old or the new version stays in service, and both this and ``rollback`` still
        work.

        Raises:
            BundleError: the bundle is missing or damaged, or its manifest has changed since its first promotion; the version in
                service stays.
        """
        self.path(name, version)
        with self._locked(name):
            self._promote(name, version)

    def _promote(self, name: str, version: str) -> None:
        self.pin(name, version)
        current = self._text(name, SERVING_FILE)
        if current == version:
            return
        if current is not None and _is_version(current):  # otherwise SERVING was damaged by hand, and is repaired below
            # Two versions: until SERVING is replaced, the first is still in service and the second is the one before it.
            before = [current, *(other for other in self._history(name) if other != current)][:2]
            write_text(self._folder(name) / PREVIOUS_FILE, "".join(f"{line}\n" for line in before))
        write_text(self._folder(name) / SERVING_FILE, f"{version}\n")

    def pin(self, name: str, version: str) -> Manifest:
        """Verifies a version and records the digest of its manifest, if not yet recorded, so that any later change is noticed.

        Raises:
            BundleError: see ``verified``.
        """
        listed = self._digest(name, version)
        manifest, digest = _verify_and_hash(self.path(name, version), listed)
        _match(manifest, name, version)
        if listed is None:
            write_text(self._digest_file(name, version), f"{digest}  {version}/{MANIFEST_FILE}\n")
        return manifest

    def rollback(self, name: str) -> str:
        """Puts the previous version back into service; a second rollback undoes the first.

        Returns:
            The version now in service.

        Raises:
            BundleError: there is no previous version, or it is damaged.
        """
        folder = self._folder(name)
        if not folder.is_dir():
            raise BundleError(f"{name} has no previous version to return to; it has: {_listed([])}")
        with self._locked(name):
            current = self._read(name, SERVING_FILE)
            previous = next((version for version in self._history(name) if version != current), None)
            if previous is None:
                raise BundleError(f"{name} has no previous version to return to; it has: {_listed(self.versions(name))}")
            self._promote(name, previous)
        return previous

    @contextmanager
    def stage(self, name: str, version: str) -> Iterator[Path]:
        """Provides a temporary folder for a new version, on the same filesystem.

        When the block ends without an exception, the folder is verified, synced to disk and renamed into place; otherwise it is
        removed. Call ``seal`` in the block.

        Raises:
            BundleError: the version exists already, or the folder does not hold a valid bundle of that name and version.
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
            # mkdtemp made the folder private, but servers run as another user.
            temporary.chmod(0o755)
            _sync_tree(temporary)
            with self._locked(name):
                try:
                    if not target.exists():  # a digest may be left over from a deleted version of the same name
                        self._digest_file(name, version).unlink(missing_ok=True)
                    temporary.rename(target)
                except OSError as error:
                    raise BundleError(f"{name} {version} cannot be put in place: {error.strerror}") from error
                sync(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):  # fails if the folder holds anything else
                folder.rmdir()
            raise

    def _folder(self, name: str) -> Path:
        if not re.fullmatch(NAME_PATTERN, name):
            raise BundleError(f"a model's name must match {NAME_PATTERN}. Received: {name!r}")
        return self.root / name

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Waits until no other process changes the version in service; the system releases the lock if its holder dies."""
        folder = os.open(self._folder(name), os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP):  # network file systems without locks
                    raise
            yield
        finally:
            os.close(folder)

    def _digest_file(self, name: str, version: str) -> Path:
        return self._folder(name) / f"{_checked_version(version)}{DIGEST_SUFFIX}"

    def _digest(self, name: str, version: str) -> str | None:
        """The digest of a version's manifest from its first promotion; None if it was never promoted."""
        text = self._text(name, self._digest_file(name, version).name)
        if text is None:
            return None
        digest = text.partition(" ")[0]
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise BundleError(f"{name}/{version}{DIGEST_SUFFIX} holds no SHA-256. Received: {text[:80]!r}")
        return digest

    def _history(self, name: str) -> list[str]:
        """The versions in service before, the latest first. Files from older releases have a single line."""
        text = self._text(name, PREVIOUS_FILE)
        return [_checked_version(line) for line in (text or "").split("\n") if line]

    def _read(self, name: str, file: str) -> str | None:
        text = self._text(name, file)
        return None if text is None else _checked_version(text)

    def _text(self, name: str, file: str) -> str | None:
        try:
            return (self._folder(name) / file).read_bytes().decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BundleError(f"cannot read {name}/{file}: {error}") from error


def _match(manifest: Manifest, name: str, version: str) -> Manifest:
    if (manifest.name, manifest.version) != (name, version):
        raise BundleError(f"the manifest must be of {name} {version}. Received: {manifest.name} {manifest.version}")
    return manifest


def _is_version(text: str) -> bool:
    if text in (SERVING_FILE, PREVIOUS_FILE) or text.endswith(DIGEST_SUFFIX):
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


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "none"
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _files(folder: Path) -> dict[str, Path]:
    """Every file below ``folder`` by its relative path.

    Raises:
        BundleError: there is a link that leaves the folder or does not lead to a file, or anything that is not a regular file.
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
