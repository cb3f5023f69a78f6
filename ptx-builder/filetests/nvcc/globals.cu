// Variables of the module: initialised, zeroed, constant, pointers to others, and shared between kernels.

struct Entry {
    short code;
    float weight;
    const int *link;
};

__device__ int table[8] = {3, 1, 4, 1, 5, 9, 2, 6};
__device__ float accumulated;
__device__ double ratio = 0.75;
__device__ unsigned char flags[5] = {1, 2, 4, 8, 16};
__constant__ Entry entries[3] = {{1, 0.5f, &table[1]}, {-2, 1.5f, &table[4]}, {300, -2.5f, nullptr}};
__device__ int *cursor = table + 2;
__device__ const char message[] = "warp";
__device__ unsigned long long wide = 0x0123456789abcdefull;
__device__ int scratch[64];

extern "C" __global__ void read_globals(float *out) {
    int i = threadIdx.x;
    const Entry &e = entries[i % 3];
    float v = e.weight * e.code;
    if (e.link) v += *e.link;
    v += cursor[i % 4] + (float)ratio + flags[i % 5] + message[i % 5];
    v += (float)((wide >> (8 * (i % 8))) & 0xff);
    out[i] = v;
    scratch[i] = i * i;
}

extern "C" __global__ void write_globals(int add) {
    int i = threadIdx.x;
    table[i % 8] = table[i % 8] + (i < 8 ? add : 0);
    if (i == 0) {
        accumulated += 1.5f;
        cursor = &scratch[add];
    }
}

extern "C" __global__ void read_cursor(int *out) {
    out[threadIdx.x] = cursor[threadIdx.x] + (threadIdx.x == 0 ? (int)(accumulated * 2.0f) : 0);
}
