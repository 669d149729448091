"""Stops work whose client has disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from aiderm_api.errors.problems import ClientClosedRequest
from aiderm_api.hang_up import HANG_UP, HangUp

T = TypeVar("T")


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Awaits ``work``, and cancels it when the client disconnects, so that its places in the queue become free.

    Works like ``asyncio.timeout``, but triggered by the end of the connection instead of a timeout.

    Raises:
        ClientClosedRequest: the client disconnected.
    """
    task = asyncio.current_task()
    hang_up: HangUp = request.scope.get(HANG_UP) or HangUp()
    if hang_up.happened or task is None:
        work.close()
        raise ClientClosedRequest("The client disconnected.")
    hang_up.listeners.add(task.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if hang_up.happened and task.uncancel() == 0:
            raise ClientClosedRequest("The client disconnected.") from None
        raise
    finally:
        hang_up.listeners.discard(task.cancel)
