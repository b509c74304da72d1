"""The instructions that Numba has no name for, as they are on the device or in the simulator."""

from kernels.cuda.kernel import SIMULATED

if SIMULATED:
    from kernels.cuda.simulated import words as instructions
else:
    from kernels.cuda import device_words as instructions  # type: ignore[no-redef]

bf16_high = instructions.bf16_high
bf16_low = instructions.bf16_low
copy_16_async = instructions.copy_16_async
divide = instructions.divide
exp2 = instructions.exp2
f16_high = instructions.f16_high
f16_low = instructions.f16_low
float_of = instructions.float_of
inverse_root = instructions.inverse_root
load_16 = instructions.load_16
load_16_constant = instructions.load_16_constant
load_matrices = instructions.load_matrices
load_matrices_transposed = instructions.load_matrices_transposed
multiply_bf16 = instructions.multiply_bf16
multiply_f16 = instructions.multiply_f16
pack_bf16 = instructions.pack_bf16
pack_f16 = instructions.pack_f16
store_16 = instructions.store_16
wait_for_copies = instructions.wait_for_copies
word_of = instructions.word_of
