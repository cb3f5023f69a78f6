// Sums of an array: shuffles within a warp, shared memory within a block; the last block adds up what the others left.

__inline__ __device__ unsigned warp_sum(unsigned v) {
    for (int offset = 16; offset > 0; offset /= 2) {
        v += __shfl_down_sync(0xffffffffu, v, offset);
    }
    return v;
}

template <typename T> __device__ T block_sum(T v) {
    __shared__ T partial[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    v = warp_sum(v);
    if (lane == 0) {
        partial[warp] = v;
    }
    __syncthreads();
    v = threadIdx.x < blockDim.x / 32 ? partial[lane] : 0;
    return warp == 0 ? warp_sum(v) : v;
}

extern "C" __global__ void sum_blocks(const unsigned *x, unsigned *sums, int n) {
    unsigned v = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        v += x[i];
    }
    v = block_sum(v);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = v;
    }
}

__device__ unsigned blocks_done = 0;

extern "C" __global__ void sum_last_block(const unsigned *x, volatile unsigned *partial, unsigned *total, int n) {
    __shared__ bool is_last;
    unsigned v = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        v += x[i];
    }
    v = block_sum(v);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = v;
        __threadfence();
        unsigned ticket = atomicInc(&blocks_done, gridDim.x - 1);
        is_last = ticket == gridDim.x - 1;
    }
    __syncthreads();
    if (is_last && threadIdx.x == 0) {
        __threadfence();
        unsigned sum = 0;
        for (unsigned b = 0; b < gridDim.x; ++b) {
            sum += partial[b];
        }
        *total = sum;
    }
}

// Halving tree in dynamic shared memory, as the oldest tutorials have it.
extern __shared__ float tree[];

extern "C" __global__ void sum_tree(const float *x, float *sums) {
    unsigned t = threadIdx.x;
    tree[t] = x[blockIdx.x * blockDim.x + t];
    __syncthreads();
    for (unsigned s = blockDim.x / 2; s > 0; s >>= 1) {
        if (t < s) {
            tree[t] += tree[t + s];
        }
        __syncthreads();
    }
    if (t == 0) {
        sums[blockIdx.x] = tree[0];
    }
}
