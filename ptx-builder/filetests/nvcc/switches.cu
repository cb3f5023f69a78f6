// A dense switch of different bodies, which becomes an indirect branch, and loops that lanes leave at different times.

extern "C" __global__ void dense_switch(const int *op, const int *x, int *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v = x[i];
    switch (op[i]) {
    case 0: v = v + y[0]; break;
    case 1: v = v * 3 - y[1]; break;
    case 2: v = __popc(v) + y[2]; break;
    case 3: v = __clz(v); // falls through
    case 4: v = v ^ 0x55; y[8 + n + i] = v; break;
    case 5: v = v > y[3] ? v / 7 : v % 7; break;
    case 6: v = __brev(v); break;
    case 7: v = __ffs(v) * y[4]; break;
    case 8: for (int k = 0; k < (i & 7); ++k) v = v * 31 + y[5]; break;
    case 9: v = -v; break;
    case 10: v = (int)__byte_perm(v, y[6], 0x3175); break;
    case 11: v = __mulhi(v, y[7]); break;
    default: v = -1; break;
    }
    y[8 + i] = v;
}

extern "C" __global__ void collatz(const unsigned *start, unsigned *steps, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned long long v = start[i];
    unsigned count = 0;
    while (v != 1) {
        if (v & 1) {
            v = 3 * v + 1;
        } else {
            v >>= 1;
        }
        if (++count >= 500) break;
    }
    steps[i] = count;
}

extern "C" __global__ void nested_breaks(const int *x, int *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int acc = 0;
    for (int a = 0; a < 8; ++a) {
        for (int b = 0; b < 8; ++b) {
            int v = x[(i * 8 + a + b) % n];
            if (v % 5 == 0) goto done;
            if (v % 3 == 0) break;
            if (v % 2 == 0) continue;
            acc += v * (b + 1);
        }
        acc ^= a;
    }
done:
    y[i] = acc;
}
