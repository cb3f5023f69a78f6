// Arrays of a thread with indices known only when it runs, and pointers whose space is known only when it runs.

extern "C" __global__ void local_sort(const int *x, int *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v[16];
    for (int k = 0; k < 16; ++k) v[(k * 5 + i) % 16] = x[i * 16 + k];
    for (int k = 1; k < 16; ++k) {
        int key = v[k], j = k - 1;
        while (j >= 0 && v[j] > key) {
            v[j + 1] = v[j];
            --j;
        }
        v[j + 1] = key;
    }
    for (int k = 0; k < 16; ++k) y[i * 16 + k] = v[k];
}

__noinline__ __device__ int sum4(const int *p) { return p[0] + p[1] + p[2] + p[3]; }

__constant__ int in_constant[4] = {100, 200, 300, 400};

extern "C" __global__ void generic_pointers(const int *global, int *out) {
    __shared__ int shared[4];
    int local[4];
    int t = threadIdx.x;
    if (t < 4) shared[t] = 10 * t;
    for (int k = 0; k < 4; ++k) local[(k + t) & 3] = t + k;
    __syncthreads();
    const int *p;
    switch (t & 3) {
    case 0: p = global; break;
    case 1: p = shared; break;
    case 2: p = local; break;
    default: p = in_constant; break;
    }
    int where = (__isGlobal(p) ? 1 : 0) + (__isShared(p) ? 2 : 0) + (__isLocal(p) ? 4 : 0);
    out[t] = sum4(p) * 8 + where;
}

extern "C" __global__ void bytes_and_shorts(const signed char *a, const unsigned short *b, short *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    short scratch[4];
    for (int k = 0; k < 4; ++k) scratch[(k + a[i]) & 3] = (short)(a[i] * (k + 1) + b[i]);
    out[i] = (short)(scratch[0] - scratch[b[i] & 3]);
}
