"""Configures structured logs on stderr. They contain no image content and no file names."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(level: str, log_format: str) -> None:
    """Sends the records of structlog and of the standard library to stderr in one format.

    Args:
        level: the least severe level that is written: debug, info, warning or error.
        log_format: ``json``, ``console``, or ``auto``: console on a terminal, JSON elsewhere.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # With format_exc_info here, the console renderer would print tracebacks twice.
    rendering: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The parser logs byte positions in uploads; an operator has no use for these warnings.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    structlog.configure(
        # Directly to the stream: through the records of the standard library a line takes three times as long.
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
