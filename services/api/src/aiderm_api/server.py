"""An uvicorn server with this service's HTTP protocol."""

from __future__ import annotations

import socket
from contextlib import suppress

import structlog
import uvicorn

from aiderm_api.app import create_app
from aiderm_api.http_protocol import BoundedProtocol, Connections
from aiderm_api.process_limits import raise_open_files
from aiderm_api.serving.early_runtime import EarlyRuntime
from aiderm_api.settings import Settings, unknown_settings
from aiderm_api.telemetry.logging import configure_logging

_TICKS_PER_SECOND = 10  # of uvicorn
log = structlog.get_logger("aiderm_api")


class Server(uvicorn.Server):
    """Logs where it listens once it can answer, and closes connections that wait too long."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = self.connections = Connections()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the server and logs its address; with port 0 the operating system chooses the port."""
        await super().startup(sockets)
        if self.started:
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            port = next((s.getsockname()[1] for server in self.servers for s in server.sockets), self.config.port)
            log.info("ready", url=f"http://{host}:{port}")

    async def on_tick(self, counter: int) -> bool:
        """Closes overdue connections once a second, on uvicorn's heartbeat."""
        if counter % _TICKS_PER_SECOND == 0:
            self.connections.close_overdue()
        return await super().on_tick(counter)


def make_server(settings: Settings, early: EarlyRuntime | None = None) -> Server:
    """A server for these settings; ``early`` is already loading the default model."""
    return Server(
        uvicorn.Config(
            create_app(settings, early),
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


def serve(settings: Settings, early: EarlyRuntime) -> int:
    """Serves until SIGTERM or SIGINT, then finishes the requests in progress.

    Returns:
        The exit status: 1 if the server could not start.

    Raises:
        SettingsError: see ``create_app``.
    """
    server = make_server(settings, early)
    configure_logging(settings.log_level, settings.log_format)
    raise_open_files(settings.limit_concurrency)
    for text in unknown_settings():
        log.warning(text)
    if settings.keys_file is not None and settings.frontend_dir is not None:
        log.warning("the page that this process serves has no key, so it cannot predict; behind nginx it has one")
    with suppress(KeyboardInterrupt):  # uvicorn raises it again after a clean shutdown
        server.run()
    return 0 if server.started else 1
