// Conversions to and from bfloat16, alone and in pairs.

#include <cuda_bf16.h>

extern "C" __global__ void to_bf16(const float *x, __nv_bfloat16 *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = __float2bfloat16(x[i]);
}

extern "C" __global__ void from_bf16(const __nv_bfloat16 *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = __bfloat162float(x[i]);
}

extern "C" __global__ void pairs_bf16(const float2 *x, const float2 *y, __nv_bfloat162 *z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        __nv_bfloat162 a = __float22bfloat162_rn(x[i]);
        __nv_bfloat162 b = __float22bfloat162_rn(y[i]);
        z[3 * i] = a;
        z[3 * i + 1] = __hfma2(a, b, a);
        z[3 * i + 2] = __hmax2(a, b);
    }
}

extern "C" __global__ void truncate_bf16(const float *x, __nv_bfloat16 *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = __float2bfloat16_rz(x[i]);
}
