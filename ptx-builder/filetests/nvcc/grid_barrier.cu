// A barrier over all blocks of a grid, by a counter and a generation in global memory; every block must be resident.

__device__ unsigned arrived;
__device__ volatile unsigned generation;

static __device__ void grid_sync() {
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned before = generation;
        __threadfence();
        if (atomicAdd(&arrived, 1u) == gridDim.x - 1) {
            arrived = 0;
            __threadfence();
            generation = before + 1;
        } else {
            while (generation == before) {
                __nanosleep(20);
            }
        }
        __threadfence();
    }
    __syncthreads();
}

// Each round every element becomes the sum of its two neighbours; rounds are apart by the barrier.
extern "C" __global__ void diffuse(unsigned *a, unsigned *b, int rounds) {
    int n = gridDim.x * blockDim.x;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned *from = a, *to = b;
    for (int r = 0; r < rounds; ++r) {
        to[i] = __ldcg(&from[(i + n - 1) % n]) + __ldcg(&from[(i + 1) % n]);
        grid_sync();
        unsigned *t = from;
        from = to;
        to = t;
    }
}
