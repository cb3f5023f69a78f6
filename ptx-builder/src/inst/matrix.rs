//! Tensor-core instructions of a warp: `mma.sync`, `ldmatrix`, `stmatrix`.

use super::space::Space;
use super::{Arg, Role, Signature, What, Words, named};
use crate::target::Requires;
use crate::ty::Ty;
use std::fmt;

named! {
    /// What an element of a matrix is.
    MatrixElement {
        /// IEEE half.
        F16 = "f16",
        /// bfloat16.
        BF16 = "bf16",
        /// TensorFloat-32: a single whose low 13 bits do not count.
        TF32 = "tf32",
        /// IEEE single.
        F32 = "f32",
        /// IEEE double.
        F64 = "f64",
        /// FP8 of 4 exponent and 3 mantissa bits.
        E4M3 = "e4m3",
        /// FP8 of 5 exponent and 2 mantissa bits.
        E5M2 = "e5m2",
        /// Signed 8-bit integer.
        S8 = "s8",
        /// Unsigned 8-bit integer.
        U8 = "u8",
        /// Signed 4-bit integer.
        S4 = "s4",
        /// Unsigned 4-bit integer.
        U4 = "u4",
        /// Signed 32-bit integer.
        S32 = "s32",
    }
}

impl MatrixElement {
    /// Width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Self::F64 => 64,
            Self::TF32 | Self::F32 | Self::S32 => 32,
            Self::F16 | Self::BF16 => 16,
            Self::S8 | Self::U8 | Self::E4M3 | Self::E5M2 => 8,
            Self::S4 | Self::U4 => 4,
        }
    }

    pub(crate) const fn is_integer(self) -> bool {
        matches!(self, Self::S8 | Self::U8 | Self::S4 | Self::U4 | Self::S32)
    }
}

macro_rules! mma_shapes {
    ($( $shape:ident $name:literal: $d:ident x $nd:literal, $a:ident x $na:literal, $b:ident x $nb:literal, ($($req:literal)*); )*) => {
        /// A shape of `mma.sync.aligned`: D = A * B + C with A row-major and B column-major.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum MmaShape { $( #[doc = concat!("`", $name, "`")] $shape, )* }

        impl MmaShape {
            /// Every shape.
            pub const ALL: &'static [Self] = &[$(Self::$shape),*];

            /// The part of the mnemonic after `mma.sync.aligned.`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$shape => $name,)* }
            }

            /// The type of an accumulator register (halves come in pairs) and the registers per thread of D (and C), A
            /// and B.
            pub const fn fragments(self) -> (Ty, u8, u8, u8) {
                match self { $(Self::$shape => (Ty::$d, $nd, $na, $nb),)* }
            }

            /// What the elements of A and of B are.
            pub(crate) const fn factors(self) -> (MatrixElement, MatrixElement) {
                match self { $(Self::$shape => (MatrixElement::$a, MatrixElement::$b),)* }
            }

            pub(super) fn requires(self) -> Requires {
                match self { $(Self::$shape => mma_shapes!(@req $($req)*),)* }
            }
        }
    };
    (@req $major:literal $minor:literal $sm:literal) => { Requires::new($major, $minor, $sm) };
}

mma_shapes! {
    M16N8K8F16 "m16n8k8.row.col.f32.f16.f16.f32": F32 x 4, F16 x 2, F16 x 1, (6 5 75);
    M16N8K16F16 "m16n8k16.row.col.f32.f16.f16.f32": F32 x 4, F16 x 4, F16 x 2, (7 0 80);
    M16N8K8BF16 "m16n8k8.row.col.f32.bf16.bf16.f32": F32 x 4, BF16 x 2, BF16 x 1, (7 0 80);
    M16N8K8F16F16 "m16n8k8.row.col.f16.f16.f16.f16": U32 x 2, F16 x 2, F16 x 1, (6 5 75);
    M16N8K16F16F16 "m16n8k16.row.col.f16.f16.f16.f16": U32 x 2, F16 x 4, F16 x 2, (7 0 80);
    M16N8K16BF16 "m16n8k16.row.col.f32.bf16.bf16.f32": F32 x 4, BF16 x 4, BF16 x 2, (7 0 80);
    M16N8K4TF32 "m16n8k4.row.col.f32.tf32.tf32.f32": F32 x 4, TF32 x 2, TF32 x 1, (7 0 80);
    M16N8K8TF32 "m16n8k8.row.col.f32.tf32.tf32.f32": F32 x 4, TF32 x 4, TF32 x 2, (7 0 80);
    M16N8K16S8 "m16n8k16.row.col.s32.s8.s8.s32": S32 x 4, S8 x 2, S8 x 1, (7 0 80);
    M16N8K16U8 "m16n8k16.row.col.s32.u8.u8.s32": S32 x 4, U8 x 2, U8 x 1, (7 0 80);
    M16N8K32U8 "m16n8k32.row.col.s32.u8.u8.s32": S32 x 4, U8 x 4, U8 x 2, (7 0 80);
    M16N8K32S8 "m16n8k32.row.col.s32.s8.s8.s32": S32 x 4, S8 x 4, S8 x 2, (7 0 80);
    M16N8K32U8S8 "m16n8k32.row.col.s32.u8.s8.s32": S32 x 4, U8 x 4, S8 x 2, (7 0 80);
    M16N8K32S8U8 "m16n8k32.row.col.s32.s8.u8.s32": S32 x 4, S8 x 4, U8 x 2, (7 0 80);
    M16N8K16S8Sat "m16n8k16.row.col.satfinite.s32.s8.s8.s32": S32 x 4, S8 x 2, S8 x 1, (7 0 80);
    M16N8K16U8Sat "m16n8k16.row.col.satfinite.s32.u8.u8.s32": S32 x 4, U8 x 2, U8 x 1, (7 0 80);
    M16N8K32U8Sat "m16n8k32.row.col.satfinite.s32.u8.u8.s32": S32 x 4, U8 x 4, U8 x 2, (7 0 80);
    M16N8K32S8Sat "m16n8k32.row.col.satfinite.s32.s8.s8.s32": S32 x 4, S8 x 4, S8 x 2, (7 0 80);
    M16N8K32U8S8Sat "m16n8k32.row.col.satfinite.s32.u8.s8.s32": S32 x 4, U8 x 4, S8 x 2, (7 0 80);
    M16N8K32S8U8Sat "m16n8k32.row.col.satfinite.s32.s8.u8.s32": S32 x 4, S8 x 4, U8 x 2, (7 0 80);
    M8N8K16S8 "m8n8k16.row.col.s32.s8.s8.s32": S32 x 2, S8 x 1, S8 x 1, (6 5 75);
    M8N8K16S8U8 "m8n8k16.row.col.s32.s8.u8.s32": S32 x 2, S8 x 1, U8 x 1, (6 5 75);
    M8N8K16U8S8 "m8n8k16.row.col.s32.u8.s8.s32": S32 x 2, U8 x 1, S8 x 1, (6 5 75);
    M8N8K16U8 "m8n8k16.row.col.s32.u8.u8.s32": S32 x 2, U8 x 1, U8 x 1, (6 5 75);
    M8N8K16S8Sat "m8n8k16.row.col.satfinite.s32.s8.s8.s32": S32 x 2, S8 x 1, S8 x 1, (6 5 75);
    M8N8K16S8U8Sat "m8n8k16.row.col.satfinite.s32.s8.u8.s32": S32 x 2, S8 x 1, U8 x 1, (6 5 75);
    M8N8K16U8S8Sat "m8n8k16.row.col.satfinite.s32.u8.s8.s32": S32 x 2, U8 x 1, S8 x 1, (6 5 75);
    M8N8K16U8Sat "m8n8k16.row.col.satfinite.s32.u8.u8.s32": S32 x 2, U8 x 1, U8 x 1, (6 5 75);
    M8N8K32S4 "m8n8k32.row.col.s32.s4.s4.s32": S32 x 2, S4 x 1, S4 x 1, (6 5 75);
    M8N8K32S4U4 "m8n8k32.row.col.s32.s4.u4.s32": S32 x 2, S4 x 1, U4 x 1, (6 5 75);
    M8N8K32U4S4 "m8n8k32.row.col.s32.u4.s4.s32": S32 x 2, U4 x 1, S4 x 1, (6 5 75);
    M8N8K32U4 "m8n8k32.row.col.s32.u4.u4.s32": S32 x 2, U4 x 1, U4 x 1, (6 5 75);
    M8N8K32S4Sat "m8n8k32.row.col.satfinite.s32.s4.s4.s32": S32 x 2, S4 x 1, S4 x 1, (6 5 75);
    M8N8K32S4U4Sat "m8n8k32.row.col.satfinite.s32.s4.u4.s32": S32 x 2, S4 x 1, U4 x 1, (6 5 75);
    M8N8K32U4S4Sat "m8n8k32.row.col.satfinite.s32.u4.s4.s32": S32 x 2, U4 x 1, S4 x 1, (6 5 75);
    M8N8K32U4Sat "m8n8k32.row.col.satfinite.s32.u4.u4.s32": S32 x 2, U4 x 1, U4 x 1, (6 5 75);
    M16N8K32S4 "m16n8k32.row.col.s32.s4.s4.s32": S32 x 4, S4 x 2, S4 x 1, (7 0 80);
    M16N8K32S4U4 "m16n8k32.row.col.s32.s4.u4.s32": S32 x 4, S4 x 2, U4 x 1, (7 0 80);
    M16N8K32U4S4 "m16n8k32.row.col.s32.u4.s4.s32": S32 x 4, U4 x 2, S4 x 1, (7 0 80);
    M16N8K32U4 "m16n8k32.row.col.s32.u4.u4.s32": S32 x 4, U4 x 2, U4 x 1, (7 0 80);
    M16N8K32S4Sat "m16n8k32.row.col.satfinite.s32.s4.s4.s32": S32 x 4, S4 x 2, S4 x 1, (7 0 80);
    M16N8K32S4U4Sat "m16n8k32.row.col.satfinite.s32.s4.u4.s32": S32 x 4, S4 x 2, U4 x 1, (7 0 80);
    M16N8K32U4S4Sat "m16n8k32.row.col.satfinite.s32.u4.s4.s32": S32 x 4, U4 x 2, S4 x 1, (7 0 80);
    M16N8K32U4Sat "m16n8k32.row.col.satfinite.s32.u4.u4.s32": S32 x 4, U4 x 2, U4 x 1, (7 0 80);
    M16N8K64S4 "m16n8k64.row.col.s32.s4.s4.s32": S32 x 4, S4 x 4, S4 x 2, (7 0 80);
    M16N8K64S4U4 "m16n8k64.row.col.s32.s4.u4.s32": S32 x 4, S4 x 4, U4 x 2, (7 0 80);
    M16N8K64U4S4 "m16n8k64.row.col.s32.u4.s4.s32": S32 x 4, U4 x 4, S4 x 2, (7 0 80);
    M16N8K64U4 "m16n8k64.row.col.s32.u4.u4.s32": S32 x 4, U4 x 4, U4 x 2, (7 0 80);
    M16N8K64S4Sat "m16n8k64.row.col.satfinite.s32.s4.s4.s32": S32 x 4, S4 x 4, S4 x 2, (7 0 80);
    M16N8K64S4U4Sat "m16n8k64.row.col.satfinite.s32.s4.u4.s32": S32 x 4, S4 x 4, U4 x 2, (7 0 80);
    M16N8K64U4S4Sat "m16n8k64.row.col.satfinite.s32.u4.s4.s32": S32 x 4, U4 x 4, S4 x 2, (7 0 80);
    M16N8K64U4Sat "m16n8k64.row.col.satfinite.s32.u4.u4.s32": S32 x 4, U4 x 4, U4 x 2, (7 0 80);
    M8N8K4F64 "m8n8k4.row.col.f64.f64.f64.f64": F64 x 2, F64 x 1, F64 x 1, (7 0 80);
    M16N8K4F64 "m16n8k4.row.col.f64.f64.f64.f64": F64 x 4, F64 x 2, F64 x 1, (7 8 90);
    M16N8K8F64 "m16n8k8.row.col.f64.f64.f64.f64": F64 x 4, F64 x 4, F64 x 2, (7 8 90);
    M16N8K32E4M3 "m16n8k32.row.col.f32.e4m3.e4m3.f32": F32 x 4, E4M3 x 4, E4M3 x 2, (8 4 89);
    M16N8K32E4M3E5M2 "m16n8k32.row.col.f32.e4m3.e5m2.f32": F32 x 4, E4M3 x 4, E5M2 x 2, (8 4 89);
    M16N8K32E5M2E4M3 "m16n8k32.row.col.f32.e5m2.e4m3.f32": F32 x 4, E5M2 x 4, E4M3 x 2, (8 4 89);
    M16N8K32E5M2 "m16n8k32.row.col.f32.e5m2.e5m2.f32": F32 x 4, E5M2 x 4, E5M2 x 2, (8 4 89);
}

/// Shapes of the PTX ISA, of which some types are not above.
const OTHER_SHAPES: &[&str] = &[
    "m8n8k4",
    "m8n8k16",
    "m8n8k32",
    "m8n8k128",
    "m16n8k4",
    "m16n8k8",
    "m16n8k16",
    "m16n8k32",
    "m16n8k64",
    "m16n8k128",
    "m16n8k256",
];

impl MmaShape {
    /// Is a sum of integers clamped?
    pub(crate) fn is_clamped(self) -> bool {
        self.name().contains(".satfinite.")
    }

    pub(super) fn signature(self) -> Signature {
        let (ty, nd, na, nb) = self.fragments();
        let reg = |ty, n| Arg::one(What::Reg(ty)).vector(n);
        let part = if ty == Ty::F64 { Ty::F64 } else { Ty::U32 };
        Signature::new(&[Arg::def(ty).vector(nd), reg(part, na), reg(part, nb), reg(ty, nd)])
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        words.expect("sync")?;
        words.expect("aligned")?;
        let mut name = String::new();
        while let Some(word) = words.take(|w| Some(w.to_owned())) {
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&word);
        }
        // Doubles are rounded to nearest, which may be said.
        let known = name.strip_suffix(".f64.rn").map_or(name.clone(), |rest| format!("{rest}.f64"));
        let found = Self::ALL.iter().copied().find(|shape| shape.name() == known);
        found.ok_or_else(|| {
            let exists = OTHER_SHAPES.contains(&name.split('.').next().unwrap_or_default());
            if exists {
                format!("the matrix shape `{name}` is not supported")
            } else {
                format!("unknown matrix shape `{name}`")
            }
        })
    }
}

/// `ldmatrix` or `stmatrix` of 8x8 matrices of 16-bit elements in shared memory: one 32-bit register per
/// thread and matrix; the address operand of lane `i` is row `i` (16 bytes, aligned).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MatrixMove {
    /// 1, 2 or 4 matrices.
    pub count: u8,
    /// Transposed.
    pub trans: bool,
    /// Addresses are generic, and point to shared memory all the same.
    pub generic: bool,
}

impl MatrixMove {
    /// What kind of addresses the operand holds.
    pub const fn space(self) -> Space {
        if self.generic { Space::Generic } else { Space::Shared }
    }

    pub(super) fn load_signature(self) -> Signature {
        let dest = Arg { role: Role::Def, ..Arg::one(What::Reg(Ty::B32)) };
        Signature::new(&[dest.vector(self.count), Arg::one(What::Address(self.space()))])
    }

    pub(super) fn store_signature(self) -> Signature {
        let value = Arg::one(What::Reg(Ty::B32)).vector(self.count);
        Signature::new(&[Arg::one(What::Address(self.space())), value])
    }

    pub(super) fn problems(self, report: &mut dyn FnMut(String)) {
        if !matches!(self.count, 1 | 2 | 4) {
            report(format!("a warp moves 1, 2 or 4 matrices, not {}", self.count));
        }
    }

    /// Shape, count, transposition and memory stand in any order, the type at the end.
    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        words.expect("sync")?;
        words.expect("aligned")?;
        let (mut shape, mut trans, mut shared, mut count) = (false, false, false, None);
        loop {
            let counted = words.once(&mut count, |words| {
                Ok(words.take(|word| match word {
                    "x1" => Some(1),
                    "x2" => Some(2),
                    "x4" => Some(4),
                    _ => None,
                }))
            })?;
            let marked = counted
                || words.mark(&mut shape, "m8n8")
                || words.mark(&mut trans, "trans")
                || words.mark(&mut shared, "shared")
                || words.mark(&mut shared, "shared::cta");
            if !marked {
                break;
            }
        }
        if !shape {
            words.expect("m8n8")?;
        }
        let Some(count) = count else { return words.need("a matrix count", |_| None) };
        words.expect("b16")?;
        Ok(Self { count, trans, generic: !shared })
    }
}

impl fmt::Display for MatrixMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trans = if self.trans { ".trans" } else { "" };
        let shared = if self.generic { "" } else { ".shared" };
        write!(f, ".sync.aligned.m8n8.x{}{trans}{shared}.b16", self.count)
    }
}
