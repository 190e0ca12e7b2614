"""2^x, log2, sine and cosine in float32 as plain arithmetic, for attention and rotary embedding kernels.

TVM would lower these to calls into the C math library, one per element: slow, and a symbol that a just-in-time loader must
find. Everything here vectorises and calls nothing.
"""

from __future__ import annotations

import math
from typing import Any

from local_runtime.tvm_compat import tirx

__all__ = ["cos_f32", "exp2_f32", "log2_f32", "sin_f32"]

# Adding 1.5 · 2^23 (2^52) rounds a float32 (float64) to the nearest integer, which then stands in the low bits of the sum.
_ROUND_F32 = 1.5 * 2.0**23
_ROUND_F64 = 1.5 * 2.0**52
# 2^r for |r| ≤ 1/2, fitted for the least largest relative error (2e-9), the constant held at 1.
_TWO_TO_R = (
    1.0,
    0.6931471824645996,
    0.24022647738456726,
    0.055503323674201965,
    0.00961843691766262,
    0.0013398875016719103,
    0.00015353361959569156,
)
_SQRT_HALF_BITS = 0x3F3504F3


def _const(value: float, dtype: str = "float32") -> Any:
    return tirx.const(value, dtype)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    value = _const(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + _const(coefficient)
    return value


def exp2_f32(x: Any) -> Any:
    """Return an expression for 2 to the power of ``x``, for arguments that are not large.

    Args:
        x: A float32 scalar expression below 127, evaluated once; usable inside ``T.vectorized`` loops.

    Returns:
        A float32 expression with a relative error below 2e-7 for x > -126.5, exactly 0 below; NaN stays NaN.
    """
    clamped, rounded = tirx.Var("exp2_x", "float32"), tirx.Var("exp2_t", "float32")
    power = _polynomial(_TWO_TO_R, clamped - (rounded - _const(_ROUND_F32)))
    # The clamp at -127 makes the exponent field zero, so that the product is an exact zero. The constant comes first,
    # because max(a, b) gives b when either is NaN.
    exponent = (tirx.reinterpret("int32", rounded) + tirx.const(127, "int32")) << tirx.const(23, "int32")
    value = power * tirx.reinterpret("float32", exponent)
    with_rounded = tirx.Let(rounded, clamped + _const(_ROUND_F32), value)
    return tirx.Let(clamped, tirx.max(_const(-127.0), x), with_rounded)


def log2_f32(x: Any) -> Any:
    """Return an expression for the binary logarithm of a positive, normal float32, with an error below 4e-7 · max(1, |log2 x|).

    ``x = 2^e · m`` with m between √½ and √2, and log2 m = 2/ln 2 · artanh((m - 1) / (m + 1)) as its power series.
    """
    bits, s = tirx.Var("log2_bits", "int32"), tirx.Var("log2_s", "float32")
    sqrt_half = tirx.const(_SQRT_HALF_BITS, "int32")
    exponent = (bits - sqrt_half) >> tirx.const(23, "int32")
    mantissa = tirx.reinterpret("float32", bits - (exponent << tirx.const(23, "int32")))
    series = _polynomial(tuple(2.0 / math.log(2.0) / n for n in (1, 3, 5, 7, 9)), s * s) * s
    value = series + tirx.Cast("float32", exponent)
    with_s = tirx.Let(s, (mantissa - _const(1.0)) / (mantissa + _const(1.0)), value)
    return tirx.Let(bits, tirx.reinterpret("int32", x), with_s)


def _reduced(x: Any, shift: int) -> tuple[Any, Any, Any]:
    """Split ``x`` = quadrant · π/2 + r with |r| ≤ π/4; the quadrant is counted from ``shift``.

    In float64, in which 2^24 quadrants leave an error of 2e-9: below float32's own for any context length.
    """
    wide, turns = tirx.Var("turn_x", "float64"), tirx.Var("turn_k", "float64")
    r = tirx.Cast("float32", wide - (turns - _const(_ROUND_F64, "float64")) * _const(math.pi / 2, "float64"))
    quadrant = tirx.Cast("int32", turns - _const(_ROUND_F64, "float64")) + tirx.const(shift, "int32")

    def bind(value: Any) -> Any:
        rounded = wide * _const(2 / math.pi, "float64") + _const(_ROUND_F64, "float64")
        return tirx.Let(wide, tirx.Cast("float64", x), tirx.Let(turns, rounded, value))

    return r, quadrant, bind


def _circular(x: Any, shift: int) -> Any:
    reduced, quadrant_value, bind = _reduced(x, shift)
    r, quadrant = tirx.Var("turn_r", "float32"), tirx.Var("turn_q", "int32")
    # Taylor series; the first omitted terms are 2e-9 (sine) and 1e-9 (cosine) at π/4.
    sine = _polynomial(tuple((-1.0) ** n / math.factorial(2 * n + 1) for n in range(5)), r * r) * r
    cosine = _polynomial(tuple((-1.0) ** n / math.factorial(2 * n) for n in range(6)), r * r)
    one, two = tirx.const(1, "int32"), tirx.const(2, "int32")
    magnitude = tirx.Select((quadrant & one) == one, cosine, sine)
    value = tirx.Select((quadrant & two) == two, -magnitude, magnitude)
    return bind(tirx.Let(r, reduced, tirx.Let(quadrant, quadrant_value, value)))


def sin_f32(x: Any) -> Any:
    """Return an expression for the sine of a float32 angle in radians, |x| < 2^24, with an error below 2e-7."""
    return _circular(x, 0)


def cos_f32(x: Any) -> Any:
    """Return an expression for the cosine of a float32 angle in radians, |x| < 2^24, with an error below 2e-7."""
    return _circular(x, 1)
