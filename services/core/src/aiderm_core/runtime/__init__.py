"""Runs a bundle's graph through one protocol with two engines."""

from aiderm_core.runtime.protocol import (
    HINTS,
    OPTIONAL_OUTPUTS,
    OUTPUTS,
    PRECISIONS,
    Hint,
    Outputs,
    Precision,
    Runtime,
    RuntimeFailure,
    check_batch,
    import_engine,
    load_runtime,
)

__all__ = [
    "HINTS",
    "OPTIONAL_OUTPUTS",
    "OUTPUTS",
    "PRECISIONS",
    "Hint",
    "Outputs",
    "Precision",
    "Runtime",
    "RuntimeFailure",
    "check_batch",
    "import_engine",
    "load_runtime",
]
