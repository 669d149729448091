"""Saves the models' folder into one file and restores it; run in the API's container image by `make backup` and `make restore`.

Everything that is saved or restored is checked file by file against its manifest, and each manifest against the digest of its
promotion, so a damaged or edited bundle is neither saved silently nor restored. A restore leaves intact versions alone; damaged
ones are set aside and replaced.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import DIGEST_SUFFIX, SERVING_FILE, BundleError, ModelStore
from aiderm_core.files import replacing

MODELS, BACKUPS = Path("/models"), Path("/backups")


class BackupError(Exception):
    """Raised when something cannot be saved or restored; the text says why."""


def say(text: str) -> None:
    """Writes a line for the user to standard output."""
    sys.stdout.write(f"{text}\n")


def save(name: str | None, models: Path, backups: Path) -> Path:
    """Writes every version and the promoted versions' names into ``backups/NAME``; by default the name is the time.

    Raises:
        BackupError: there is no bundle, one is damaged, or an archive of that name exists.
    """
    target = backups / (name or time.strftime("models-%Y%m%dT%H%M%SZ.tar", time.gmtime()))
    if target.parent != backups or target.exists():
        raise BackupError(f"a backup must be a new file of the backups' folder. Received: {target}")
    store = ModelStore(models)
    bundles = [(model, version) for model in store.names() for version in store.versions(model)]
    if not bundles:
        raise BackupError(f"{models} holds no bundle")
    try:
        with replacing(target) as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for model, version in bundles:
                    store.verified(model, version)
                    archive.add(store.path(model, version), f"{model}/{version}", filter=_plain)
                    digest = models / model / f"{version}{DIGEST_SUFFIX}"
                    if digest.exists():
                        _add_text(archive, f"{model}/{digest.name}", digest.read_text())
                for model in store.names():
                    if (models / model / SERVING_FILE).is_file():
                        _add_text(archive, f"{model}/{SERVING_FILE}", f"{store.serving(model)}\n")
            file.flush()
            # Checks what was really written, by reading it back.
            with tempfile.TemporaryDirectory(dir=backups, prefix=".check-") as folder:
                _unpack(Path(file.name), Path(folder))
                for model, version in bundles:
                    ModelStore(Path(folder)).verified(model, version)
    except BundleError as error:
        raise BackupError(f"nothing was saved: {error}") from error
    for model, version in bundles:
        say(f"saved {model} {version}")
    return target


def restore(archive: Path, models: Path) -> None:
    """Restores what is missing or damaged in ``models``, then the promoted versions' names.

    Raises:
        BackupError: the archive is missing or damaged, or ``models`` holds another version under a saved one's name; nothing has
            been changed.
    """
    if not archive.is_file():
        there = ", ".join(sorted(path.name for path in archive.parent.glob("*.tar"))) or "none"
        raise BackupError(f"there is no backup {archive.name}; there are: {there}")
    with tempfile.TemporaryDirectory(dir=models, prefix=".staging-restore-") as folder:
        _unpack(archive, Path(folder))
        saved, store = ModelStore(Path(folder)), ModelStore(models)
        bundles = [(model, version) for model in saved.names() for version in saved.versions(model)]
        if not bundles:
            raise BackupError(f"{archive.name} holds no bundle")
        for model, version in bundles:
            _checked(saved, model, version)
        for model, version in bundles:
            _refuse_another(saved, store, model, version)
        for model, version in bundles:
            say(f"{_put_back(saved, store, model, version)} {model} {version}")
        for model in saved.names():
            if (Path(folder) / model / SERVING_FILE).is_file():
                store.promote(model, saved.serving(model))
                say(f"serving {model} {saved.serving(model)}")


def _refuse_another(saved: ModelStore, store: ModelStore, model: str, version: str) -> None:
    """Refuses to replace an intact version by another one, and a promoted version even if it is damaged."""
    here, there = (folder / model / f"{version}{DIGEST_SUFFIX}" for folder in (store.root, saved.root))
    if here.exists() and there.exists() and here.read_text() != there.read_text():
        raise BackupError(f"{model} {version} was promoted with another manifest than the saved one. Remove {here} first")
    if _intact(store, model, version) not in (None, saved.verified(model, version)):
        raise BackupError(f"{model} {version} is whole, but another than the saved one: it stays. Remove it first")


def _intact(store: ModelStore, model: str, version: str) -> Manifest | None:
    try:
        return store.verified(model, version)
    except BundleError:
        return None


def _put_back(saved: ModelStore, store: ModelStore, model: str, version: str) -> str:
    target = store.root / model / version
    done = "restored"
    if target.exists():
        try:
            store.verified(model, version)
        except BundleError as error:
            say(f"damaged: {error}")
            target.rename(target.with_name(f".staging-damaged-{version}-{time.time_ns()}"))
            done = "replaced"
        else:
            return "kept"
    with store.stage(model, version) as staged:
        shutil.copytree(saved.path(model, version), staged, dirs_exist_ok=True)
    if (saved.root / model / f"{version}{DIGEST_SUFFIX}").exists():
        store.pin(model, version)
    return done


def _checked(saved: ModelStore, model: str, version: str) -> None:
    try:
        saved.verified(model, version)
    except BundleError as error:
        raise BackupError(f"the backup is damaged, nothing was restored: {error}") from error


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{archive.name} cannot be read: {error}") from error


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(text.encode()), 0o644, int(time.time())
    archive.addfile(entry, io.BytesIO(text.encode()))


def main() -> int:
    """Runs the command line; the exit status is 1 if the command fails."""
    parser = argparse.ArgumentParser(prog="archive", description="Saves and restores the models' folder.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    parser_save = commands.add_parser("save", help="write every version into a new file")
    parser_save.add_argument("name", nargs="?", help="of the file; default: models-TIME.tar")
    parser_save.set_defaults(run=lambda chosen: say(f"backup: {save(chosen.name, MODELS, BACKUPS).name}"))
    parser_restore = commands.add_parser("restore", help="put back what is missing or damaged")
    parser_restore.add_argument("name", help="of the file")
    parser_restore.set_defaults(run=lambda chosen: restore(BACKUPS / chosen.name, MODELS))
    parsed = parser.parse_args()
    run: Callable[[argparse.Namespace], None] = parsed.run
    try:
        run(parsed)
    except (BackupError, BundleError, OSError) as error:
        sys.stderr.write(f"archive: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
