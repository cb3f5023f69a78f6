// The text of inline assembly: registers of its own, predicates, multi-line, special registers, carry chains.

__device__ unsigned lane_id() {
    unsigned id;
    asm("mov.u32 %0, %%laneid;" : "=r"(id));
    return id;
}

extern "C" __global__ void assembly(const unsigned *a, const unsigned *b, unsigned *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned x = a[i], y = b[i], lo, hi, r;
    asm("add.cc.u32 %0, %2, %3;\n\t"
        "addc.u32 %1, 0, 0;"
        : "=r"(lo), "=r"(hi)
        : "r"(x), "r"(y));
    asm("{\n\t"
        ".reg .pred p;\n\t"
        ".reg .u32 t;\n\t"
        "setp.gt.u32 p, %1, %2;\n\t"
        "@p  sub.u32 t, %1, %2;\n\t"
        "@!p sub.u32 t, %2, %1;\n\t"
        "mov.u32 %0, t;\n\t"
        "}"
        : "=r"(r)
        : "r"(x), "r"(y));
    unsigned mixed;
    asm volatile("lop3.b32 %0, %1, %2, %3, 0xE8;" : "=r"(mixed) : "r"(x), "r"(y), "r"(r));
    unsigned long long packed;
    asm("mov.b64 %0, {%1, %2};" : "=l"(packed) : "r"(lo), "r"(hi));
    out[i] = lo;
    out[n + i] = hi;
    out[2 * n + i] = r + lane_id();
    out[3 * n + i] = mixed;
    out[4 * n + i] = (unsigned)(packed % 1000003ull);
}

// A 128-bit product by carry chains.
extern "C" __global__ void wide_product(const unsigned long long *a, const unsigned long long *b, unsigned long long *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned long long lo = a[i] * b[i], hi = __umul64hi(a[i], b[i]);
    unsigned long long sum_lo, sum_hi;
    asm("add.cc.u64 %0, %2, %4;\n\taddc.u64 %1, %3, %5;" : "=l"(sum_lo), "=l"(sum_hi) : "l"(lo), "l"(hi), "l"(a[i]), "l"(b[i]));
    unsigned __int128 check = (unsigned __int128)a[i] * b[i] + (((unsigned __int128)b[i] << 64) | a[i]);
    out[3 * i] = sum_lo;
    out[3 * i + 1] = sum_hi;
    out[3 * i + 2] = (unsigned long long)(check >> 64) - sum_hi;
}
