"""Signals from the server to the application: the request body has arrived, or the connection has ended."""

from __future__ import annotations

from collections.abc import Callable

HANG_UP = "aiderm.hang_up"
"""Key under which this service's server stores a ``HangUp`` in the ASGI scope."""
ARRIVAL = "aiderm.arrival"
"""Key of the ``Arrival`` in the ASGI scope."""


class Arrival:
    """Whether the whole body has arrived and can be read without waiting.

    It has no reference to its request: the cycle would keep each request in memory until the next garbage collection.
    """

    complete = False


class HangUp:
    """Reports the end of a connection. ASGI itself reports it only to a waiting ``receive``, which takes a task per request."""

    def __init__(self) -> None:
        self.happened = False
        self.listeners: set[Callable[[], object]] = set()

    def tell(self) -> None:
        """Marks the connection as ended and calls the listeners."""
        self.happened = True
        for listener in list(self.listeners):
            listener()
