"""Sines and cosines on a CUDA device, whose fast instruction is exact within one turn only.

TVM has all of its CUDA code compiled with ``--use_fast_math``, which takes that instruction for float32: it errs by half a unit in the
last place of the angle in turns. At position 100 of a sequence that is 6e-6 of a radian, which a model's layers multiply.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from local_runtime.tvm_compat import tirx

__all__ = ["TURNS_PER_RADIAN", "TURN_PARTS", "keep_angles_exact"]

TURNS_PER_RADIAN = 0.15915494309189535

TURN_PARTS = (6.28125, 0.0019353071795864769)
"""A turn in radians: its first 8 bits, so that up to 65,536 of them are exact in float32, and the rest (Cody and Waite, 1980)."""

_FUNCTIONS = ("sin", "cos")
_ABOVE_TVMS_OWN = 99


@cache
def keep_angles_exact() -> None:
    """Have code for CUDA take whole turns off a float32 angle before its sine or cosine."""
    for name in _FUNCTIONS:
        tirx.register_intrin_lowering(f"tirx.{name}", target="cuda", f=_lowering(name), level=_ABOVE_TVMS_OWN)


def _lowering(name: str) -> Any:
    def lower(call: Any) -> Any:
        (angle,), dtype = call.args, str(call.ty.dtype)
        if not dtype.startswith("float32"):  # of one value, or of several at once
            return tirx.call_pure_extern(dtype, name, angle)
        turns = tirx.floor(angle * tirx.const(TURNS_PER_RADIAN, dtype) + tirx.const(0.5, dtype))
        high, low = (tirx.const(part, dtype) for part in TURN_PARTS)
        rest = angle - turns * high - turns * low
        return tirx.call_pure_extern(dtype, f"{name}f", rest)

    return lower
