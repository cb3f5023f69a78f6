// A sum per block by shuffles and shared memory, and the largest element by an atomic.

#include "device.h"

__shared__ unsigned partial[32];

KERNEL block_sum(const unsigned *x, unsigned *sums, int *largest, int n) {
    unsigned lane = thread_x() % 32, warp = thread_x() / 32;
    int i = global_x();
    unsigned v = i < n ? x[i] : 0;
    for (int d = 16; d > 0; d /= 2) v += __nvvm_shfl_sync_down_i32(0xffffffffu, v, d, 31);
    if (lane == 0) partial[warp] = v;
    barrier();
    if (thread_x() == 0) {
        unsigned sum = 0;
        for (unsigned w = 0; w < threads_x() / 32; ++w) sum += partial[w];
        sums[block_x()] = sum;
        __nvvm_atom_max_gen_i(largest, (int)sum);
    }
}

KERNEL votes(const int *x, unsigned *out) {
    int v = x[thread_x()];
    unsigned odd = __nvvm_vote_ballot_sync(0xffffffffu, v & 1);
    out[thread_x()] = odd ^ (__nvvm_vote_any_sync(0xffffffffu, v > 900) ? 0x1u : 0u);
}
