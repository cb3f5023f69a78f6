// Arithmetic on halves and pairs of halves.

#include <cuda_fp16.h>

extern "C" __global__ void half2_axpy(__half2 a, const __half2 *x, __half2 *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = __hfma2(a, x[i], y[i]);
}

extern "C" __global__ void half_table(const __half *x, const __half *y, __half *z, unsigned *compare, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    __half a = x[i], b = y[i];
    z[i] = __hadd(a, b);
    z[n + i] = __hsub(a, b);
    z[2 * n + i] = __hmul(a, b);
    z[3 * n + i] = __hmin(a, b);
    z[4 * n + i] = __hmax(a, b);
    z[5 * n + i] = __hadd_sat(a, b);
    z[6 * n + i] = __habs(__hneg(a));
    z[7 * n + i] = __float2half_rz(__half2float(a) * 1.0009765f);
    z[8 * n + i] = __int2half_rn(__half2int_rn(b));
    z[9 * n + i] = hfloor(a);
    compare[i] = (__hlt(a, b) ? 1u : 0u) | (__heq(a, b) ? 2u : 0u) | (__hgtu(a, b) ? 4u : 0u) | (__hisnan(a) ? 8u : 0u);
}
