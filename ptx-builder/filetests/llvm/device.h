// What clang needs in place of the CUDA headers: the names of the language and of the special registers.
#pragma once

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __noinline __attribute__((noinline))

#define KERNEL extern "C" __global__ void

__device__ inline unsigned thread_x() { return __nvvm_read_ptx_sreg_tid_x(); }
__device__ inline unsigned thread_y() { return __nvvm_read_ptx_sreg_tid_y(); }
__device__ inline unsigned block_x() { return __nvvm_read_ptx_sreg_ctaid_x(); }
__device__ inline unsigned block_y() { return __nvvm_read_ptx_sreg_ctaid_y(); }
__device__ inline unsigned threads_x() { return __nvvm_read_ptx_sreg_ntid_x(); }
__device__ inline unsigned blocks_x() { return __nvvm_read_ptx_sreg_nctaid_x(); }
__device__ inline unsigned global_x() { return block_x() * threads_x() + thread_x(); }
__device__ inline void barrier() { __syncthreads(); }
