//! The registers of a warp: what arithmetic reads and writes.
//!
//! A register is a row of 32 lanes, so that one instruction of a warp is a loop over arrays of fixed length that the
//! compiler turns into vector code. Literals, special registers and addresses of symbols are rows too: arithmetic
//! sees nothing but registers.

/// Threads of a warp.
pub(super) const LANES: usize = 32;

/// The mask of all lanes.
pub(super) const FULL: u32 = u32::MAX;

/// Registers of one call frame of one warp, lane by lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Regs {
    /// 16- and 32-bit classes: `.b16` zero-extended in the low half, `.f32` as bits.
    pub(super) w: Vec<[u32; LANES]>,
    /// 64-bit classes, `.f64` as bits.
    pub(super) l: Vec<[u64; LANES]>,
    /// Predicates, one bit for each lane.
    pub(super) p: Vec<u32>,
}

/// Which part of [`Regs`] an operand lives in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum File {
    /// Predicates.
    P,
    /// 16 and 32 bits.
    W,
    /// 64 bits.
    L,
}

/// The most operands that an instruction of arithmetic has, flattened.
pub(super) const MAX_OPERANDS: usize = 16;

/// Operands of an instruction in the order of `Inst::operands`, results first; each is an index into the file that
/// the operand lives in. A result that nobody wants is a scratch register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Args {
    /// Indices.
    pub(super) slots: [u32; MAX_OPERANDS],
    /// Bit `i`: predicate operand `i` is negated.
    pub(super) negated: u16,
}

/// One instruction for the lanes of a mask; lanes outside of it keep what they hold.
pub(super) type AluFn = fn(&mut Regs, &Args, mask: u32);
