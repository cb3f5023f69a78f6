// Integers of 8 to 128 bits, as clang spells their operations.

#include "device.h"

KERNEL integers(const long long *a, const long long *b, unsigned long long *out, int n) {
    int i = global_x();
    if (i >= n) return;
    long long x = a[i], y = b[i];
    unsigned char narrow = (unsigned char)x + (unsigned char)y;
    short middle = (short)((short)x * (short)y);
    unsigned __int128 wide = (unsigned __int128)(unsigned long long)x * (unsigned long long)y;
    out[i] = (unsigned long long)(wide >> 64);
    out[n + i] = (unsigned long long)(wide >> 17);
    out[2 * n + i] = narrow | (unsigned long long)(unsigned short)middle << 16;
    out[3 * n + i] = __builtin_bswap64(x) ^ __builtin_rotateleft64(y, 13);
    out[4 * n + i] = __builtin_clzll(x | 1) * 100 + __builtin_ctzll(y | 16) + __builtin_popcountll(x ^ y);
    int high = (int)(x >> 32), low = (int)x;
    out[5 * n + i] = (unsigned)(high > low ? high - low : low - high) * 3u;
    out[6 * n + i] = y == 0 ? 0 : (unsigned long long)x % (unsigned long long)y;
    bool carry;
    unsigned long long sum = __builtin_addcll(x, y, 0, (unsigned long long *)&out[8 * n + i]);
    carry = sum < (unsigned long long)x;
    out[7 * n + i] = sum + carry;
}
