//! Q8Act: activations quantised to signed bytes, planar within a row.
//!
//! # Layout
//! A row of `n` values (`n` a multiple of 32) takes `n * 40 / 32` bytes:
//!
//! | bytes | content |
//! | --- | --- |
//! | `0 .. n` | the quants, one signed byte a value, in order |
//! | `n + 8*g .. n + 8*g + 4` | `d` of group `g`, f32 little-endian |
//! | `n + 8*g + 4 .. n + 8*g + 8` | `s` of group `g`, f32 little-endian |
//!
//! Group `g` is values `32*g .. 32*g + 32`; value `i` of it stands for `d * quant[i]`, and `s = d * sum(quants of g)`,
//! which turns the minimum of a Q4_K block into one multiplication. Rows of a tensor follow each other without gaps,
//! so that every row starts at a multiple of 8 bytes.
//!
//! # Quantisation, to the bit
//! All arithmetic is IEEE binary32, round to nearest even, nothing contracted. For each group, with `x[0..32]`:
//!
//! 1. `a` = the largest bit pattern of `|x[i]|` as an unsigned integer: the largest magnitude, ordered so that an
//!    infinity is above every number and a NaN above that.
//! 2. If `a >= 0x7f80_0000` (an infinity or a NaN): `d = s = 0x7fc0_0000` (a NaN), every quant 0. Whatever is computed
//!    from the group is then NaN, never a plausible number.
//! 3. `d = a / 127.0`. If `d < 2^-126`, a subnormal or zero: `d = s = 0`, every quant 0. The reciprocal of a smaller
//!    `d` could overflow, and flushing here makes the result independent of the processor's subnormal mode.
//! 4. `r = 1.0 / d`, `quant[i] = round_half_even(x[i] * r)`, which is within -127..=127.
//! 5. `s = d * (sum of the quants, exact, converted to f32)`. (For `a` beyond 1e37 it can overflow to an infinity.)
