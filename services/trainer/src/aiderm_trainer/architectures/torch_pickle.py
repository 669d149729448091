"""Reads PyTorch state files in the format from before version 1.6, without PyTorch and without running code from a pickle.

The file has five pickled parts: magic number, protocol version, system description, the dictionary of tensors (which refers to
storages by key) and the list of keys. Then it has each storage, as its number of elements and its values.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.config import ConfigError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor:
    """A view into a storage that has not been read yet."""

    def __init__(self, storage: tuple[str, np.dtype[Any]], offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.key, self.dtype = storage
        self.offset, self.size, self.stride = offset, size, stride

    def of(self, storage: NDArray[Any]) -> NDArray[Any]:
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if self.offset < 0 or any(s < 0 for s in self.stride) or last >= len(storage):
            raise ConfigError(f"a tensor of shape {self.size} does not fit its storage of {len(storage)} elements")
        strides = tuple(s * self.dtype.itemsize for s in self.stride)
        return np.array(np.lib.stride_tricks.as_strided(storage[self.offset :], self.size, strides))


def _rebuild(storage: tuple[str, np.dtype[Any]], offset: int, size: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(size), tuple(stride))


class _Restricted(pickle.Unpickler):
    """Unpickles only the names that a dictionary of tensors needs, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"a state file may name tensors only. Received: {module}.{name}")

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype[Any]]:
        kind, dtype, key, _, _, view = pid
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"a tensor's values must be a plain storage. Received: {pid!r}")
        return str(key), dtype


def read_state(path: Path) -> dict[str, NDArray[Any]]:
    """Reads tensors by name.

    Raises:
        ConfigError: the file is not such a state file, is truncated, or names anything but tensors.
    """
    try:
        with path.open("rb") as file:
            if _Restricted(file).load() != MAGIC or _Restricted(file).load() != PROTOCOL:
                raise ConfigError(f"{path.name} is no PyTorch state file of protocol {PROTOCOL}")
            system = _Restricted(file).load()
            if not system.get("little_endian"):
                raise ConfigError(f"{path.name} must be little-endian. Received: {system!r}")
            tensors = _Restricted(file).load()
            keys = _Restricted(file).load()
            dtypes = {tensor.key: tensor.dtype for tensor in tensors.values()}
            storages = {key: _storage(file, dtypes[key]) for key in keys}
            return {name: tensor.of(storages[tensor.key]) for name, tensor in tensors.items()}
    except (OSError, pickle.UnpicklingError, EOFError, struct.error, KeyError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"cannot read {path.name} as a PyTorch state file: {error}") from error


def _storage(file: BinaryIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    (count,) = struct.unpack("<q", file.read(8))
    values = file.read(count * dtype.itemsize) if count >= 0 else b""
    if count < 0 or len(values) != count * dtype.itemsize:
        raise ConfigError(f"a storage of {count} elements is cut short")
    return np.frombuffer(values, dtype)
