// Sorts 2 * blockDim.x keys in shared memory, and any power of two by one launch per step in global memory.

extern "C" __global__ void bitonic_shared(unsigned *keys, int n) {
    extern __shared__ unsigned s[];
    for (int i = threadIdx.x; i < n; i += blockDim.x) s[i] = keys[i];
    __syncthreads();
    for (int size = 2; size <= n; size <<= 1) {
        for (int stride = size / 2; stride > 0; stride >>= 1) {
            for (int t = threadIdx.x; t < n / 2; t += blockDim.x) {
                int low = 2 * t - (t & (stride - 1));
                bool ascending = (low & size) == 0;
                unsigned a = s[low], b = s[low + stride];
                if ((a > b) == ascending) {
                    s[low] = b;
                    s[low + stride] = a;
                }
            }
            __syncthreads();
        }
    }
    for (int i = threadIdx.x; i < n; i += blockDim.x) keys[i] = s[i];
}

extern "C" __global__ void bitonic_step(float *keys, int stride, int size) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned partner = i ^ stride;
    if (partner > i) {
        float a = keys[i], b = keys[partner];
        if ((i & size) == 0 ? a > b : a < b) {
            keys[i] = b;
            keys[partner] = a;
        }
    }
}
