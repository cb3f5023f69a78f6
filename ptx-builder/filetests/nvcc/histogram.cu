// Counts of byte values: with global atomics, and with a histogram per block in shared memory.

extern "C" __global__ void histogram_global(const unsigned char *data, unsigned *bins, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        atomicAdd(&bins[data[i]], 1u);
    }
}

extern "C" __global__ void histogram_shared(const uchar4 *data, unsigned *bins, int n4) {
    __shared__ unsigned local[256];
    for (int b = threadIdx.x; b < 256; b += blockDim.x) {
        local[b] = 0;
    }
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n4; i += gridDim.x * blockDim.x) {
        uchar4 v = data[i];
        atomicAdd(&local[v.x], 1u);
        atomicAdd(&local[v.y], 1u);
        atomicAdd(&local[v.z], 1u);
        atomicAdd(&local[v.w], 1u);
    }
    __syncthreads();
    for (int b = threadIdx.x; b < 256; b += blockDim.x) {
        atomicAdd(&bins[b], local[b]);
    }
}

// Every other atomic that the language offers, on single words that all threads hit.
extern "C" __global__ void atomics(const int *x, int *words, unsigned long long *longs, double *sum) {
    int v = x[blockIdx.x * blockDim.x + threadIdx.x];
    atomicMin(&words[0], v);
    atomicMax(&words[1], v);
    atomicAnd(&words[2], v);
    atomicOr(&words[3], v);
    atomicXor(&words[4], v);
    atomicSub(&words[5], v);
    // A plain load would race with the exchanges of others.
    int seen = *(volatile int *)&words[6], assumed;
    do {
        assumed = seen;
        seen = atomicCAS(&words[6], assumed, assumed * 1 + (v & 3));
    } while (seen != assumed);
    atomicAdd(&longs[0], (unsigned long long)v);
    atomicMax(&longs[1], (unsigned long long)(v & 0xffff) << 32);
    atomicAdd(sum, (double)v);
}
