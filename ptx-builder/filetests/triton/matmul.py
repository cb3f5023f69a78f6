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


# The same of matrices that lie with their depth outermost.
@triton.jit
def matmul_deep(a, b, c, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    depth = tl.arange(0, K)
    sums = tl.zeros((M, N), dtype=c.dtype.element_ty)
    for start in range(0, k, K):
        left = tl.load(a + (start + depth[None, :]) * m + rows[:, None])
        right = tl.load(b + (start + depth[:, None]) * n + columns[None, :])
        sums = tl.dot(left, right, sums)
    tl.store(c + rows[:, None] * n + columns[None, :], sums)


# The same of a first matrix that is converted on its way, and so comes from registers.
@triton.jit
def matmul_converted(a, b, c, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    depth = tl.arange(0, K)
    sums = tl.zeros((M, N), dtype=c.dtype.element_ty)
    for start in range(0, k, K):
        left = tl.load(a + rows[:, None] * k + start + depth[None, :]).to(b.dtype.element_ty)
        right = tl.load(b + columns[None, :] * k + start + depth[:, None])
        sums = tl.dot(left, right, sums)
    tl.store(c + rows[:, None] * n + columns[None, :], sums)
