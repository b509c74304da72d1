"""The ops of a simulated device: its streams compute them on its memory, one at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any

from service.execution.gpu.simulated.array import memory_of
from service.execution.gpu.simulated.device import SimulatedDevice
from service.execution.gpu.simulated.stream import SimulatedStream
from service.execution.memory import Kernels


class Submitter:
    """Turns calls into work of a stream. It refuses arrays of the host: see `memory_of`."""

    def __init__(self, device: SimulatedDevice, stream: SimulatedStream) -> None:
        self._device, self._stream = device, stream

    def __call__(self, name: str, op: Callable[..., None], *arguments: Any, **named: Any) -> None:
        """Submit ``op``, to be called with the arguments' memory on the device."""
        values = [memory_of(value) for value in arguments]
        named_values = {key: memory_of(value) for key, value in named.items()}

        def compute() -> None:
            with self._device.computing:
                op(*values, **named_values)

        self._stream.submit(name, 0, compute)


class ModuleOps:
    """The functions of a kernels module, by their names, as work of a stream."""

    def __init__(self, submit: Submitter, kernels: Kernels) -> None:
        self._submit, self._kernels = submit, kernels

    def __getattr__(self, name: str) -> Callable[..., None]:
        return partial(self._submit, name, getattr(self._kernels, name))


def cuda_ops(submit: Submitter, scratch: Any, processors: int) -> Any:
    """Return the CUDA kernels in their simulator. Needs numba-cuda, and ``NUMBA_ENABLE_CUDASIM=1`` from the start."""
    from kernels.cuda.ops import Ops  # noqa: PLC0415
    from kernels.cuda.simulated import simulator  # noqa: PLC0415

    def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any) -> None:
        submit(kernel.name, partial(simulator.launch, kernel, grid), *arguments)

    return Ops(launch, partial(submit, "multiply", simulator.multiply), scratch, processors)
