// A product of square matrices through shared tiles of 8 x 8.

#include "device.h"

__shared__ float as[8][8], bs[8][8];

KERNEL matmul(const float *a, const float *b, float *c, int n) {
    int row = block_y() * 8 + thread_y(), col = block_x() * 8 + thread_x();
    float acc = 0.0f;
    for (int t = 0; t < n; t += 8) {
        as[thread_y()][thread_x()] = a[row * n + t + thread_x()];
        bs[thread_y()][thread_x()] = b[(t + thread_y()) * n + col];
        barrier();
        for (int k = 0; k < 8; ++k) acc += as[thread_y()][k] * bs[k][thread_x()];
        barrier();
    }
    c[row * n + col] = acc;
}
