"""exp(x) in float32 as plain arithmetic, because LLVM has no vector exp without a vector math library.

``exp(x) = 2^n · e^r`` with ``n = round(x / ln 2)`` and ``|r| ≤ ln 2 / 2``: range reduction after Cody and Waite
("Software Manual for the Elementary Functions", 1980), with ln 2 split in two constants; ``e^r`` is a polynomial of
degree 6; ``2^n`` is written straight into the exponent bits.
"""

from __future__ import annotations

from typing import Any

from local_runtime.tvm_compat import tirx

__all__ = ["exp_f32"]

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693359375  # nine significant bits: n · high is exact for every n in range
_LN2_LOW = -2.12194440054690583e-4
# Adding 1.5 · 2^23 rounds to the nearest integer and leaves that integer in the low bits of the sum.
_ROUND_MAGIC = 12582912.0
_EXPONENT_ONE = 0x3F800000
_SMALLEST_NORMAL_LOG = -87.33654
# Fitted for the least largest relative error on |r| ≤ ln 2 / 2 (3e-9), the first two held at 1.
_E_TO_R = (1.0, 1.0, 0.49999994, 0.1666652, 0.0416684, 0.008368851, 0.001381432)


def exp_f32(x: Any) -> Any:
    """Return an expression for e to the power of ``x``, also inside ``T.vectorized`` loops.

    Args:
        x: A float32 expression, scalar or vector (``float32x8``). It is evaluated once.

    Returns:
        An expression of the same type with a relative error below 2e-7 for -87.33 < x < 88.37. Below (minus infinity
        included) it is exactly 0 instead of a subnormal number; above it stays within 1e-5 up to the largest float32
        and is then infinity; NaN stays NaN.
    """
    float_type = str(x.ty.dtype)
    int_type = float_type.replace("float", "int")

    def const(value: float) -> Any:
        return tirx.const(value, float_type)

    v = tirx.Var("exp_x", float_type)
    rounded = tirx.Var("exp_t", float_type)
    r = tirx.Var("exp_r", float_type)
    # Only n is clamped. r takes what the clamp left over: overflow and NaN come out of the polynomial by themselves.
    clamped = tirx.max(tirx.min(v * const(_LOG2_E), const(127.0)), const(-126.0))
    n = rounded - const(_ROUND_MAGIC)
    polynomial = const(_E_TO_R[-1])
    for coefficient in reversed(_E_TO_R[:-1]):
        polynomial = polynomial * r + const(coefficient)
    exponent_bits = tirx.reinterpret(int_type, rounded) << tirx.const(23, int_type)
    power_of_two = tirx.reinterpret(float_type, exponent_bits + tirx.const(_EXPONENT_ONE, int_type))
    value = tirx.Select(v < const(_SMALLEST_NORMAL_LOG), const(0.0), polynomial * power_of_two)
    with_r = tirx.Let(r, v - n * const(_LN2_HIGH) - n * const(_LN2_LOW), value)
    return tirx.Let(v, x, tirx.Let(rounded, clamped + const(_ROUND_MAGIC), with_r))
