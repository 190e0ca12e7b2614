"""TVM's runtime without its compiler, and on a CPU without TVM's Python package: what the worker imports to run a model.

The runtime is a C++ library of 3 MiB behind ``tvm_ffi``; loading just these two takes about 0.1 s, ``import tvm`` 0.5 s, and with its
compiler 1.2 s and 190 MiB. A process that has imported TVM already (a test, the in-process mode) simply goes on with it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from local_runtime.errors import TargetError

__all__ = ["Device", "load_objects", "set_threads", "shape_of"]

_ALIGNMENT = 64
"""Bytes to which kernels expect every tensor to be aligned (TVM's ``kAllocAlignment``); NumPy promises 16."""

_POOLED_ALLOCATOR = 2
_DLPACK_CPU, _DLPACK_CUDA, _DLPACK_METAL = 1, 2, 8  # DLDeviceType
_DLPACK_KINDS = {"cpu": _DLPACK_CPU, "cuda": _DLPACK_CUDA, "metal": _DLPACK_METAL}
_LIBRARY_NAMES = {"linux": "lib{}.so", "darwin": "lib{}.dylib", "win32": "{}.dll"}


def _load_library(name: str) -> None:
    package = importlib.util.find_spec("tvm")
    if package is None or not package.submodule_search_locations:
        raise TargetError("Apache TVM is not installed.", "Install hybridllm again: pip install hybridllm.")
    folder = Path(next(iter(package.submodule_search_locations))) / "lib"
    if sys.platform == "win32":
        os.add_dll_directory(str(folder))
    library = folder / _LIBRARY_NAMES.get(sys.platform, "lib{}.so").format(name)
    try:
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise TargetError(f"TVM's library {library.name} cannot be loaded: {error}.", "Use --target cpu.") from error


if "tvm" not in sys.modules:
    _load_library("tvm_runtime")


class Device:
    """A device that tensors live on.

    Args:
        kind: ``cpu``, ``cuda`` or ``metal``.
        index: Which of several.

    Raises:
        TargetError: This platform's wheel of TVM has no such runtime, or the device doesn't answer.
    """

    def __init__(self, kind: str, index: int) -> None:
        self.kind, self.index, self.type_code = kind, index, _DLPACK_KINDS[kind]
        self._tvm: Any = None
        if kind == "cpu":
            return
        os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
        import tvm  # copies between host and device go through TVM's own tensors

        _load_library(f"tvm_runtime_{kind}")
        self._tvm, self._handle = tvm, tvm.device(kind, index)
        if not self._handle.exist:
            raise TargetError(f"The device {kind}:{index} does not answer.", "Use --target cpu.")

    def view(self, array: npt.NDArray[Any]) -> Any:
        """A tensor of ``array``'s values here: on a CPU over the array's own memory where that is aligned, else a copy."""
        if self._tvm is not None:
            return self._tvm.runtime.tensor(array, self._handle)
        return tvm_ffi.from_dlpack(array if array.ctypes.data % _ALIGNMENT == 0 else _aligned_copy(array))

    def fetch(self, tensor: Any) -> npt.NDArray[np.float32]:
        """A float32 array of a tensor's values, of its own memory."""
        array = tensor.numpy() if self._tvm is not None else np.from_dlpack(tensor).copy()
        return np.asarray(array, np.float32)

    def to_host(self, tensor: Any) -> npt.NDArray[Any]:
        """A tensor's values: on a CPU a view of its memory, else a copy."""
        values: npt.NDArray[Any] = np.from_dlpack(tensor) if self._tvm is None else tensor.numpy()
        return values

    def read_rows(self, tensor: Any, first: int, count: int) -> npt.NDArray[Any]:
        """Rows along a contiguous tensor's first axis: on a CPU a view of its memory, else a copy."""
        if self._tvm is None:
            return self.to_host(tensor)[first : first + count]
        rows: npt.NDArray[Any] = self._rows(tensor, first, count).numpy()
        return rows

    def write_rows(self, tensor: Any, first: int, values: npt.NDArray[Any]) -> None:
        """Overwrite rows along a contiguous tensor's first axis from ``first`` on."""
        if self._tvm is None:
            self.to_host(tensor)[first : first + len(values)] = values
        else:
            self._rows(tensor, first, len(values)).copyfrom(np.ascontiguousarray(values))

    @staticmethod
    def _rows(tensor: Any, first: int, count: int) -> Any:
        row = tuple(int(size) for size in tensor.shape[1:])
        row_bytes = int(np.prod(row)) * np.dtype(str(tensor.dtype)).itemsize
        return tensor._create_view((count, *row), str(tensor.dtype), first * row_bytes)


def _aligned_copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    memory = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def shape_of(values: list[int]) -> Any:
    """TVM's shape object, the form in which it takes lists of whole numbers."""
    return tvm_ffi.Shape(values)


def set_threads(count: int) -> None:
    """Set how many threads a parallel kernel uses, the caller's among them.

    The pool reads the environment when it starts, at the first parallel kernel; without it TVM takes one worker on two cores, whatever
    ``runtime.config_threadpool`` is told. Each calling thread has a pool of its own; where it runs already, the call can only make
    it smaller.
    """
    # Else TVM ties the first threads of every process to the same first processors, where they wait for each other.
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    os.environ["TVM_NUM_THREADS"] = str(count)
    configure = tvm_ffi.get_global_func("runtime.config_threadpool", allow_missing=True)
    if configure is not None:
        configure(1, count)


def load_objects(paths: list[Path], device: Device) -> Any:
    """Link object files in memory and start TVM's virtual machine on them.

    The just-in-time linker (``tvm_ffi_orcjit``) needs neither a C compiler nor a linker on the machine.

    Args:
        paths: The object files of one artifact.
        device: Where the program runs.

    Returns:
        The virtual machine's module; its functions are items by name.
    """
    import tvm_ffi_orcjit

    module = tvm_ffi_orcjit.default_session().load_module(
        [str(path) for path in paths],
        keep_module_alive=True,
        cxx="/none/c++",  # a command that cannot exist: our objects are C, so no C++ runtime needs to be looked for
    )
    machine = module["vm_load_executable"]()
    devices = [(device.type_code, device.index)]
    if device.type_code != _DLPACK_CPU:
        devices.append((_DLPACK_CPU, 0))  # shapes are computed on the host
    machine["vm_initialization"](*(value for pair in devices for value in (*pair, _POOLED_ALLOCATOR)))
    return machine
