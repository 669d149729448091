"""Stops work whose client has disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from aiderm_api.errors.problems import ClientClosedRequest

T = TypeVar("T")


async def unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Awaits ``work``, and cancels it when the client disconnects, so that its places in the queue are free again.

    Works like ``asyncio.timeout``, with the end of the connection in place of the end of the time.

    Raises:
        ClientClosedRequest: the client disconnected.
    """
    task = asyncio.current_task()
    disconnected = False

    def stop(watcher: asyncio.Task[None]) -> None:
        nonlocal disconnected
        if task is not None and not watcher.cancelled():
            disconnected = True
            task.cancel()

    watcher = asyncio.ensure_future(_wait_for_disconnect(request))
    watcher.add_done_callback(stop)
    try:
        return await work
    except asyncio.CancelledError:
        if disconnected and task is not None and task.uncancel() == 0:
            raise ClientClosedRequest("The client disconnected.") from None
        raise
    finally:
        watcher.remove_done_callback(stop)
        watcher.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # nothing else follows a complete body
