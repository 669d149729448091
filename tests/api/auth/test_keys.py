"""The key file, how a running service reads it, and the command that writes it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_api.__main__ import main
from aiderm_api.auth.keys import KeyRing, KeysError, Rate, changing, new_key, read_keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def add(path: Path, name: str = "clinic", **options) -> str:
    key, secret = new_key(name, **options)
    with changing(path) as keys:
        keys.append(key)
    return secret


def command(capsys, *arguments: str) -> tuple[int, str, str]:
    status = main(["keys", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_key_is_found_and_only_its_hash_is_stored(path):
    secret = add(path)
    text = path.read_text("utf-8")
    assert secret not in text
    assert secret.rsplit("_", 1)[1] not in text
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    found = KeyRing(path).find(secret.encode())
    assert found is not None
    assert found.name == "clinic"
    assert len(secret.rsplit("_", 1)[1]) == 64


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=120))
def test_nothing_else_opens_the_door(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    secret = add(path).encode()
    ring = KeyRing(path)
    assert ring.find(text) is None
    for wrong in (
        secret[:-1],
        secret + b"0",
        secret.upper(),
        b" " + secret,
        secret[:-1] + (b"0" if secret[-1:] != b"0" else b"1"),
    ):
        assert ring.find(wrong) is None


def test_the_file_is_private_and_stays_as_its_owner_made_it(path):
    add(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)  # it holds only hashes, so the operator may let a service of another user read it
    add(path, "other")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_a_change_that_fails_leaves_the_file_alone(path):
    add(path)
    before = path.read_bytes()

    def change() -> None:
        with changing(path) as keys:
            keys.clear()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_two_who_change_it_at_once_take_turns(path):
    threads = [threading.Thread(target=add, args=(path, f"key {n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in read_keys(path)} == {f"key {n}" for n in range(8)}


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0o600, "There is no file of keys"),
        ("{", 0o600, "damaged"),
        ('{"schema_version": 2, "keys": []}', 0o600, "schema_version"),
        ('{"schema_version": 1, "keys": [{"id": "1"}]}', 0o600, "keys.0"),
        ('{"schema_version": 1, "keys": []}', 0o600, "none that is valid"),
        ('{"schema_version": 1, "keys": []}', 0o620, "chmod go-w"),
        ('{"schema_version": 1, "keys": []}', 0o602, "chmod go-w"),
        (" " * 4_000_001, 0o600, "larger than"),
    ],
)
def test_an_unusable_file_is_refused_with_what_to_do(path, content, mode, said):
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(KeysError, match=said) as caught:
        KeyRing(path)
    assert str(path) in str(caught.value)


def test_a_folder_in_which_anybody_may_put_files_is_refused(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    add(folder / "keys.json")
    folder.chmod(0o777)
    with pytest.raises(KeysError, match="chmod o-w"):
        KeyRing(folder / "keys.json")
    folder.chmod(0o1777)  # like /tmp: only the owner may replace a file
    assert KeyRing(folder / "keys.json").valid == 1


def test_a_file_that_its_reader_may_not_read_is_named(path, monkeypatch):
    add(path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so file modes would not do
    with pytest.raises(KeysError, match=rf"cannot be read by user {os.geteuid()}: Permission denied.*chmod 644"):
        KeyRing(path)


def test_a_key_expires(path):
    now = datetime(2030, 1, 1, tzinfo=UTC)
    secret = add(path, expires_at=now + timedelta(hours=1))
    times = [now]
    ring = KeyRing(path, lambda: times[-1])
    key = ring.find(secret.encode())
    assert key is not None
    assert not ring.expired(key)
    times.append(now + timedelta(hours=1))
    assert ring.expired(key)
    assert ring.valid == 0
    with pytest.raises(KeysError, match="of 1"):
        KeyRing(path, lambda: times[-1])


def test_a_running_service_follows_the_file_and_believes_no_broken_one(path):
    first = add(path).encode()
    ring = KeyRing(path)
    second = add(path, "second").encode()
    assert ring.find(second) is None
    ring.refresh()
    assert ring.find(second) is not None

    good = path.read_text("utf-8")
    path.write_text("{")
    ring.refresh()
    assert "damaged" in ring.load_error
    path.unlink()
    ring.refresh()
    assert ring.find(first) is not None, "a missing file must not shut everybody out"
    path.write_text(good)
    path.chmod(0o666)
    ring.refresh()
    assert "chmod go-w" in ring.load_error
    path.chmod(0o600)
    ring.refresh()
    assert ring.load_error is None

    with changing(path) as keys:
        keys.clear()
    ring.refresh()
    assert ring.find(first) is None
    assert ring.valid == 0


def test_command_adds_lists_and_revokes(path, capsys, monkeypatch):
    monkeypatch.setenv("AIDERM_KEYS_FILE", str(path))
    monkeypatch.setenv("AIDERM_PORT", "no")  # the service would not start with this, but the command ignores it
    status, secret, said = command(capsys, "add", "clinic a", "--expires", "30", "--rate", "2.5")
    assert (status, secret.count("\n")) == (0, 1)
    assert secret.strip() not in said
    _, other, _ = command(capsys, "add", "page", "--unlimited")
    ring = KeyRing(path)
    key = ring.find(secret.strip().encode())
    assert key.rate == Rate(per_second=2.5, burst=10)
    assert timedelta(days=29) < key.expires_at - datetime.now(UTC) <= timedelta(days=30)
    assert ring.find(other.strip().encode()).rate == "unlimited"

    status, table, _ = command(capsys, "list")
    assert status == 0
    assert f"{key.id}  clinic a" in table
    assert "2.5, 10 at once" in table
    assert "unlimited" in table
    assert key.sha256 not in table

    assert command(capsys, "revoke", key.id)[0] == 0
    assert command(capsys, "revoke", "page")[0] == 0
    assert json.loads(path.read_text("utf-8")) == {"schema_version": 1, "keys": []}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "a\nb"), "name"),
        (("add", "x", "--rate", "0"), "per_second"),
        (("add", "x", "--rate", "nan"), "per_second"),
        (("add", "x", "--burst", "5"), "--rate"),
        (("add", "x", "--rate", "1", "--unlimited"), "--unlimited"),
        (("revoke", "nobody"), "no such key"),
        (("revoke", "twin"), "several"),
    ],
)
def test_command_refuses_what_makes_no_sense(path, capsys, arguments, said):
    add(path, "twin")
    add(path, "twin")
    before = path.read_bytes()
    status, out, error = command(capsys, *arguments, "--file", str(path))
    assert (status, out) == (2, "")
    assert said in error
    assert path.read_bytes() == before


@pytest.mark.parametrize("expires", ["0", "-1", "soon", "2001-01-01"])
def test_command_refuses_a_time_that_is_none(path, capsys, expires):
    with pytest.raises(SystemExit) as caught:
        command(capsys, "add", "x", "--expires", expires, "--file", str(path))
    assert caught.value.code == 2
    assert not path.exists()


def test_command_needs_a_file_and_its_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("AIDERM_KEYS_FILE", raising=False)
    assert "AIDERM_KEYS_FILE" in command(capsys, "list")[2]
    missing = str(tmp_path / "nowhere" / "keys.json")
    assert "Make it first" in command(capsys, "add", "x", "--file", missing)[2]
    assert "There is no file of keys" in command(capsys, "revoke", "x", "--file", str(tmp_path / "keys.json"))[2]


def test_a_date_is_valid_to_its_end(path, capsys):
    command(capsys, "add", "x", "--expires", "2999-12-31", "--file", str(path))
    assert read_keys(path)[0].expires_at == datetime(3000, 1, 1, tzinfo=UTC)
