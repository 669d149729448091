"""Keeps the start-up messages of TensorFlow, CUDA and other libraries off the terminal.

"failed call to cuInit: UNKNOWN ERROR" means only that there is no GPU, but reads like a failure.
"""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SETTINGS: Final = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's C++ core: nothing below a fatal error
    "ABSL_MIN_LOG_LEVEL": "3",
    "GLOG_minloglevel": "3",
    "GRPC_VERBOSITY": "NONE",
}
_LOGGERS: Final = ("absl", "tensorflow", "nncf", "openvino")


def silence_libraries() -> None:
    """Silences the libraries before they are imported; environment variables that the user has set are kept."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category)


@contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Hides what native code writes to the process's standard error; what Python writes there still appears.

    TensorFlow writes its first messages before it reads any setting. A crash of native code is still reported, by faulthandler.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    python_stderr = sys.stderr
    with open(os.devnull, "wb") as nowhere, open(terminal, "w", buffering=1, encoding=python_stderr.encoding) as stderr:  # noqa: PTH123
        if _is_process_stderr(python_stderr):
            sys.stderr = stderr
        faulthandler.enable(stderr)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            stderr.flush()
            os.dup2(terminal, 2)
            faulthandler.disable()
            sys.stderr = python_stderr


def _is_process_stderr(stream: object) -> bool:
    """Whether a stream writes to the process's standard error, not to a test's buffer."""
    try:
        return isinstance(stream, io.TextIOBase) and stream.fileno() == 2
    except (OSError, ValueError):
        return False
