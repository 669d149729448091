"""A version in the store is complete and verified, or absent; one version serves."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiderm_core.bundle import store as store_module
from aiderm_core.bundle.manifest import MANIFEST_FILE, Manifest
from aiderm_core.bundle.store import BundleError, ModelStore, seal, sha256_file, verify


@pytest.fixture
def bundle(sound_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return Path(shutil.copytree(sound_bundle, tmp_path / "copy"))


@pytest.fixture
def store(sound_bundle: Path, tmp_path: Path) -> ModelStore:
    """A store with versions 1, 2 and 10 of melanoma, none of them promoted."""
    models = ModelStore(tmp_path / "models")
    for version in ("1", "10", "2"):
        add(models, sound_bundle, version)
    return models


def add(models: ModelStore, template: Path, version: str, name: str = "melanoma") -> None:
    with models.stage(name, version) as folder:
        shutil.copytree(template, folder, dirs_exist_ok=True)
        manifest = Manifest.load(folder)
        seal(folder, manifest.model_copy(update={"name": name, "version": version}))


def reseal(bundle: Path, **changes: Any) -> None:
    seal(bundle, Manifest.load(bundle).model_copy(update=changes))


def test_checksum(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1_000_000)
    assert sha256_file(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


# Verification


def test_sound_bundle_verifies(bundle: Path) -> None:
    manifest = verify(bundle)
    assert manifest == Manifest.load(bundle)
    assert set(manifest.files) == {
        path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file() and path.name != MANIFEST_FILE
    }


def test_sealing_twice_changes_nothing(bundle: Path) -> None:
    before = (bundle / MANIFEST_FILE).read_bytes()
    reseal(bundle)
    assert (bundle / MANIFEST_FILE).read_bytes() == before


def corrupt(bundle: Path) -> None:
    path = next((bundle / "variables").glob("*.data-*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose_graph(bundle: Path) -> None:
    (bundle / "saved_model.pb").unlink()
    reseal(bundle)


def lose_golden(bundle: Path) -> None:
    shutil.rmtree(bundle / "golden")
    reseal(bundle)


def form_elsewhere(path: str) -> Any:
    def change(bundle: Path) -> None:
        forms = Manifest.load(bundle).forms
        reseal(bundle, forms=[forms[0].model_copy(update={"path": path})])

    return change


def link_out(bundle: Path) -> None:
    outside = bundle.parent / "outside"
    shutil.copy(bundle / "saved_model.pb", outside)
    (bundle / "saved_model.pb").unlink()
    (bundle / "saved_model.pb").symlink_to(outside)


def link_folder_out(bundle: Path) -> None:
    shutil.move(bundle / "variables", bundle.parent / "variables")
    (bundle / "variables").symlink_to(bundle.parent / "variables", target_is_directory=True)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda b: (b / MANIFEST_FILE).unlink(), "cannot read"),
        (lambda b: (b / MANIFEST_FILE).write_text("{}"), "problem"),
        (lambda b: (b / "MODEL_CARD.md").unlink(), "lacks MODEL_CARD.md"),
        (lambda b: (b / "MODEL_CARD.md").write_text("other"), "MODEL_CARD.md is not what the manifest lists"),
        (lambda b: (b / "report" / "more.json").write_text("{}"), "does not list: report/more.json"),
        (corrupt, "is not what the manifest lists"),
        (lose_graph, "no saved_model.pb"),
        (lose_golden, "golden inputs"),
        (form_elsewhere("int8"), "no int8"),
        (link_out, "a link that leaves the bundle"),
        (link_folder_out, "a link that leaves the bundle"),
        (lambda b: (b / "loop").symlink_to("loop"), "a link"),
        (lambda b: os.mkfifo(b / "pipe"), "no regular file"),
    ],
)
def test_damage_is_found(bundle: Path, damage: Any, said: str) -> None:
    damage(bundle)
    with pytest.raises(BundleError) as caught:
        verify(bundle)
    assert said in str(caught.value)


def test_link_inside_the_bundle_is_a_file(bundle: Path) -> None:
    (bundle / "CARD.md").symlink_to("MODEL_CARD.md")
    reseal(bundle)
    assert "CARD.md" in verify(bundle).files


def test_file_name_that_cannot_be_listed(bundle: Path) -> None:
    (bundle / "a\\b").write_text("x")
    with pytest.raises(BundleError, match="cannot be sealed"):
        reseal(bundle)


# Listing


def test_names_and_versions(store: ModelStore, sound_bundle: Path) -> None:
    add(store, sound_bundle, "1", name="acne")
    (store.root / "empty").mkdir()
    (store.root / "no-manifest" / "1").mkdir(parents=True)
    (store.root / ".hidden" / "1").mkdir(parents=True)
    (store.root / ".hidden" / "1" / MANIFEST_FILE).write_text("{}")
    (store.root / "README.md").write_text("x")
    (store.root / "melanoma" / ".staging-3-abc").mkdir()
    (store.root / "melanoma" / ".staging-3-abc" / MANIFEST_FILE).write_text("{}")
    assert store.names() == ["acne", "melanoma"]
    assert store.versions("melanoma") == ["1", "2", "10"]
    assert store.versions("unknown") == []


def test_no_store_is_an_empty_store(tmp_path: Path) -> None:
    assert ModelStore(tmp_path / "nowhere").names() == []


def test_path(store: ModelStore) -> None:
    assert store.path("melanoma", "2") == store.root / "melanoma" / "2"
    with pytest.raises(BundleError, match="no version 3; it has: 1, 2, 10"):
        store.path("melanoma", "3")


@pytest.mark.parametrize(
    "evil", ["", ".", "..", "../melanoma", "a/b", "/etc", "melanoma\n", "a\0b", "SERVING", "PREVIOUS", "é", "x" * 80]
)
def test_names_and_versions_cannot_leave_the_store(store: ModelStore, evil: str) -> None:
    calls: list[Any] = [
        lambda: store.path("melanoma", evil),
        lambda: store.promote("melanoma", evil),
        lambda: store.stage("melanoma", evil).__enter__(),
        lambda: store.versions(evil),
        lambda: store.path(evil, "1"),
        lambda: store.serving(evil),
        lambda: store.rollback(evil),
        lambda: store.stage(evil, "1").__enter__(),
    ]
    for call in calls:
        with pytest.raises(BundleError, match="must"):
            call()
    assert sorted(path.name for path in store.root.parent.iterdir()) == ["models"]


@given(st.text("ab.AZ09-_/\\ \n\0é", max_size=70))
def test_any_text_is_a_name_or_an_error(text: str) -> None:
    models = ModelStore(Path("nowhere-at-all"))
    try:
        found = models.versions(text)
    except BundleError as error:
        refused = str(error)
        found = []
    else:
        refused = ""
    assert found == []
    assert not refused or "Received" in refused


# Staging


def test_staged_version_appears_whole_and_readable(store: ModelStore, sound_bundle: Path) -> None:
    with store.stage("melanoma", "3") as folder:
        assert folder.parent == store.root / "melanoma"
        shutil.copytree(sound_bundle, folder, dirs_exist_ok=True)
        reseal(folder, version="3")
        assert store.versions("melanoma") == ["1", "2", "10"]
    assert store.versions("melanoma") == ["1", "2", "3", "10"]
    assert not folder.exists()
    target = store.path("melanoma", "3")
    assert verify(target).version == "3"
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert stat.S_IMODE((target / MANIFEST_FILE).stat().st_mode) == 0o644


def hidden(store: ModelStore) -> list[str]:
    return [entry.name for entry in (store.root / "melanoma").iterdir() if entry.name.startswith(".")]


def test_failure_in_the_block_leaves_nothing(store: ModelStore) -> None:
    def fail() -> None:
        with store.stage("melanoma", "3") as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert store.versions("melanoma") == ["1", "2", "10"]
    assert hidden(store) == []


def test_first_version_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    models = ModelStore(tmp_path / "models")
    with pytest.raises(BundleError, match="cannot read"), models.stage("melanoma", "1"):
        pass
    assert list(models.root.iterdir()) == []


@pytest.mark.parametrize(("version", "said"), [("2", "exists already"), ("4", "must be of melanoma 4. Received: melanoma 1")])
def test_stage_refuses(store: ModelStore, sound_bundle: Path, version: str, said: str) -> None:
    with pytest.raises(BundleError, match=said), store.stage("melanoma", version) as folder:
        shutil.copytree(sound_bundle, folder, dirs_exist_ok=True)
    assert store.versions("melanoma") == ["1", "2", "10"]
    assert hidden(store) == []


def test_of_two_stages_of_one_version_the_first_wins(store: ModelStore, sound_bundle: Path) -> None:
    def race() -> None:
        with store.stage("melanoma", "3") as folder:
            shutil.copytree(sound_bundle, folder, dirs_exist_ok=True)
            reseal(folder, version="3", architecture="second")
            with store.stage("melanoma", "3") as other:
                shutil.copytree(sound_bundle, other, dirs_exist_ok=True)
                reseal(other, version="3", architecture="first")

    with pytest.raises(BundleError, match="cannot be put in place"):
        race()
    assert verify(store.path("melanoma", "3")).architecture == "first"
    assert hidden(store) == []


# Promotion


def test_promote_and_roll_back(store: ModelStore) -> None:
    with pytest.raises(BundleError, match="no version of melanoma is promoted; it has: 1, 2, 10"):
        store.serving("melanoma")
    store.promote("melanoma", "1")
    with pytest.raises(BundleError, match="no previous version"):
        store.rollback("melanoma")
    store.promote("melanoma", "2")
    assert store.serving("melanoma") == "2"
    assert (store.root / "melanoma" / "SERVING").read_text() == "2\n"
    assert store.rollback("melanoma") == "1"
    assert store.serving("melanoma") == "1"
    assert store.rollback("melanoma") == "2"
    assert hidden(store) == []


def test_promoting_again_keeps_the_way_back(store: ModelStore) -> None:
    for version in ("1", "2", "2"):
        store.promote("melanoma", version)
    assert store.rollback("melanoma") == "1"


def edit_threshold(bundle: Path) -> None:
    path = bundle / MANIFEST_FILE
    text = path.read_text()
    path.write_text(text.replace('"threshold": 0.5', '"threshold": 0.55'))
    assert path.read_text() != text
    verify(bundle)  # the bundle itself is still consistent


def test_promotion_writes_the_digest_of_the_manifest(store: ModelStore) -> None:
    assert not list((store.root / "melanoma").glob("*.sha256"))
    store.promote("melanoma", "2")
    digest = sha256_file(store.path("melanoma", "2") / MANIFEST_FILE)
    assert (store.root / "melanoma" / "2.sha256").read_text() == f"{digest}  2/manifest.json\n"
    assert store.verified("melanoma", "2", promoted=True).version == "2"
    with pytest.raises(BundleError, match=r"1\.sha256 is missing.*promote melanoma 1"):
        store.verified("melanoma", "1", promoted=True)
    assert store.verified("melanoma", "1").version == "1"
    assert store.versions("melanoma") == ["1", "2", "10"]


def test_an_edited_manifest_is_refused_everywhere(store: ModelStore) -> None:
    for version in ("1", "2"):
        store.promote("melanoma", version)
        edit_threshold(store.path("melanoma", version))
    calls: list[Any] = [
        lambda: store.verified("melanoma", "2"),
        lambda: store.promote("melanoma", "2"),
        lambda: store.promote("melanoma", "1"),
        lambda: store.rollback("melanoma"),
        lambda: store.pin("melanoma", "1"),
    ]
    for call in calls:
        with pytest.raises(BundleError, match=r"manifest\.json is not the one that was promoted"):
            call()
    assert store.serving("melanoma") == "2"


def test_a_digest_that_is_none_is_refused(store: ModelStore) -> None:
    store.promote("melanoma", "1")
    (store.root / "melanoma" / "1.sha256").write_text("00\n")
    with pytest.raises(BundleError, match="holds no SHA-256"):
        store.promote("melanoma", "1")


def test_a_new_bundle_in_the_place_of_a_deleted_one_has_no_digest_until_it_is_promoted(
    store: ModelStore, sound_bundle: Path
) -> None:
    store.promote("melanoma", "1")
    shutil.rmtree(store.path("melanoma", "1"))
    with store.stage("melanoma", "1") as folder:
        shutil.copytree(sound_bundle, folder, dirs_exist_ok=True)
        reseal(folder, architecture="another")
    with pytest.raises(BundleError, match=r"1\.sha256 is missing"):
        store.verified("melanoma", "1", promoted=True)
    store.promote("melanoma", "1")
    assert store.verified("melanoma", "1", promoted=True).architecture == "another"


def test_promotion_mends_a_damaged_serving_file(store: ModelStore) -> None:
    store.promote("melanoma", "1")
    (store.root / "melanoma" / "SERVING").write_text("../../etc")
    store.promote("melanoma", "2")
    assert store.serving("melanoma") == "2"


def test_damaged_version_is_not_promoted(store: ModelStore) -> None:
    store.promote("melanoma", "1")
    corrupt(store.path("melanoma", "2"))
    with pytest.raises(BundleError, match="is not what the manifest lists"):
        store.promote("melanoma", "2")
    assert store.serving("melanoma") == "1"


def test_rollback_to_a_damaged_version_is_refused(store: ModelStore) -> None:
    store.promote("melanoma", "1")
    store.promote("melanoma", "2")
    corrupt(store.path("melanoma", "1"))
    with pytest.raises(BundleError, match="is not what the manifest lists"):
        store.rollback("melanoma")
    assert store.serving("melanoma") == "2"


def test_version_under_another_folder_name_is_not_promoted(store: ModelStore) -> None:
    (store.root / "melanoma" / "2").rename(store.root / "melanoma" / "5")
    with pytest.raises(BundleError, match=r"must be of melanoma 5\. Received: melanoma 2"):
        store.promote("melanoma", "5")


def test_serving_a_version_that_is_gone(store: ModelStore) -> None:
    store.promote("melanoma", "2")
    shutil.rmtree(store.root / "melanoma" / "2")
    with pytest.raises(BundleError, match="no version 2; it has: 1, 10"):
        store.serving("melanoma")


@pytest.mark.parametrize("text", ["", "../../etc", "1\n2", "\udcff"])
def test_unreadable_serving_file(store: ModelStore, text: str) -> None:
    (store.root / "melanoma" / "SERVING").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError):
        store.serving("melanoma")


def test_crash_while_promoting_leaves_a_serving_version(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.promote("melanoma", "1")
    store.promote("melanoma", "2")

    def crash(self: Path, target: Path) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(store_module.Path, "replace", crash)
        with pytest.raises(OSError, match="power cut"):
            store.promote("melanoma", "10")
    assert store.serving("melanoma") == "2"
    assert hidden(store) == []


def test_readers_never_see_half_a_promotion(store: ModelStore) -> None:
    store.promote("melanoma", "1")
    seen: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(store.serving("melanoma"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for version in ("2", "10", "1") * 5:
            store.promote("melanoma", version)
    finally:
        done.set()
        reader.join()
    assert seen <= {"1", "2", "10"}
    assert seen
