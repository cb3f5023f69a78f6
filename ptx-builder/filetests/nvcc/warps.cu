// Votes, matches, reductions and shuffles of a warp, some with parts of its lanes.

extern "C" __global__ void votes(const int *x, unsigned *out) {
    int t = threadIdx.x, lane = t & 31;
    int v = x[t];
    unsigned odd = __ballot_sync(0xffffffffu, v & 1);
    out[t] = odd;
    out[64 + t] = __popc(odd & ((1u << lane) - 1));
    out[128 + t] = (__all_sync(0xffffffffu, v >= 0) ? 1u : 0u) | (__any_sync(0xffffffffu, v == 7) ? 2u : 0u);
    out[192 + t] = __match_any_sync(0xffffffffu, v);
    int same;
    unsigned all = __match_all_sync(0xffffffffu, v >> 10, &same);
    out[256 + t] = all ^ (same ? 0x80000000u : 0u);
    if (v & 1) {
        // Only the odd lanes are here.
        unsigned mask = __activemask() & odd;
        (void)mask;
        unsigned low = __shfl_sync(odd, v, __ffs(odd) - 1);
        out[320 + t] = low + __popc(__ballot_sync(odd, v > 8));
    } else {
        out[320 + t] = 0xffffffffu;
    }
}

extern "C" __global__ void reductions(const int *x, int *out) {
    int t = threadIdx.x, v = x[t];
    out[t] = __reduce_add_sync(0xffffffffu, v);
    out[64 + t] = __reduce_min_sync(0xffffffffu, v);
    out[128 + t] = (int)__reduce_max_sync(0xffffffffu, (unsigned)v);
    out[192 + t] = (int)__reduce_xor_sync(0xffffffffu, (unsigned)v);
    out[256 + t] = __shfl_xor_sync(0xffffffffu, v, 5, 8);
    out[320 + t] = __shfl_up_sync(0xffffffffu, v, 3, 16);
    out[384 + t] = __shfl_down_sync(0xffffffffu, v, 6, 16);
    out[448 + t] = __shfl_sync(0xffffffffu, v, t + 9, 4);
}
