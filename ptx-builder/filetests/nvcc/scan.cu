// Prefix sums of one block: Hillis and Steele's inclusive scan, Blelloch's exclusive scan, and one of warp shuffles.

extern "C" __global__ void scan_hillis_steele(const int *in, int *out, int n) {
    extern __shared__ int buffer[];
    int t = threadIdx.x, ping = 0;
    buffer[t] = t < n ? in[t] : 0;
    __syncthreads();
    for (int offset = 1; offset < (int)blockDim.x; offset *= 2) {
        int *from = buffer + ping * blockDim.x;
        int *to = buffer + (1 - ping) * blockDim.x;
        to[t] = t >= offset ? from[t] + from[t - offset] : from[t];
        ping = 1 - ping;
        __syncthreads();
    }
    if (t < n) {
        out[t] = buffer[ping * blockDim.x + t];
    }
}

extern "C" __global__ void scan_blelloch(const int *in, int *out, int n) {
    extern __shared__ int tree[];
    int t = threadIdx.x;
    int offset = 1;
    tree[2 * t] = in[2 * t];
    tree[2 * t + 1] = in[2 * t + 1];
    for (int d = n >> 1; d > 0; d >>= 1) {
        __syncthreads();
        if (t < d) {
            int left = offset * (2 * t + 1) - 1;
            int right = offset * (2 * t + 2) - 1;
            tree[right] += tree[left];
        }
        offset *= 2;
    }
    if (t == 0) {
        tree[n - 1] = 0;
    }
    for (int d = 1; d < n; d *= 2) {
        offset >>= 1;
        __syncthreads();
        if (t < d) {
            int left = offset * (2 * t + 1) - 1;
            int right = offset * (2 * t + 2) - 1;
            int v = tree[left];
            tree[left] = tree[right];
            tree[right] += v;
        }
    }
    __syncthreads();
    out[2 * t] = tree[2 * t];
    out[2 * t + 1] = tree[2 * t + 1];
}

extern "C" __global__ void scan_shuffle(const long long *in, long long *out) {
    __shared__ long long warp_totals[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    long long v = in[threadIdx.x];
    for (int d = 1; d < 32; d <<= 1) {
        long long up = __shfl_up_sync(0xffffffffu, v, d);
        if (lane >= d) v += up;
    }
    if (lane == 31) warp_totals[warp] = v;
    __syncthreads();
    if (warp == 0) {
        long long w = lane < blockDim.x / 32 ? warp_totals[lane] : 0;
        for (int d = 1; d < 32; d <<= 1) {
            long long up = __shfl_up_sync(0xffffffffu, w, d);
            if (lane >= d) w += up;
        }
        warp_totals[lane] = w;
    }
    __syncthreads();
    if (warp > 0) v += warp_totals[warp - 1];
    out[threadIdx.x] = v;
}
