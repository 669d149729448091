"""The two clients. They differ only in how they wait: the calls come from ``calls``, the retries from ``exchange``."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Coroutine
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypedDict, TypeVar, get_args, get_type_hints

import anyio
import anyio.to_thread
import httpx

from aiderm_client import calls
from aiderm_client.calls import ApiCall
from aiderm_client.exchange import Outcome, exchange
from aiderm_client.retry import Retry

P = ParamSpec("P")
T = TypeVar("T")
CONNECT_SECONDS = 5.0


def _blocking(build: Callable[P, ApiCall[T]]) -> Callable[Concatenate[Client, P], T]:
    """The method of ``Client`` that makes this call."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(build(*args, **kwargs))

    _describe(method, build)
    return method


def _awaitable(build: Callable[P, ApiCall[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """The method of ``AsyncClient`` that makes this call."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        # In a thread, because it may read files.
        return await self._run(await anyio.to_thread.run_sync(partial(build, *args, **kwargs)))

    _describe(method, build)
    return method


def _describe(method: Callable[..., Any], build: Callable[..., Any]) -> None:
    """Gives a method the name, text and signature of its call, for ``help`` and editors."""
    signature, answer = inspect.signature(build), get_args(get_type_hints(build)["return"])[0]
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *signature.parameters.values()]
    method.__name__, method.__qualname__, method.__doc__ = build.__name__, build.__name__, build.__doc__
    method.__dict__["__signature__"] = signature.replace(parameters=parameters, return_annotation=answer)


class _Settings(TypedDict):
    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout


def _settings(base_url: str, api_key: str | None, timeout: float) -> _Settings:
    headers = {"Accept": "application/json", "User-Agent": f"aiderm-client/{_version()}"}
    if api_key is not None:
        if not api_key.isascii() or not api_key.isprintable() or " " in api_key or not api_key:
            raise ValueError("api_key must be printable ASCII without spaces or line ends. Received: something else")
        headers["Authorization"] = f"Bearer {api_key}"
    return {
        "base_url": base_url,
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
    }


def _version() -> str:
    try:
        return version("aiderm-client")
    except PackageNotFoundError:  # run from the source folder
        return "unknown"


def _request(call: ApiCall[Any]) -> dict[str, Any]:
    return {
        "method": call.method,
        "url": call.path,
        "params": call.params,
        "files": call.files or None,
        "headers": call.headers,
    }


class _Connected:
    """Base class of the two clients.

    Args:
        base_url: address of the service, with its prefix if it has one, such as ``http://127.0.0.1:8080/api``.
        api_key: sent as ``Authorization: Bearer``.
        timeout: seconds for each step of one attempt (to send, to receive; to connect at most 5).
        retry: when to try again.
        transport: another way to send requests, ``httpx.BaseTransport`` or ``httpx.AsyncBaseTransport``; for tests and
            unusual networks.
    """

    _http_client: ClassVar[type[httpx.Client] | type[httpx.AsyncClient]]

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retry: Retry | None = None,
        transport: Any = None,
    ) -> None:
        self._retry = retry or Retry()
        self._http: Any = self._http_client(**_settings(base_url, api_key, timeout), transport=transport)


class Client(_Connected):
    """Synchronous client; safe to share between threads."""

    _http_client = httpx.Client

    predict = _blocking(calls.predict)
    predict_batch = _blocking(calls.predict_batch)
    predict_lesion = _blocking(calls.predict_lesion)
    compare = _blocking(calls.compare)
    health = _blocking(calls.health)
    models = _blocking(calls.models)
    model = _blocking(calls.model)
    report = _blocking(calls.report)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, call: ApiCall[T]) -> T:
        steps = exchange(call, self._retry)
        pause = next(steps)
        try:
            while True:
                time.sleep(pause)
                pause = steps.send(self._attempt(call))
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _attempt(self, call: ApiCall[Any]) -> Outcome:
        try:
            response: httpx.Response = self._http.request(**_request(call))
            return response
        except httpx.TransportError as error:
            return error


class AsyncClient(_Connected):
    """Asynchronous client: the same calls, arguments and errors as ``Client``, to be awaited."""

    _http_client = httpx.AsyncClient

    predict = _awaitable(calls.predict)
    predict_batch = _awaitable(calls.predict_batch)
    predict_lesion = _awaitable(calls.predict_lesion)
    compare = _awaitable(calls.compare)
    health = _awaitable(calls.health)
    models = _awaitable(calls.models)
    model = _awaitable(calls.model)
    report = _awaitable(calls.report)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _run(self, call: ApiCall[T]) -> T:
        steps = exchange(call, self._retry)
        pause = next(steps)
        try:
            while True:
                await anyio.sleep(pause)
                pause = steps.send(await self._attempt(call))
        except StopIteration as end:
            answer: T = end.value
            return answer

    async def _attempt(self, call: ApiCall[Any]) -> Outcome:
        try:
            response: httpx.Response = await self._http.request(**_request(call))
            return response
        except httpx.TransportError as error:
            return error
