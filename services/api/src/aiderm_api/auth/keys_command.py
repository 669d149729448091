"""``aiderm-api keys add|list|revoke``: manages the key file."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from aiderm_api.auth.keys import ApiKey, KeysError, Rate, changing, new_key, read_keys
from aiderm_api.settings import KeysFile


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands to a parser."""
    keys = commands.add_parser("keys", help="add, list and revoke API keys", description=__doc__)
    actions = keys.add_subparsers(dest="action", required=True, metavar="add|list|revoke")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--file", type=Path, help="key file (default: AIDERM_KEYS_FILE)")

    add = actions.add_parser("add", parents=[where], help="create a key and show it once")
    add.add_argument("name", help="who or what uses it: letters, digits, spaces and . _ @ -")
    add.add_argument("--expires", type=_moment, metavar="DAYS|DATE", help="valid until then (UTC; default: forever)")
    add.add_argument("--rate", type=float, metavar="N", help="images per second (default: AIDERM_KEY_RATE of the service)")
    add.add_argument("--burst", type=int, metavar="N", help="images at once after a pause (default: 4 seconds' worth)")
    add.add_argument("--unlimited", action="store_true", help="no limit, for a proxy that limits clients itself")
    add.set_defaults(run=_add)

    actions.add_parser("list", parents=[where], help="list the keys").set_defaults(run=_list)

    revoke = actions.add_parser("revoke", parents=[where], help="make a key invalid; a running service follows within seconds")
    revoke.add_argument("key", help="the key's id, or its name where only one has it")
    revoke.set_defaults(run=_revoke)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command that ``add_parser`` parsed; returns the exit status."""
    try:
        path = arguments.file or KeysFile().keys_file
        if path is None:
            raise KeysError("Which key file? Name it with --file, or in AIDERM_KEYS_FILE.")
        arguments.run(arguments, path)
    except KeysError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _add(arguments: argparse.Namespace, path: Path) -> None:
    try:
        key, secret = new_key(arguments.name, expires_at=arguments.expires, rate=_rate(arguments))
    except ValidationError as error:
        first = error.errors()[0]
        raise KeysError(f"{first['loc'][-1]}: {first['msg']}. Received: {first['input']!r}") from error
    with changing(path) as keys:
        if any(other.id == key.id for other in keys):
            raise KeysError("By a rare chance the new key's id is taken. Nothing was changed; try again.")
        keys.append(key)
    sys.stderr.write(
        f"Key {key.id} for {key.name!r}, stored as a hash in {path}. It is shown only once.\n"
        f"Next: start the service with AIDERM_KEYS_FILE={path}; clients send 'Authorization: Bearer KEY'. The key:\n"
    )
    sys.stderr.flush()
    sys.stdout.write(f"{secret}\n")  # alone on stdout, so that a shell can redirect it


def _rate(arguments: argparse.Namespace) -> Rate | Literal["unlimited"] | None:
    if arguments.unlimited:
        if arguments.rate is not None or arguments.burst is not None:
            raise KeysError("Received: --unlimited together with --rate or --burst. Allowed: one or the other.")
        return "unlimited"
    if arguments.rate is None:
        if arguments.burst is not None:
            raise KeysError("Received: --burst without --rate. Allowed: both, or --rate alone.")
        return None
    rate = Rate(per_second=arguments.rate, burst=1 if arguments.burst is None else arguments.burst)
    return rate.model_copy(update={"burst": max(1, round(4 * rate.per_second))}) if arguments.burst is None else rate


def _list(_: argparse.Namespace, path: Path) -> None:
    now = datetime.now(UTC)
    rows = [("ID", "NAME", "CREATED", "EXPIRES", "IMAGES PER SECOND")]
    for key in read_keys(path):
        expires = "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}Z"
        rows.append((key.id, key.name, f"{key.created_at:%Y-%m-%d}", expires + " (over)" * key.expired(now), _limit(key)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n")


def _limit(key: ApiKey) -> str:
    return f"{key.rate.per_second:g}, {key.rate.burst} at once" if isinstance(key.rate, Rate) else key.rate or "the service's"


def _revoke(arguments: argparse.Namespace, path: Path) -> None:
    read_keys(path)  # here a missing file is an error
    with changing(path) as keys:
        found = [key for key in keys if key.id == arguments.key] or [key for key in keys if key.name == arguments.key]
        if len(found) != 1:
            known = ", ".join(f"{key.id} ({key.name})" for key in keys) or "none"
            many = "several keys have that name" if found else "there is no such key"
            raise KeysError(f"Received: {arguments.key!r}; {many}. Known ids: {known}.")
        keys.remove(found[0])
    sys.stderr.write(f"Revoked {found[0].id} ({found[0].name}). A running service follows when it next checks the file.\n")


def _moment(text: str) -> datetime:
    """Parses an expiry: a number of days from now, or a date, which is the last valid day."""
    now = datetime.now(UTC).replace(microsecond=0)
    if re.fullmatch(r"[1-9][0-9]{0,4}", text):
        return now + timedelta(days=int(text))
    try:
        end = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"received {text!r}; allowed: a number of days, or YYYY-MM-DD") from error
    if end <= now:
        raise argparse.ArgumentTypeError(f"received {text!r}, which is over")
    return end
