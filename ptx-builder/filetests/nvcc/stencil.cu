// A 7-point stencil in one dimension with coefficients in constant memory, and a 5-point one in two dimensions.

#define RADIUS 3
#define BLOCK 128

__constant__ float coefficients[2 * RADIUS + 1] = {0.03125f, 0.0625f, 0.25f, 0.3125f, 0.25f, 0.0625f, 0.03125f};
__constant__ int bias;

extern "C" __global__ void stencil_1d(const float *in, float *out, int n) {
    __shared__ float s[BLOCK + 2 * RADIUS];
    int g = blockIdx.x * BLOCK + threadIdx.x;
    int l = threadIdx.x + RADIUS;
    s[l] = g < n ? in[g] : 0.0f;
    if (threadIdx.x < RADIUS) {
        s[l - RADIUS] = g >= RADIUS ? in[g - RADIUS] : 0.0f;
        s[l + BLOCK] = g + BLOCK < n ? in[g + BLOCK] : 0.0f;
    }
    __syncthreads();
    float sum = (float)bias;
    for (int d = -RADIUS; d <= RADIUS; ++d) {
        sum += coefficients[d + RADIUS] * s[l + d];
    }
    if (g < n) out[g] = sum;
}

extern "C" __global__ void laplace_2d(const double *__restrict__ in, double *__restrict__ out, int w, int h) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= w || y >= h) return;
    bool edge = x == 0 || y == 0 || x == w - 1 || y == h - 1;
    const double *p = in + y * w + x;
    out[y * w + x] = edge ? *p : 0.25 * (p[-1] + p[1] + p[-w] + p[w]);
}
