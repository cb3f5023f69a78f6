// Reads through a texture object: refused by name.

extern "C" __global__ void sample(cudaTextureObject_t texture, float *out) {
    out[threadIdx.x] = tex1Dfetch<float>(texture, threadIdx.x);
}
