"""Keeps the start-up messages of TensorFlow, CUDA and other libraries off the terminal.

"failed call to cuInit: UNKNOWN ERROR" means only that there is no GPU, but reads like a failure.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Final

_SETTINGS: Final = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's C++ core: nothing below a fatal error
    "ABSL_MIN_LOG_LEVEL": "3",
    "GLOG_minloglevel": "3",
    "GRPC_VERBOSITY": "NONE",
}
_LOGGERS: Final = ("absl", "tensorflow", "nncf", "openvino")


def silence_libraries() -> None:
    """Sets what the libraries read when they are imported; a variable that the user has set stays."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category)
