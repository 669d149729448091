"""Failures of model look-up and of the queue. Their texts are written for clients."""

from __future__ import annotations


class ServingError(Exception):
    """Base class of these failures.

    Args:
        text: what was received and what is allowed.
        retry_after: seconds after which another attempt makes sense.
    """

    def __init__(self, text: str, *, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class OverloadedError(ServingError):
    """There is no room for another image now."""


class DeadlineExceededError(ServingError):
    """The image was not answered in time."""


class AbandonedError(ServingError):
    """Nobody waits for the answer any more."""


class UnknownModelError(ServingError):
    """No model of that name is known."""


class ModelUnavailableError(ServingError):
    """The model is known, but is not being served at present."""


class OptionNotOfferedError(ServingError):
    """The model does not offer what the request asks for."""


class AssessmentFailedError(ServingError):
    """The service itself failed; the cause is in its log."""
