// Formatted output and assertions of a kernel.

#include <assert.h>
#include <stdio.h>

extern "C" __global__ void say(const int *x, int *y) {
    int i = threadIdx.x;
    if (i == 3) {
        printf("x[%d] = %d, %u, %s, %.3f, %c, %llx\n", i, x[i], 7u, "text", 2.5, 'q', 0x1234567890ull);
    }
    assert(x[i] >= 0);
    y[i] = x[i] + 1;
}
