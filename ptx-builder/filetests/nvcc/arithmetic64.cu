// 64-bit integers, doubles and conversions between everything.

extern "C" __global__ void long_arithmetic(const long long *a, const long long *b, long long *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    long long x = a[i], y = b[i];
    out[i] = x + y * 3;
    out[n + i] = y ? x / y : 0;
    out[2 * n + i] = y ? x % y : 0;
    out[3 * n + i] = (x << (y & 63)) ^ (x >> (y & 31));
    out[4 * n + i] = (long long)((unsigned long long)x >> (y & 63));
    out[5 * n + i] = __popcll(x) + 100 * __clzll(y) + 10000 * __ffsll(x);
    out[6 * n + i] = x < y ? x : y;
    out[7 * n + i] = __mul64hi(x, y);
    out[8 * n + i] = (long long)__brevll((unsigned long long)x);
    out[9 * n + i] = llabs(x);
}

extern "C" __global__ void double_arithmetic(const double *a, const double *b, double *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double x = a[i], y = b[i];
    out[i] = __dadd_rn(x, y);
    out[n + i] = __dmul_rz(x, y);
    out[2 * n + i] = __fma_rn(x, y, 1.0);
    out[3 * n + i] = x / y;
    out[4 * n + i] = sqrt(fabs(x));
    out[5 * n + i] = fmin(x, y);
    out[6 * n + i] = __dadd_ru(x, y) - __dadd_rd(x, y);
    out[7 * n + i] = copysign(x, y);
}

extern "C" __global__ void conversions(const double *a, long long *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double x = a[i];
    float f = (float)x;
    out[i] = (int)x;
    out[n + i] = (long long)x;
    out[2 * n + i] = (unsigned)x;
    out[3 * n + i] = (unsigned char)(int)f;
    out[4 * n + i] = __float2int_rn(f);
    out[5 * n + i] = __float2int_ru(f);
    out[6 * n + i] = __double2ll_rd(x);
    out[7 * n + i] = __double_as_longlong((double)(float)(long long)x);
    out[8 * n + i] = __float_as_int(__ll2float_rd((long long)x * 3));
    out[9 * n + i] = (short)x;
}
