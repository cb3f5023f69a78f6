// Dot products of bytes: signed, unsigned and of half words.

extern "C" __global__ void dot_bytes(const int *a, const int *b, int *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        out[i] = __dp4a(a[i], b[i], i);
        out[n + i] = (int)__dp4a((unsigned)a[i], (unsigned)b[i], (unsigned)i);
        out[2 * n + i] = __dp2a_lo(a[i], b[i], i);
        out[3 * n + i] = (int)__dp2a_hi((unsigned)a[i], (unsigned)b[i], (unsigned)i);
    }
}

// One row of bytes per warp times a vector of bytes, with a scale.
extern "C" __global__ void matvec_bytes(const int4 *w, const int4 *x, const float *scale, float *y, int words4) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    int acc = 0;
    for (int i = lane; i < words4; i += 32) {
        int4 a = w[row * words4 + i], b = x[i];
        acc = __dp4a(a.x, b.x, acc);
        acc = __dp4a(a.y, b.y, acc);
        acc = __dp4a(a.z, b.z, acc);
        acc = __dp4a(a.w, b.w, acc);
    }
    acc = __reduce_add_sync(0xffffffffu, acc);
    if (lane == 0) y[row] = scale[row] * (float)acc;
}
