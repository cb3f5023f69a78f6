// Asynchronous copies into shared memory with two stages in flight, and an arrive/wait barrier.

#include <cuda_pipeline.h>
#include <cuda_awbarrier_primitives.h>

#define STAGE 128

extern "C" __global__ void pipelined_scale(const float4 *in, float4 *out, int stages, float factor) {
    __shared__ float4 buffer[2][STAGE];
    int t = threadIdx.x;
    __pipeline_memcpy_async(&buffer[0][t], &in[t], sizeof(float4));
    __pipeline_commit();
    for (int s = 0; s < stages; ++s) {
        if (s + 1 < stages) {
            __pipeline_memcpy_async(&buffer[(s + 1) & 1][t], &in[(s + 1) * STAGE + t], sizeof(float4));
        }
        __pipeline_commit();
        __pipeline_wait_prior(1);
        __syncthreads();
        // Another thread's element, so that the barrier matters.
        float4 v = buffer[s & 1][STAGE - 1 - t];
        out[s * STAGE + t] = make_float4(v.x * factor, v.y * factor, v.z * factor, v.w * factor);
        __syncthreads();
    }
}

extern "C" __global__ void arrive_wait(const int *in, int *out) {
    __shared__ __mbarrier_t barrier;
    __shared__ int s[64];
    int t = threadIdx.x;
    if (t == 0) __mbarrier_init(&barrier, blockDim.x);
    __syncthreads();
    for (int round = 0; round < 3; ++round) {
        s[t] = in[t] + round;
        __mbarrier_token_t token = __mbarrier_arrive(&barrier);
        while (!__mbarrier_test_wait(&barrier, token)) {
        }
        int v = s[(t + 1) % 64];
        token = __mbarrier_arrive(&barrier);
        while (!__mbarrier_test_wait(&barrier, token)) {
        }
        out[round * 64 + t] = v;
    }
}
