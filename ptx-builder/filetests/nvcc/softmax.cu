// Softmax of each row: one block per row, maxima and sums by butterfly shuffles and shared memory.

#include <math_constants.h>

extern "C" __global__ void softmax_rows(const float *x, float *y, int cols) {
    __shared__ float s[32];
    const float *row = x + (size_t)blockIdx.x * cols;
    float *out = y + (size_t)blockIdx.x * cols;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;

    float m = -CUDART_INF_F;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) m = fmaxf(m, row[i]);
    for (int d = 16; d; d >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, d));
    if (lane == 0) s[warp] = m;
    __syncthreads();
    m = lane < warps ? s[lane] : -CUDART_INF_F;
    for (int d = 16; d; d >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, d));
    __syncthreads();

    float sum = 0.0f;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) {
        float e = expf(row[i] - m);
        out[i] = e;
        sum += e;
    }
    for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
    if (lane == 0) s[warp] = sum;
    __syncthreads();
    sum = lane < warps ? s[lane] : 0.0f;
    for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
    for (int i = threadIdx.x; i < cols; i += blockDim.x) out[i] /= sum;
}

// The mathematical library's functions, with their slow paths, and the fast intrinsics.
extern "C" __global__ void math_functions(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    y[i] = sinf(v) + cosf(v);
    y[n + i] = expf(v);
    y[2 * n + i] = logf(fabsf(v) + 1.0f);
    y[3 * n + i] = tanhf(v);
    y[4 * n + i] = powf(fabsf(v), 1.5f);
    y[5 * n + i] = rsqrtf(fabsf(v) + 0.5f);
    y[6 * n + i] = sqrtf(fabsf(v)) / (v * v + 1.0f);
    y[7 * n + i] = erff(v);
    y[8 * n + i] = __expf(v);
    y[9 * n + i] = __fdividef(v, 3.0f);
    y[10 * n + i] = fmodf(v, 0.75f);
}

extern "C" __global__ void math_double(const double *x, double *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double v = x[i];
    y[i] = exp(v);
    y[n + i] = log(fabs(v) + 1.0);
    y[2 * n + i] = sin(v);
    y[3 * n + i] = sqrt(fabs(v));
    y[4 * n + i] = 1.0 / (v * v + 1.0);
    y[5 * n + i] = rint(v) + floor(v) + ceil(v) + trunc(v);
}
