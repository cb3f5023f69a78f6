// Cooperative groups below the grid: tiles, coalesced threads, a labelled partition of the block.

#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>

namespace cg = cooperative_groups;

extern "C" __global__ void tile_sums(const int *x, int *sums) {
    cg::thread_block block = cg::this_thread_block();
    cg::thread_block_tile<8> tile = cg::tiled_partition<8>(block);
    int i = blockIdx.x * blockDim.x + block.thread_rank();
    int sum = cg::reduce(tile, x[i], cg::plus<int>());
    if (tile.thread_rank() == 0) {
        sums[i / 8] = sum;
    }
    block.sync();
}

// Threads whose value is odd claim consecutive places with one atomic per group of them.
extern "C" __global__ void compact_odd(const int *x, int *out, int *count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int v = x[i];
    if (v & 1) {
        cg::coalesced_group active = cg::coalesced_threads();
        int base = 0;
        if (active.thread_rank() == 0) {
            base = atomicAdd(count, (int)active.size());
        }
        base = active.shfl(base, 0);
        out[base + active.thread_rank()] = v;
    }
}
