"""What an application is told of its client beside the request: that the body has arrived, that the connection has ended."""

from __future__ import annotations

from collections.abc import Callable

HANG_UP = "aiderm.hang_up"
"""Key of a ``HangUp`` in the scopes of this service's server."""
BODY_ARRIVED = "aiderm.body_arrived"
"""Key of a function there that says whether the whole body has arrived, so that receiving it takes no time."""


class HangUp:
    """The end of a connection. ASGI tells it to those who wait to receive; that takes a task for each request."""

    def __init__(self) -> None:
        self.happened = False
        self.listeners: set[Callable[[], None]] = set()

    def tell(self) -> None:
        """The connection has ended."""
        self.happened = True
        for listener in list(self.listeners):
            listener()
