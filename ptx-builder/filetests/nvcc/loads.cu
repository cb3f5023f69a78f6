// Loads and stores with cache operators, volatile accesses, vectors of every width.

extern "C" __global__ void cached(const float *a, const float *b, float *out, float *hot, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float x = __ldg(&a[i]) + __ldcs(&b[i]) + __ldca(&a[n - 1 - i]) + __ldcv(&b[n - 1 - i]) + __ldlu(&a[i]);
    __stcs(&out[i], x);
    __stwt(&hot[i], x * 0.5f);
    __stcg(&hot[n + i], x * 0.25f);
}

extern "C" __global__ void vectors(const uchar4 *a, const short2 *b, const double2 *c, const longlong2 *d, int4 *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    uchar4 x = a[i];
    short2 y = __ldg(&b[i]);
    double2 z = c[i];
    longlong2 w = __ldcg(&d[i]);
    out[i] = make_int4(x.x + x.y + x.z + x.w, y.x * y.y, (int)(z.x + z.y), (int)(w.x ^ w.y));
}

extern "C" __global__ void flags(volatile int *flag, volatile int *data, int *out) {
    // The first block hands a value to the second.
    if (blockIdx.x == 0) {
        if (threadIdx.x == 0) {
            *data = 42;
            __threadfence();
            *flag = 1;
        }
    } else if (threadIdx.x == 0) {
        while (*flag == 0) {
        }
        __threadfence();
        out[0] = *data;
    }
}
