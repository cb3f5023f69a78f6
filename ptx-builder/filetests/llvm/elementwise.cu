// Element by element: a sum, a polynomial, a select, and vectors of four.

#include "device.h"

KERNEL vector_add(const float *x, const float *y, float *z, int n) {
    int i = global_x();
    if (i < n) z[i] = x[i] + y[i];
}

KERNEL polynomial(const double *x, double *y, int n) {
    for (int i = global_x(); i < n; i += blocks_x() * threads_x()) {
        double v = x[i], acc = 0.0;
        for (int k = 7; k >= 0; --k) acc = acc * v + (double)(k - 3);
        y[i] = acc > 0.0 ? acc : -acc;
    }
}

typedef float float4 __attribute__((ext_vector_type(4)));

KERNEL scale4(const float4 *x, float4 *y, float by, int n4) {
    int i = global_x();
    if (i < n4) y[i] = x[i] * by;
}
