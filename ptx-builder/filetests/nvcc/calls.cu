// Functions that stay functions: not inlined, recursive, called through pointers, with structs and arrays by value.

struct Pair {
    float scale;
    int shift;
    double weight;
};

struct Big {
    int v[6];
    char tag;
};

__noinline__ __device__ float scaled(float x, float y) { return x * y + 1.0f; }

__noinline__ __device__ Pair make_pair_of(int i) {
    Pair p;
    p.scale = 0.5f * i;
    p.shift = i & 7;
    p.weight = 1.0 / (i + 1);
    return p;
}

__noinline__ __device__ int sum_big(Big b, const int *extra) {
    int s = b.tag;
    for (int i = 0; i < 6; ++i) s += b.v[i] * (i + 1);
    return s + *extra;
}

__noinline__ __device__ void swap_through(int *a, int *b) {
    int t = *a;
    *a = *b;
    *b = t;
}

extern "C" __global__ void call_functions(const float *x, float *y, int *z, Pair by_value, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    Pair p = make_pair_of(i);
    y[i] = scaled(x[i], p.scale) + by_value.scale + (float)(p.weight * by_value.weight);
    Big big;
    for (int k = 0; k < 6; ++k) big.v[k] = i + k;
    big.tag = (char)(i & 15);
    int a = i, b = p.shift + by_value.shift;
    if (i % 3 == 0) swap_through(&a, &b);
    z[i] = sum_big(big, &a) * 2 + b;
}

// Not a tail call, so that a stack is needed.
__noinline__ __device__ unsigned fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

__device__ unsigned is_odd(unsigned n);
__noinline__ __device__ unsigned is_even(unsigned n) { return n == 0 ? 1u : is_odd(n - 1); }
__noinline__ __device__ unsigned is_odd(unsigned n) { return n == 0 ? 0u : is_even(n - 1); }

extern "C" __global__ void recursion(const unsigned *n, unsigned *out) {
    unsigned i = threadIdx.x;
    out[i] = fibonacci(n[i] % 12) * 2 + is_even(n[i] % 9);
}

__noinline__ __device__ int op_add(int a, int b) { return a + b; }
__noinline__ __device__ int op_sub(int a, int b) { return a - b; }
__noinline__ __device__ int op_mul(int a, int b) { return a * b; }
__noinline__ __device__ int op_max(int a, int b) { return a > b ? a : b; }

typedef int (*Operation)(int, int);
__device__ Operation operations[4] = {op_add, op_sub, op_mul, op_max};

// Neighbouring lanes call different functions.
extern "C" __global__ void function_pointers(const int *a, const int *b, int *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = operations[i & 3](a[i], b[i]);
}

class Shape {
  public:
    __device__ virtual int area(int w) const = 0;
};

class Square : public Shape {
  public:
    __device__ int area(int w) const override { return w * w; }
};

class Triangle : public Shape {
  public:
    __device__ int area(int w) const override { return w * w / 2; }
};

extern "C" __global__ void virtual_calls(int *out) {
    Square square;
    Triangle triangle;
    const Shape *shape = threadIdx.x & 1 ? (const Shape *)&square : (const Shape *)&triangle;
    out[threadIdx.x] = shape->area(threadIdx.x);
}
