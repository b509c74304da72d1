"""The CUDA kernels as work of a simulated device's stream: the same numbers as launched by themselves."""

import numpy as np
from arrays import DTYPES, close, random, wide

from kernels import reference
from service.execution.gpu.runtime import Array
from service.execution.gpu.simulated.runtime import SimulatedRuntime


def put(runtime: SimulatedRuntime, values: np.ndarray) -> Array:
    array, stream, memory = runtime.empty(values.shape, values.dtype), runtime.stream(), runtime.pinned(values.nbytes)
    memory[:] = values.reshape(-1).view(np.uint8)
    stream.copy(memory, array)
    stream.record().wait()
    return array


def test_kernels_and_products_run_in_the_order_of_their_stream() -> None:
    runtime = SimulatedRuntime(simulate_kernels=True)
    x, weight, matrix = random("bfloat16", 3, 32), random("bfloat16", 32, seed=1), random("bfloat16", 16, 32, seed=2)
    with runtime.bound():
        stream = runtime.stream()
        ops = runtime.ops(stream, runtime.zeros((1 << 10,), np.float32))
        normed = runtime.empty(x.shape, DTYPES["bfloat16"])
        out, host = runtime.empty((3, 16), np.float32), runtime.pinned(3 * 16 * 4).view(np.float32).reshape(3, 16)
        ops.rms_norm(put(runtime, x), put(runtime, weight), 1e-5, normed)
        ops.linear(normed, put(runtime, matrix), None, out)
        stream.copy(out, host)
        stream.record().wait()
    expected_norm, expected = np.empty((3, 32), np.float32), np.empty((3, 16), np.float32)
    reference.rms_norm(wide(x), wide(weight), 1e-5, expected_norm)
    reference.linear(expected_norm, wide(matrix), None, expected)
    close(host, expected, "bfloat16", factor=8)
