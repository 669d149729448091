"""``aiderm-api`` serves, ``aiderm-api keys`` manages keys; ``AIDERM_*`` variables configure both, see aiderm_api.settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

import structlog

from aiderm_api.auth import keys_command
from aiderm_api.process_limits import bound_arenas, raise_open_files
from aiderm_api.server import make_server
from aiderm_api.settings import SettingsError, load_settings, unknown_settings
from aiderm_api.telemetry.logging import configure_logging

log = structlog.get_logger("aiderm_api")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 2 for settings or arguments that cannot be used."""
    parser = argparse.ArgumentParser(prog="aiderm-api", description="The HTTP API; without a command it serves.")
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("serve", help="serve until SIGTERM or SIGINT")
    keys_command.add_parser(commands)
    parsed = parser.parse_args(arguments)
    return keys_command.run(parsed) if getattr(parsed, "run", None) else serve()


def serve() -> int:
    """Serves until SIGTERM or SIGINT, then finishes the requests in progress."""
    bound_arenas()
    try:
        settings = load_settings()
        server = make_server(settings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure_logging(settings.log_level, settings.log_format)
    raise_open_files(settings.limit_concurrency)
    for text in unknown_settings():
        log.warning(text)
    if settings.keys_file is not None and settings.frontend_dir is not None:
        log.warning("the page that this process serves has no key, so it cannot predict; behind nginx it has one")
    with suppress(KeyboardInterrupt):  # uvicorn raises it again after a clean shutdown
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
