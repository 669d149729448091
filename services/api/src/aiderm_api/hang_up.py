"""What an application is told of its client beside the request: that the body has arrived, that the connection has ended."""

from __future__ import annotations

from collections.abc import Callable

HANG_UP = "aiderm.hang_up"
"""Key of a ``HangUp`` in the scopes of this service's server."""
ARRIVAL = "aiderm.arrival"
"""Key of an ``Arrival`` there."""


class Arrival:
    """Whether the whole body has arrived, so that receiving it takes no time.

    It knows nothing of its request, or each would be garbage that only a collection finds.
    """

    complete = False


class HangUp:
    """The end of a connection. ASGI tells it to those who wait to receive; that takes a task for each request."""

    def __init__(self) -> None:
        self.happened = False
        self.listeners: set[Callable[[], object]] = set()

    def tell(self) -> None:
        """The connection has ended."""
        self.happened = True
        for listener in list(self.listeners):
            listener()
