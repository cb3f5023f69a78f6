// Recursion, function pointers, structs by value, arrays of a thread, constant and global variables.

#include "device.h"

struct Triple {
    int a;
    long long b;
    char c[5];
};

__constant__ int primes[8] = {2, 3, 5, 7, 11, 13, 17, 19};
__device__ int counter = 5;
__device__ unsigned char letters[] = {'w', 'a', 'r', 'p'};

__noinline __device__ int gcd(int a, int b) { return b == 0 ? a : 1 + gcd(b, a % b); }
__noinline __device__ long long weigh(Triple t) { return t.a + t.b * 2 + t.c[t.a & 3] + t.c[4]; }
__noinline __device__ Triple make(int i) {
    Triple t = {i, (long long)i << 33, {1, 2, 3, 4, (char)i}};
    return t;
}
__noinline __device__ int twice(int v) { return 2 * v; }
__noinline __device__ int square(int v) { return v * v; }

typedef int (*Unary)(int);
__device__ Unary unary[2] = {twice, square};

KERNEL calls(const int *x, long long *out, Triple given, int n) {
    int i = global_x();
    if (i >= n) return;
    Triple t = make(x[i]);
    t.b += given.b;
    out[i] = weigh(t) + gcd(x[i] + 1, 36) + unary[i & 1](x[i]) + primes[i & 7] + letters[i & 3] + given.c[i % 5];
    if (i == 0) counter += n;
}

KERNEL insertion_sort(const short *x, short *y) {
    short v[12];
    int base = global_x() * 12;
    for (int k = 0; k < 12; ++k) v[(k * 7) % 12] = x[base + k];
    for (int k = 1; k < 12; ++k)
        for (int j = k; j > 0 && v[j - 1] > v[j]; --j) {
            short s = v[j];
            v[j] = v[j - 1];
            v[j - 1] = s;
        }
    for (int k = 0; k < 12; ++k) y[base + k] = v[k];
}
