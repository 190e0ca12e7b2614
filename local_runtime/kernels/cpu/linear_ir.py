"""What the CPU kernel generators share: opening a PrimFunc, vector loads and stores, register arrays.

The kernels are built with TVM's IR builder rather than parsed from TVMScript, because their bodies depend on Python
values (weight format, optional arguments, how many vectors fit the registers). Vectors are written out as ``Ramp``
loads and stores of constant width, so that what LLVM gets is already vector code on every target.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_runtime.tvm_compat import T, tirx, tvm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Lanes",
    "RegisterArray",
    "bind",
    "broadcast",
    "emit_rows",
    "f32",
    "finish",
    "i64",
    "load",
    "named",
    "open_function",
    "scratch",
    "store",
    "symbolic",
    "tensor_arg",
]


@dataclass(frozen=True)
class Lanes:
    """The shape of the target's vector unit.

    Attributes:
        width: float32 lanes of one vector register: 4 (SSE, NEON), 8 (AVX2) or 16 (AVX-512).
        registers: How many vector registers there are: 16, or 32 with AVX-512 and NEON.
    """

    width: int = 8
    registers: int = 16

    def __post_init__(self) -> None:
        if self.width not in (4, 8, 16):
            raise ValueError(f"vector lanes must be 4, 8 or 16, not {self.width}")

    @staticmethod
    def of_target(target: Any) -> Lanes:
        """Return what an LLVM target has, by its features: ``llvm_get_vector_width`` says 512 bits of every x86."""
        has = tvm.target.codegen.target_has_features
        if has("avx512f", target):
            return Lanes(16, 32)
        if has("avx", target):
            return Lanes(8, 16)
        return Lanes(4, 32 if has("neon", target) else 16)


def i64(value: int) -> Any:
    """Return an int64 constant, the type of every index here."""
    return tirx.const(value, "int64")


def f32(value: float) -> Any:
    """Return a float32 constant."""
    return tirx.const(value, "float32")


def broadcast(value: Any, lanes: int) -> Any:
    """Return a vector with ``value`` in each of its lanes."""
    return tirx.Broadcast(value, lanes)


def load(buffer: Any, *indices: Any, lanes: int = 1) -> Any:
    """Load ``lanes`` neighbours along the last dimension, starting at ``indices``."""
    *outer, last = indices
    if lanes > 1:
        last = tirx.Ramp(last, i64(1), lanes)
    return tirx.BufferLoad(buffer, [*outer, last])


def store(buffer: Any, value: Any, *indices: Any, lanes: int = 1) -> None:
    """Store ``lanes`` neighbours along the last dimension, starting at ``indices``."""
    *outer, last = indices
    if lanes > 1:
        last = tirx.Ramp(last, i64(1), lanes)
    T.buffer_store(buffer, value, [*outer, last])


def named(name: str, value: Any) -> Any:
    """Give a variable or buffer its name in the printed program and in error messages."""
    return tvm.script.ir_builder.IRBuilder.name(name, value)


def bind(name: str, value: Any) -> Any:
    """Compute ``value`` once, here, and return the variable that holds it."""
    return named(name, T.bind(value))


def scratch(name: str, shape: tuple[int, ...], dtype: str = "float32") -> Any:
    """Allocate a work buffer: on the stack up to 1 KiB, above that from the thread's workspace pool."""
    return named(name, T.alloc_buffer(shape, dtype))


class RegisterArray:
    """A stack array that is only ever touched at constant places, so that LLVM keeps it in registers.

    Args:
        name: Its name in the printed program.
        count: How many vectors it holds.
        lanes: float32 lanes of each.
    """

    def __init__(self, name: str, count: int, lanes: int) -> None:
        self._buffer = scratch(name, (count * lanes,))
        self._count = count
        self._lanes = lanes

    def __getitem__(self, index: int) -> Any:
        return load(self._buffer, i64(index * self._lanes), lanes=self._lanes)

    def __setitem__(self, index: int, value: Any) -> None:
        store(self._buffer, value, i64(index * self._lanes), lanes=self._lanes)

    def clear(self) -> None:
        """Set every vector to zero."""
        for index in range(self._count):
            self[index] = broadcast(f32(0.0), self._lanes)


@contextmanager
def open_function(name: str) -> Iterator[Any]:
    """Open a PrimFunc that goes to the compiler as it is; read it with ``finish`` after the block.

    ``tirx.is_scheduled`` keeps default schedules away, the opaque operator pattern (8) keeps relax from fusing it.
    """
    builder = tvm.script.ir_builder.IRBuilder()
    with builder, tvm.script.ir_builder.tirx.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})
        yield builder


def finish(builder: Any) -> Any:
    """Return the PrimFunc that ``builder`` has built."""
    return builder.get()


def symbolic(name: str) -> Any:
    """Return an int64 variable for a dimension that is known only at run time."""
    return named(name, T.int64())


def tensor_arg(name: str, shape: tuple[Any, ...], dtype: str = "float32") -> Any:
    """Declare the next parameter of the open function, a compact tensor, and return its buffer."""
    return named(name, T.match_buffer(T.arg(name, T.handle()), shape, dtype))


def emit_rows(m: Any, emit_row: Callable[[Any], None], *, parallel_from: int) -> None:
    """Run ``emit_row(row)`` over ``m`` rows, in parallel from ``parallel_from`` on: below, waking threads is dear."""
    with T.If(m < i64(parallel_from)):
        with T.Then(), T.serial(i64(0), m) as row:
            emit_row(row)
        with T.Else(), T.parallel(i64(0), m) as row:
            emit_row(row)
