# Products of matrices on tensor cores, the second one transposed.

import triton
import triton.language as tl


@triton.jit
def matmul(a, b, c, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    depth = tl.arange(0, K)
    accumulator: tl.constexpr = c.dtype.element_ty
    sums = tl.zeros((M, N), dtype=accumulator)
    for start in range(0, k, K):
        left = tl.load(a + rows[:, None] * k + start + depth[None, :])
        right = tl.load(b + columns[None, :] * k + start + depth[:, None])
        sums = tl.dot(left, right, sums, out_dtype=accumulator)
    tl.store(c + rows[:, None] * n + columns[None, :], sums)
