"""``aiderm-api`` serves, ``aiderm-api keys`` manages keys; all is set by ``AIDERM_*`` variables, see aiderm_api.settings."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import structlog
import uvicorn

from aiderm_api.app import create_app
from aiderm_api.auth import keys_command
from aiderm_api.http_protocol import BoundedProtocol
from aiderm_api.malloc_arenas import bound_arenas
from aiderm_api.settings import Settings, SettingsError, load_settings, unknown_settings
from aiderm_api.telemetry.observability import configure_logging

log = structlog.get_logger("aiderm_api")


class Server(uvicorn.Server):
    """Says where it listens once it can answer."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Also logs the address; with port 0 only the system knows it."""
        await super().startup(sockets)
        if self.started:
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            port = next((s.getsockname()[1] for server in self.servers for s in server.sockets), self.config.port)
            log.info("ready", url=f"http://{host}:{port}")


def make_server(settings: Settings) -> Server:
    """An uvicorn server for these settings."""
    return Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning" if settings.log_level == "info" else settings.log_level,
            access_log=False,  # RequestContext logs each request
            proxy_headers=False,
            server_header=False,
            limit_concurrency=settings.limit_concurrency,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status is 2 for settings or arguments that cannot be used."""
    parser = argparse.ArgumentParser(prog="aiderm-api", description="The HTTP API; without a command it serves.")
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("serve", help="serve until SIGTERM or SIGINT")
    keys_command.add_parser(commands)
    parsed = parser.parse_args(arguments)
    return keys_command.run(parsed) if getattr(parsed, "run", None) else serve()


def serve() -> int:
    """Runs until SIGTERM or SIGINT, then finishes what is in progress."""
    bound_arenas()
    try:
        settings = load_settings()
        server = make_server(settings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure_logging(settings.log_level, settings.log_format)
    for text in unknown_settings():
        log.warning(text)
    if settings.keys_file is not None and settings.frontend_dir is not None:
        log.warning("the page that this process serves has no key, so it cannot predict; behind nginx it has one")
    with suppress(KeyboardInterrupt):  # uvicorn raises it again after a clean end
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
