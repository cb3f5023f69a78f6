// A dense switch, which becomes an indexed branch, with calls and a loop in its arms.

#include "device.h"

__noinline __device__ int mix(int a, int b) { return a * 31 + (b ^ (a >> 3)); }

KERNEL dense_switch(const int *op, const int *x, int *y, int *log, int n) {
    int i = global_x();
    if (i >= n) return;
    int v = x[i];
    switch (op[i]) {
    case 0: v = v + log[0]; break;
    case 1: v = v * 3 - log[1]; break;
    case 2: v = __builtin_popcount(v) + log[2]; break;
    case 3: v = mix(v, log[3]); // falls through
    case 4: log[8 + i] = v; v ^= 0x55; break;
    case 5: v = v > log[4] ? v / 7 : v % 7; break;
    case 6: for (int k = 0; k < (i & 7); ++k) v = mix(v, k); break;
    case 7: v = -v; break;
    case 8: v = log[5] * log[6]; break;
    case 9: v = (v << 3) | ((unsigned)v >> 29); break;
    case 10: v = mix(log[7], v); break;
    default: v = -1; break;
    }
    y[i] = v;
}
