//! The table itself. Versions and targets are those of the "PTX ISA Notes" and "Target ISA Notes" of each
//! instruction in the PTX ISA manual; targets below sm_50 are written 50, as nothing older is targeted.

use super::{Effects, Mod, OpInfo, RegularInfo, Spec};
use crate::target::Requires;
use crate::ty::Ty;

macro_rules! requires {
    ($major:literal $minor:literal $sm:literal) => {
        Requires::new($major, $minor, $sm)
    };
    ($major:literal $minor:literal $sm:literal a $last:literal) => {
        Requires::specific($major, $minor, $sm, $last)
    };
    ($major:literal $minor:literal $sm:literal a) => {
        Requires::specific($major, $minor, $sm, u32::MAX)
    };
}

macro_rules! ptx_ops {
    (
        regular { $(
            $op:ident $mnemonic:literal [$($mods:ident)*] [$($ty:ident)*]
            ($($def:ident)*) <- ($($u:ident)*), $major:literal $minor:literal $sm:literal $($a:ident $($last:literal)?)?, $effects:ident;
        )* }
        irregular { $( $(#[$doc:meta])* $iop:ident $imnemonic:literal; )* }
    ) => {
        /// An instruction, without its type, modifiers and operands.
        ///
        /// Instructions that share a mnemonic but compute something else, or came at another time, are
        /// several operations: `add.s32` is [`Op::Add`], `add.rn.f32` is [`Op::FAdd`].
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Op {
            $( #[doc = concat!("`", $mnemonic, "`, PTX ISA ", $major, ".", $minor, ", sm_", $sm $(, stringify!($a))?)] $op, )*
            $( $(#[$doc])* $iop, )*
        }

        impl Op {
            /// Every operation, in table order.
            pub const ALL: &'static [Self] = &[$(Self::$op,)* $(Self::$iop,)*];

            /// The row of the table.
            pub const fn info(self) -> &'static OpInfo {
                const ROWS: &[OpInfo] = &[
                    $( OpInfo {
                        op: Op::$op,
                        name: stringify!($op),
                        mnemonic: $mnemonic,
                        regular: Some(RegularInfo {
                            mods: &[$(Mod::$mods),*],
                            types: &[$(Ty::$ty),*],
                            defs: &[$(Spec::$def),*],
                            uses: &[$(Spec::$u),*],
                            requires: requires!($major $minor $sm $($a $($last)?)?),
                            effects: Effects::$effects,
                        }),
                    }, )*
                    $( OpInfo { op: Op::$iop, name: stringify!($iop), mnemonic: $imnemonic, regular: None }, )*
                ];
                &ROWS[self as usize]
            }
        }
    };
}

// op, fixed mnemonic, modifiers, types, (defs) <- (uses), PTX ISA version and sm, effects
ptx_ops! {
regular {
    // Integer arithmetic
    Add        "add"         [] [U16 U32 U64 S16 S32 S64] (T) <- (T T), 1 0 50, PURE;
    AddSat     "add.sat"     [] [S32]                     (T) <- (T T), 1 0 50, PURE;
    Sub        "sub"         [] [U16 U32 U64 S16 S32 S64] (T) <- (T T), 1 0 50, PURE;
    SubSat     "sub.sat"     [] [S32]                     (T) <- (T T), 1 0 50, PURE;
    MulLo      "mul.lo"      [] [U16 U32 U64 S16 S32 S64] (T) <- (T T), 1 0 50, PURE;
    MulHi      "mul.hi"      [] [U16 U32 U64 S16 S32 S64] (T) <- (T T), 1 0 50, PURE;
    MulWide    "mul.wide"    [] [U16 U32 S16 S32]         (W) <- (T T), 1 0 50, PURE;
    MadLo      "mad.lo"      [] [U16 U32 U64 S16 S32 S64] (T) <- (T T T), 1 0 50, PURE;
    MadHi      "mad.hi"      [] [U16 U32 U64 S16 S32 S64] (T) <- (T T T), 1 0 50, PURE;
    MadWide    "mad.wide"    [] [U16 U32 S16 S32]         (W) <- (T T W), 1 0 50, PURE;
    Div        "div"         [] [U16 U32 U64 S16 S32 S64] (T) <- (T T), 1 0 50, PURE;
    Rem        "rem"         [] [U16 U32 U64 S16 S32 S64] (T) <- (T T), 1 0 50, PURE;
    Min        "min"         [] [U16 U32 U64 S16 S32 S64] (T) <- (T T), 1 0 50, PURE;
    Max        "max"         [] [U16 U32 U64 S16 S32 S64] (T) <- (T T), 1 0 50, PURE;
    Neg        "neg"         [] [S16 S32 S64]             (T) <- (T), 1 0 50, PURE;
    Abs        "abs"         [] [S16 S32 S64]             (T) <- (T), 1 0 50, PURE;
    Sad        "sad"         [] [U16 U32 U64 S16 S32 S64] (T) <- (T T T), 1 0 50, PURE;
    // With the carry flag of the thread: `cc` forms assign it, `c` forms add it (its complement is what `subc` subtracts)
    AddCc      "add.cc"      [] [U32 S32 U64 S64] (T) <- (T T), 1 2 50, PURE;
    AddC       "addc"        [] [U32 S32 U64 S64] (T) <- (T T), 1 2 50, PURE;
    AddCCc     "addc.cc"     [] [U32 S32 U64 S64] (T) <- (T T), 1 2 50, PURE;
    SubCc      "sub.cc"      [] [U32 S32 U64 S64] (T) <- (T T), 1 2 50, PURE;
    SubC       "subc"        [] [U32 S32 U64 S64] (T) <- (T T), 1 2 50, PURE;
    SubCCc     "subc.cc"     [] [U32 S32 U64 S64] (T) <- (T T), 1 2 50, PURE;
    MadLoCc    "mad.lo.cc"   [] [U32 S32 U64 S64] (T) <- (T T T), 4 3 50, PURE;
    MadHiCc    "mad.hi.cc"   [] [U32 S32 U64 S64] (T) <- (T T T), 4 3 50, PURE;
    MadCLo     "madc.lo"     [] [U32 S32 U64 S64] (T) <- (T T T), 4 3 50, PURE;
    MadCHi     "madc.hi"     [] [U32 S32 U64 S64] (T) <- (T T T), 4 3 50, PURE;
    MadCLoCc   "madc.lo.cc"  [] [U32 S32 U64 S64] (T) <- (T T T), 4 3 50, PURE;
    MadCHiCc   "madc.hi.cc"  [] [U32 S32 U64 S64] (T) <- (T T T), 4 3 50, PURE;
    Mul24Lo    "mul24.lo"    [] [U32 S32]         (T) <- (T T), 1 0 50, PURE;
    Mul24Hi    "mul24.hi"    [] [U32 S32]         (T) <- (T T), 1 0 50, PURE;
    Mad24Lo    "mad24.lo"    [] [U32 S32]         (T) <- (T T T), 1 0 50, PURE;
    Mad24Hi    "mad24.hi"    [] [U32 S32]         (T) <- (T T T), 1 0 50, PURE;
    MadHiSat   "mad.hi.sat"  [] [S32]             (T) <- (T T T), 1 0 50, PURE;
    // Bits
    And        "and"         [] [Pred B16 B32 B64]        (T) <- (T T), 1 0 50, PURE;
    Or         "or"          [] [Pred B16 B32 B64]        (T) <- (T T), 1 0 50, PURE;
    Xor        "xor"         [] [Pred B16 B32 B64]        (T) <- (T T), 1 0 50, PURE;
    Not        "not"         [] [Pred B16 B32 B64]        (T) <- (T), 1 0 50, PURE;
    Shl        "shl"         [] [B16 B32 B64]             (T) <- (T U32), 1 0 50, PURE;
    Shr        "shr"         [] [B16 B32 B64 U16 U32 U64 S16 S32 S64] (T) <- (T U32), 1 0 50, PURE;
    ShfLWrap   "shf.l.wrap"  [] [B32]                     (T) <- (T T U32), 3 1 50, PURE;
    ShfRWrap   "shf.r.wrap"  [] [B32]                     (T) <- (T T U32), 3 1 50, PURE;
    ShfLClamp  "shf.l.clamp" [] [B32]                     (T) <- (T T U32), 3 1 50, PURE;
    ShfRClamp  "shf.r.clamp" [] [B32]                     (T) <- (T T U32), 3 1 50, PURE;
    Popc       "popc"        [] [B32 B64]                 (U32) <- (T), 2 0 50, PURE;
    Clz        "clz"         [] [B32 B64]                 (U32) <- (T), 2 0 50, PURE;
    Brev       "brev"        [] [B32 B64]                 (T) <- (T), 2 0 50, PURE;
    Bfind      "bfind"       [] [U32 U64 S32 S64]         (U32) <- (T), 2 0 50, PURE;
    BfindShift "bfind.shiftamt" [] [U32 U64 S32 S64]      (U32) <- (T), 2 0 50, PURE;
    Cnot       "cnot"        [] [B16 B32 B64]             (T) <- (T), 1 0 50, PURE;
    Fns        "fns"         [] [B32]                     (T) <- (T U32 S32), 6 0 50, PURE;
    SzextClamp "szext.clamp" [] [U32 S32]                 (T) <- (T U32), 7 6 70, PURE;
    SzextWrap  "szext.wrap"  [] [U32 S32]                 (T) <- (T U32), 7 6 70, PURE;
    BmskClamp  "bmsk.clamp"  [] [B32]                     (U32) <- (U32 U32), 7 6 70, PURE;
    BmskWrap   "bmsk.wrap"   [] [B32]                     (U32) <- (U32 U32), 7 6 70, PURE;
    Bfe        "bfe"         [] [U32 U64 S32 S64]         (T) <- (T U32 U32), 2 0 50, PURE;
    Bfi        "bfi"         [] [B32 B64]                 (T) <- (T T U32 U32), 2 0 50, PURE;
    Lop3       "lop3"        [] [B32]                     (T) <- (T T T Imm), 4 3 50, PURE;
    Prmt       "prmt"        [] [B32]                     (T) <- (T T T), 2 0 50, PURE;
    PrmtF4e    "prmt.b32.f4e"  [] [] (B32) <- (B32 B32 B32), 2 0 50, PURE;
    PrmtB4e    "prmt.b32.b4e"  [] [] (B32) <- (B32 B32 B32), 2 0 50, PURE;
    PrmtRc8    "prmt.b32.rc8"  [] [] (B32) <- (B32 B32 B32), 2 0 50, PURE;
    PrmtEcl    "prmt.b32.ecl"  [] [] (B32) <- (B32 B32 B32), 2 0 50, PURE;
    PrmtEcr    "prmt.b32.ecr"  [] [] (B32) <- (B32 B32 B32), 2 0 50, PURE;
    PrmtRc16   "prmt.b32.rc16" [] [] (B32) <- (B32 B32 B32), 2 0 50, PURE;
    // Words clamped to fewer bits, the first above the second; below what is left of the last operand
    CvtPackU16 "cvt.pack.sat.u16.s32"    [] []            (U32) <- (S32 S32), 6 5 72, PURE;
    CvtPackS16 "cvt.pack.sat.s16.s32"    [] []            (U32) <- (S32 S32), 6 5 72, PURE;
    CvtPackU8  "cvt.pack.sat.u8.s32.b32" [] []            (U32) <- (S32 S32 Word), 6 5 72, PURE;
    CvtPackS8  "cvt.pack.sat.s8.s32.b32" [] []            (U32) <- (S32 S32 Word), 6 5 72, PURE;
    CvtPackU4  "cvt.pack.sat.u4.s32.b32" [] []            (U32) <- (S32 S32 Word), 6 5 75, PURE;
    CvtPackS4  "cvt.pack.sat.s4.s32.b32" [] []            (U32) <- (S32 S32 Word), 6 5 75, PURE;
    CvtPackU2  "cvt.pack.sat.u2.s32.b32" [] []            (U32) <- (S32 S32 Word), 6 5 75, PURE;
    CvtPackS2  "cvt.pack.sat.s2.s32.b32" [] []            (U32) <- (S32 S32 Word), 6 5 75, PURE;
    // Pairs of 16-bit integers, and no result below zero
    AddU16x2   "add.u16x2"      [] []                     (Pair) <- (Pair Pair), 8 0 90, PURE;
    AddS16x2   "add.s16x2"      [] []                     (Pair) <- (Pair Pair), 8 0 90, PURE;
    MinU16x2   "min.u16x2"      [] []                     (Pair) <- (Pair Pair), 8 0 90, PURE;
    MinS16x2   "min.s16x2"      [] []                     (Pair) <- (Pair Pair), 8 0 90, PURE;
    MaxU16x2   "max.u16x2"      [] []                     (Pair) <- (Pair Pair), 8 0 90, PURE;
    MaxS16x2   "max.s16x2"      [] []                     (Pair) <- (Pair Pair), 8 0 90, PURE;
    MinReluS16x2 "min.relu.s16x2" [] []                   (Pair) <- (Pair Pair), 8 0 90, PURE;
    MaxReluS16x2 "max.relu.s16x2" [] []                   (Pair) <- (Pair Pair), 8 0 90, PURE;
    MinRelu    "min.relu"       [] [S32]                  (T) <- (T T), 8 0 90, PURE;
    MaxRelu    "max.relu"       [] [S32]                  (T) <- (T T), 8 0 90, PURE;
    // What is left of the video instructions: absolute differences of bytes or halves, and their sum with the last operand
    AbsDiff4   "vabsdiff4.u32.u32.u32"     [] []          (Pair) <- (Pair Pair Pair), 3 0 50, PURE;
    AbsDiff4Add "vabsdiff4.u32.u32.u32.add" [] []         (Pair) <- (Pair Pair Pair), 3 0 50, PURE;
    AbsDiff2Add "vabsdiff2.u32.u32.u32.add" [] []         (Pair) <- (Pair Pair Pair), 3 0 50, PURE;
    // Dot products of bytes and of halves with bytes
    Dp4aUU     "dp4a.u32.u32"    [] [] (U32) <- (Word Word U32), 5 0 61, PURE;
    Dp4aUS     "dp4a.u32.s32"    [] [] (S32) <- (Word Word S32), 5 0 61, PURE;
    Dp4aSU     "dp4a.s32.u32"    [] [] (S32) <- (Word Word S32), 5 0 61, PURE;
    Dp4aSS     "dp4a.s32.s32"    [] [] (S32) <- (Word Word S32), 5 0 61, PURE;
    Dp2aLoUU   "dp2a.lo.u32.u32" [] [] (U32) <- (Word Word U32), 5 0 61, PURE;
    Dp2aLoUS   "dp2a.lo.u32.s32" [] [] (S32) <- (Word Word S32), 5 0 61, PURE;
    Dp2aLoSU   "dp2a.lo.s32.u32" [] [] (S32) <- (Word Word S32), 5 0 61, PURE;
    Dp2aLoSS   "dp2a.lo.s32.s32" [] [] (S32) <- (Word Word S32), 5 0 61, PURE;
    Dp2aHiUU   "dp2a.hi.u32.u32" [] [] (U32) <- (Word Word U32), 5 0 61, PURE;
    Dp2aHiUS   "dp2a.hi.u32.s32" [] [] (S32) <- (Word Word S32), 5 0 61, PURE;
    Dp2aHiSU   "dp2a.hi.s32.u32" [] [] (S32) <- (Word Word S32), 5 0 61, PURE;
    Dp2aHiSS   "dp2a.hi.s32.s32" [] [] (S32) <- (Word Word S32), 5 0 61, PURE;
    // Single and double precision
    FAdd       "add"         [Rnd Ftz Sat] [F32]          (T) <- (T T), 1 0 50, PURE;
    DAdd       "add"         [Rnd] [F64]                  (T) <- (T T), 1 0 50, PURE;
    FSub       "sub"         [Rnd Ftz Sat] [F32]          (T) <- (T T), 1 0 50, PURE;
    DSub       "sub"         [Rnd] [F64]                  (T) <- (T T), 1 0 50, PURE;
    FMul       "mul"         [Rnd Ftz Sat] [F32]          (T) <- (T T), 1 0 50, PURE;
    DMul       "mul"         [Rnd] [F64]                  (T) <- (T T), 1 0 50, PURE;
    FFma       "fma"         [RndReq Ftz Sat] [F32]       (T) <- (T T T), 2 0 50, PURE;
    DFma       "fma"         [RndReq] [F64]               (T) <- (T T T), 1 4 50, PURE;
    FDiv       "div"         [RndReq Ftz] [F32]           (T) <- (T T), 1 4 50, PURE;
    DDiv       "div"         [RndReq] [F64]               (T) <- (T T), 1 4 50, PURE;
    DivApprox  "div.approx"  [Ftz] [F32]                  (T) <- (T T), 1 4 50, PURE;
    DivFull    "div.full"    [Ftz] [F32]                  (T) <- (T T), 1 4 50, PURE;
    FRcp       "rcp"         [RndReq Ftz] [F32]           (T) <- (T), 1 4 50, PURE;
    DRcp       "rcp"         [RndReq] [F64]               (T) <- (T), 1 4 50, PURE;
    RcpApprox  "rcp.approx"  [Ftz] [F32]                  (T) <- (T), 1 4 50, PURE;
    DRcpApprox "rcp.approx.ftz" [] [F64]                  (T) <- (T), 2 1 50, PURE;
    FSqrt      "sqrt"        [RndReq Ftz] [F32]           (T) <- (T), 1 4 50, PURE;
    DSqrt      "sqrt"        [RndReq] [F64]               (T) <- (T), 1 4 50, PURE;
    SqrtApprox "sqrt.approx" [Ftz] [F32]                  (T) <- (T), 1 4 50, PURE;
    RsqrtApprox "rsqrt.approx" [Ftz] [F32]                (T) <- (T), 1 4 50, PURE;
    DRsqrtApprox "rsqrt.approx" [] [F64]                  (T) <- (T), 1 4 50, PURE;
    DRsqrtApproxFtz "rsqrt.approx.ftz" [] [F64]           (T) <- (T), 4 0 50, PURE;
    Ex2Approx  "ex2.approx"  [Ftz] [F32]                  (T) <- (T), 1 4 50, PURE;
    Lg2Approx  "lg2.approx"  [Ftz] [F32]                  (T) <- (T), 1 4 50, PURE;
    SinApprox  "sin.approx"  [Ftz] [F32]                  (T) <- (T), 1 4 50, PURE;
    CosApprox  "cos.approx"  [Ftz] [F32]                  (T) <- (T), 1 4 50, PURE;
    TanhApprox "tanh.approx" [] [F32]                     (T) <- (T), 7 0 75, PURE;
    FMin       "min"         [Ftz] [F32]                  (T) <- (T T), 1 0 50, PURE;
    FMax       "max"         [Ftz] [F32]                  (T) <- (T T), 1 0 50, PURE;
    DMin       "min"         [] [F64]                     (T) <- (T T), 1 0 50, PURE;
    DMax       "max"         [] [F64]                     (T) <- (T T), 1 0 50, PURE;
    FMinNan    "min.NaN"     [] [F32]                     (T) <- (T T), 7 0 80, PURE;
    FMaxNan    "max.NaN"     [] [F32]                     (T) <- (T T), 7 0 80, PURE;
    FMinFtzNan "min.ftz.NaN" [] [F32]                     (T) <- (T T), 7 0 80, PURE;
    FMaxFtzNan "max.ftz.NaN" [] [F32]                     (T) <- (T T), 7 0 80, PURE;
    FNeg       "neg"         [Ftz] [F32]                  (T) <- (T), 1 0 50, PURE;
    DNeg       "neg"         [] [F64]                     (T) <- (T), 1 0 50, PURE;
    FAbs       "abs"         [Ftz] [F32]                  (T) <- (T), 1 0 50, PURE;
    DAbs       "abs"         [] [F64]                     (T) <- (T), 1 0 50, PURE;
    Copysign   "copysign"    [] [F32 F64]                 (T) <- (T T), 2 0 50, PURE;
    TestpFinite "testp.finite" [] [F32 F64]               (P) <- (T), 2 0 50, PURE;
    TestpNan   "testp.notanumber" [] [F32 F64]            (P) <- (T), 2 0 50, PURE;
    TestpInf   "testp.infinite"  [] [F32 F64]             (P) <- (T), 2 0 50, PURE;
    TestpNumber "testp.number"   [] [F32 F64]             (P) <- (T), 2 0 50, PURE;
    TestpNormal "testp.normal"   [] [F32 F64]             (P) <- (T), 2 0 50, PURE;
    TestpSubnormal "testp.subnormal" [] [F32 F64]         (P) <- (T), 2 0 50, PURE;
    // Half precision and bfloat16
    HAdd       "add"         [Rn Ftz Sat] [F16 F16x2]     (T) <- (T T), 4 2 53, PURE;
    HSub       "sub"         [Rn Ftz Sat] [F16 F16x2]     (T) <- (T T), 4 2 53, PURE;
    HMul       "mul"         [Rn Ftz Sat] [F16 F16x2]     (T) <- (T T), 4 2 53, PURE;
    HFma       "fma.rn"      [Ftz Sat] [F16 F16x2]        (T) <- (T T T), 4 2 53, PURE;
    HNeg       "neg"         [Ftz] [F16 F16x2]            (T) <- (T), 6 0 53, PURE;
    HAbs       "abs"         [Ftz] [F16 F16x2]            (T) <- (T), 6 5 53, PURE;
    HMin       "min"         [Ftz] [F16 F16x2]            (T) <- (T T), 7 0 80, PURE;
    HMax       "max"         [Ftz] [F16 F16x2]            (T) <- (T T), 7 0 80, PURE;
    HMinNan    "min.NaN"     [] [F16 F16x2]               (T) <- (T T), 7 0 80, PURE;
    HMaxNan    "max.NaN"     [] [F16 F16x2]               (T) <- (T T), 7 0 80, PURE;
    HMinFtzNan "min.ftz.NaN" [] [F16 F16x2]               (T) <- (T T), 7 0 80, PURE;
    HMaxFtzNan "max.ftz.NaN" [] [F16 F16x2]               (T) <- (T T), 7 0 80, PURE;
    HFmaRelu   "fma.rn.relu" [] [F16 F16x2]               (T) <- (T T T), 7 0 80, PURE;
    HFmaFtzRelu "fma.rn.ftz.relu" [] [F16 F16x2]          (T) <- (T T T), 7 0 80, PURE;
    HEx2Approx "ex2.approx"  [] [F16 F16x2]               (T) <- (T), 7 0 75, PURE;
    HTanhApprox "tanh.approx" [] [F16 F16x2]              (T) <- (T), 7 0 75, PURE;
    BAdd       "add"         [Rn] [BF16 BF16x2]           (T) <- (T T), 7 8 90, PURE;
    BSub       "sub"         [Rn] [BF16 BF16x2]           (T) <- (T T), 7 8 90, PURE;
    BMul       "mul"         [Rn] [BF16 BF16x2]           (T) <- (T T), 7 8 90, PURE;
    BFma       "fma.rn"      [] [BF16 BF16x2]             (T) <- (T T T), 7 0 80, PURE;
    BNeg       "neg"         [] [BF16 BF16x2]             (T) <- (T), 7 0 80, PURE;
    BAbs       "abs"         [] [BF16 BF16x2]             (T) <- (T), 7 0 80, PURE;
    BMin       "min"         [] [BF16 BF16x2]             (T) <- (T T), 7 0 80, PURE;
    BMax       "max"         [] [BF16 BF16x2]             (T) <- (T T), 7 0 80, PURE;
    BMinNan    "min.NaN"     [] [BF16 BF16x2]             (T) <- (T T), 7 0 80, PURE;
    BMaxNan    "max.NaN"     [] [BF16 BF16x2]             (T) <- (T T), 7 0 80, PURE;
    BFmaRelu   "fma.rn.relu" [] [BF16 BF16x2]             (T) <- (T T T), 7 0 80, PURE;
    BEx2Approx "ex2.approx.ftz" [] [BF16 BF16x2]          (T) <- (T), 7 8 90, PURE;
    BTanhApprox "tanh.approx" [] [BF16 BF16x2]            (T) <- (T), 7 8 90, PURE;
    // Pairs of singles
    PAdd       "add"         [Rnd Ftz] [F32x2]            (T) <- (T T), 8 6 100, PURE;
    PSub       "sub"         [Rnd Ftz] [F32x2]            (T) <- (T T), 8 6 100, PURE;
    PMul       "mul"         [Rnd Ftz] [F32x2]            (T) <- (T T), 8 6 100, PURE;
    PFma       "fma"         [RndReq Ftz] [F32x2]         (T) <- (T T T), 8 6 100, PURE;
    // Singles with halves and bfloat16
    MixAdd     "add"         [Rnd Sat Single] [F16 BF16]  (F32) <- (T F32), 8 6 100, PURE;
    MixSub     "sub"         [Rnd Sat Single] [F16 BF16]  (F32) <- (T F32), 8 6 100, PURE;
    MixFma     "fma"         [RndReq Sat Single] [F16 BF16] (F32) <- (T T F32), 8 6 100, PURE;
    // Selection
    Selp       "selp"        [] [B16 B32 B64 U16 U32 U64 S16 S32 S64 F32 F64] (T) <- (T T P), 1 0 50, PURE;
    // Warp
    VoteAll    "vote.sync.all.pred"   [] [] (P) <- (PN Word), 6 0 50, EXCHANGE;
    VoteAny    "vote.sync.any.pred"   [] [] (P) <- (PN Word), 6 0 50, EXCHANGE;
    VoteUni    "vote.sync.uni.pred"   [] [] (P) <- (PN Word), 6 0 50, EXCHANGE;
    VoteBallot "vote.sync.ballot.b32" [] [] (B32) <- (PN Word), 6 0 50, EXCHANGE;
    MatchAny   "match.any.sync"  [] [B32 B64]             (U32) <- (T Word), 6 0 70, EXCHANGE;
    ReduxAdd   "redux.sync.add"  [] [U32 S32]             (T) <- (T Word), 7 0 80, EXCHANGE;
    ReduxMin   "redux.sync.min"  [] [U32 S32]             (T) <- (T Word), 7 0 80, EXCHANGE;
    ReduxMax   "redux.sync.max"  [] [U32 S32]             (T) <- (T Word), 7 0 80, EXCHANGE;
    ReduxAnd   "redux.sync.and"  [] [B32]                 (U32) <- (Word Word), 7 0 80, EXCHANGE;
    ReduxOr    "redux.sync.or"   [] [B32]                 (U32) <- (Word Word), 7 0 80, EXCHANGE;
    ReduxXor   "redux.sync.xor"  [] [B32]                 (U32) <- (Word Word), 7 0 80, EXCHANGE;
    FReduxMin  "redux.sync.min"  [] [F32]                 (T) <- (T Word), 8 6 100 a 103, EXCHANGE;
    FReduxMax  "redux.sync.max"  [] [F32]                 (T) <- (T Word), 8 6 100 a 103, EXCHANGE;
    ActiveMask "activemask.b32"  [] []                    (B32) <- (), 6 2 50, EXCHANGE;
    BarWarpSync "bar.warp.sync"  [] []                    () <- (Word), 6 0 50, SYNC;
    MovMatrix  "movmatrix.sync.aligned.m8n8.trans.b16" [] [] (B32) <- (R32), 7 8 75, EXCHANGE;
    // Block barriers
    BarSync    "bar.sync"        [] []                    () <- (U32 OptU32), 1 0 50, SYNC;
    BarArrive  "bar.arrive"      [] []                    () <- (U32 U32), 2 0 50, SYNC;
    BarRedPopc "bar.red.popc.u32" [] []                   (U32) <- (U32 PN), 2 0 50, SYNC;
    BarRedAnd  "bar.red.and.pred" [] []                   (P) <- (U32 PN), 2 0 50, SYNC;
    BarRedOr   "bar.red.or.pred"  [] []                   (P) <- (U32 PN), 2 0 50, SYNC;
    // The same without the promise that all threads of a warp execute it together
    BarrierSync    "barrier.sync"    [] []                () <- (U32 OptU32), 6 0 50, SYNC;
    BarrierArrive  "barrier.arrive"  [] []                () <- (U32 U32), 6 0 50, SYNC;
    BarrierRedPopc "barrier.red.popc.u32" [] []           (U32) <- (U32 PN), 6 0 50, SYNC;
    BarrierRedAnd  "barrier.red.and.pred" [] []           (P) <- (U32 PN), 6 0 50, SYNC;
    BarrierRedOr   "barrier.red.or.pred"  [] []           (P) <- (U32 PN), 6 0 50, SYNC;
    // Clusters
    ClusterArrive               "barrier.cluster.arrive"                 [] [] () <- (), 7 8 90, SYNC;
    ClusterArriveAligned        "barrier.cluster.arrive.aligned"         [] [] () <- (), 7 8 90, SYNC;
    ClusterArriveRelaxed        "barrier.cluster.arrive.relaxed"         [] [] () <- (), 8 0 90, SYNC;
    ClusterArriveRelaxedAligned "barrier.cluster.arrive.relaxed.aligned" [] [] () <- (), 8 0 90, SYNC;
    ClusterWait                 "barrier.cluster.wait"                   [] [] () <- (), 7 8 90, SYNC;
    ClusterWaitAligned          "barrier.cluster.wait.aligned"           [] [] () <- (), 7 8 90, SYNC;
    Mapa             "mapa"                       [] [U64]     (T) <- (T U32), 7 8 90, PURE;
    MapaShared       "mapa.shared::cluster"       [] [U32 U64] (T) <- (T U32), 7 8 90, PURE;
    GetCtaRank       "getctarank"                 [] [U64]     (U32) <- (T), 7 8 90, PURE;
    GetCtaRankShared "getctarank.shared::cluster" [] [U32 U64] (U32) <- (T), 7 8 90, PURE;
    // Memory order
    MembarCta  "membar.cta"      [] [] () <- (), 1 4 50, SYNC;
    MembarGl   "membar.gl"       [] [] () <- (), 1 4 50, SYNC;
    MembarSys  "membar.sys"      [] [] () <- (), 2 0 50, SYNC;
    FenceAcqRelCta     "fence.acq_rel.cta"     [] [] () <- (), 6 0 70, SYNC;
    FenceAcqRelCluster "fence.acq_rel.cluster" [] [] () <- (), 7 8 90, SYNC;
    FenceAcqRelGpu     "fence.acq_rel.gpu"     [] [] () <- (), 6 0 70, SYNC;
    FenceAcqRelSys     "fence.acq_rel.sys"     [] [] () <- (), 6 0 70, SYNC;
    FenceScCta         "fence.sc.cta"          [] [] () <- (), 6 0 70, SYNC;
    FenceScCluster     "fence.sc.cluster"      [] [] () <- (), 7 8 90, SYNC;
    FenceScGpu         "fence.sc.gpu"          [] [] () <- (), 6 0 70, SYNC;
    FenceScSys         "fence.sc.sys"          [] [] () <- (), 6 0 70, SYNC;
    FenceAcquireCta "fence.acquire.cta" [] [] () <- (), 8 6 90, SYNC;
    FenceAcquireCluster "fence.acquire.cluster" [] [] () <- (), 8 6 90, SYNC;
    FenceAcquireGpu "fence.acquire.gpu" [] [] () <- (), 8 6 90, SYNC;
    FenceAcquireSys "fence.acquire.sys" [] [] () <- (), 8 6 90, SYNC;
    FenceReleaseCta "fence.release.cta" [] [] () <- (), 8 6 90, SYNC;
    FenceReleaseCluster "fence.release.cluster" [] [] () <- (), 8 6 90, SYNC;
    FenceReleaseGpu "fence.release.gpu" [] [] () <- (), 8 6 90, SYNC;
    FenceReleaseSys "fence.release.sys" [] [] () <- (), 8 6 90, SYNC;
    FenceMbarrierInit  "fence.mbarrier_init.release.cluster" [] [] () <- (), 8 0 90, SYNC;
    FenceProxyAlias    "fence.proxy.alias"                 [] [] () <- (), 7 5 70, SYNC;
    FenceProxyAsync    "fence.proxy.async"                 [] [] () <- (), 8 0 90, SYNC;
    FenceProxyAsyncGlobal  "fence.proxy.async.global"      [] [] () <- (), 8 0 90, SYNC;
    FenceProxyAsyncShared  "fence.proxy.async.shared::cta" [] [] () <- (), 8 0 90, SYNC;
    FenceProxyAsyncCluster "fence.proxy.async.shared::cluster" [] [] () <- (), 8 0 90, SYNC;
    // Addresses
    CvtaGlobal   "cvta.global"    [] [U64] (T) <- (T), 2 0 50, PURE;
    CvtaShared   "cvta.shared"    [] [U64] (T) <- (T), 2 0 50, PURE;
    CvtaLocal    "cvta.local"     [] [U64] (T) <- (T), 2 0 50, PURE;
    CvtaConst    "cvta.const"     [] [U64] (T) <- (T), 3 1 50, PURE;
    CvtaToGlobal "cvta.to.global" [] [U64] (T) <- (T), 2 0 50, PURE;
    CvtaToShared "cvta.to.shared" [] [U64] (T) <- (T), 2 0 50, PURE;
    CvtaToLocal  "cvta.to.local"  [] [U64] (T) <- (T), 2 0 50, PURE;
    CvtaToConst  "cvta.to.const"  [] [U64] (T) <- (T), 3 1 50, PURE;
    CvtaParam    "cvta.param"     [] [U64] (T) <- (T), 7 7 70, PURE;
    CvtaToParam  "cvta.to.param"  [] [U64] (T) <- (T), 7 7 70, PURE;
    CvtaCluster  "cvta.shared::cluster"    [] [U64] (T) <- (T), 7 8 90, PURE;
    CvtaToCluster "cvta.to.shared::cluster" [] [U64] (T) <- (T), 7 8 90, PURE;
    IsConst    "isspacep.const"  [] [] (P) <- (U64), 3 1 50, PURE;
    IsParam    "isspacep.param"  [] [] (P) <- (U64), 7 7 70, PURE;
    IsCluster  "isspacep.shared::cluster" [] [] (P) <- (U64), 7 8 90, PURE;
    IsGlobal   "isspacep.global" [] [] (P) <- (U64), 2 0 50, PURE;
    IsShared   "isspacep.shared" [] [] (P) <- (U64), 2 0 50, PURE;
    IsLocal    "isspacep.local"  [] [] (P) <- (U64), 2 0 50, PURE;
    // Asynchronous copies and prefetch
    CpAsyncCa     "cp.async.ca.shared.global"          [] [] () <- (Shared Global Imm OptU32), 7 0 80, COPY;
    CpAsyncCg     "cp.async.cg.shared.global"          [] [] () <- (Shared Global Imm OptU32), 7 0 80, COPY;
    CpAsyncCaL2   "cp.async.ca.shared.global.L2::128B" [] [] () <- (Shared Global Imm OptU32), 7 4 80, COPY;
    CpAsyncCgL2   "cp.async.cg.shared.global.L2::128B" [] [] () <- (Shared Global Imm OptU32), 7 4 80, COPY;
    CpAsyncCommit "cp.async.commit_group" [] [] () <- (), 7 0 80, SYNC;
    CpAsyncWait   "cp.async.wait_group"   [] [] () <- (Imm), 7 0 80, SYNC;
    CpAsyncWaitAll "cp.async.wait_all"    [] [] () <- (), 7 0 80, SYNC;
    CpAsyncArrive             "cp.async.mbarrier.arrive.b64"              [] [] () <- (Generic), 7 0 80, ATOMIC;
    CpAsyncArriveShared       "cp.async.mbarrier.arrive.shared.b64"       [] [] () <- (Shared), 7 0 80, ATOMIC;
    CpAsyncArriveNoInc        "cp.async.mbarrier.arrive.noinc.b64"        [] [] () <- (Generic), 7 0 80, ATOMIC;
    CpAsyncArriveNoIncShared  "cp.async.mbarrier.arrive.noinc.shared.b64" [] [] () <- (Shared), 7 0 80, ATOMIC;
    BulkCommit    "cp.async.bulk.commit_group"    [] [] () <- (), 8 0 90, SYNC;
    BulkWait      "cp.async.bulk.wait_group"      [] [] () <- (Imm), 8 0 90, SYNC;
    BulkWaitRead  "cp.async.bulk.wait_group.read" [] [] () <- (Imm), 8 0 90, SYNC;
    BulkPrefetch  "cp.async.bulk.prefetch.L2.global" [] [] () <- (Global U32), 8 0 90, READ;
    PrefetchL1    "prefetch.global.L1"    [] [] () <- (Global), 2 0 50, READ;
    PrefetchL2    "prefetch.global.L2"    [] [] () <- (Global), 2 0 50, READ;
    PrefetchAnyL1 "prefetch.L1"  [] [] () <- (Generic), 2 0 50, READ;
    PrefetchAnyL2 "prefetch.L2"  [] [] () <- (Generic), 2 0 50, READ;
    PrefetchUniform "prefetchu.L1" [] [] () <- (Generic), 2 0 50, READ;
    PrefetchLast   "prefetch.global.L2::evict_last"   [] [] () <- (Global), 7 4 80, READ;
    PrefetchNormal "prefetch.global.L2::evict_normal" [] [] () <- (Global), 7 4 80, READ;
    ApplyPriority  "applypriority.global.L2::evict_normal" [] [] () <- (Global Imm), 7 4 80, READ;
    ApplyPriorityAny "applypriority.L2::evict_normal" [] [] () <- (Generic Imm), 7 4 80, READ;
    Discard        "discard.global.L2" [] [] () <- (Global Imm), 7 4 80, WRITE;
    DiscardAny     "discard.L2"        [] [] () <- (Generic Imm), 7 4 80, WRITE;
    // Grid and thread
    GridDepWait   "griddepcontrol.wait" [] [] () <- (), 7 8 90, SYNC;
    GridDepLaunch "griddepcontrol.launch_dependents" [] [] () <- (), 7 8 90, SYNC;
    SetMaxNRegInc "setmaxnreg.inc.sync.aligned.u32" [] [] () <- (Imm), 8 0 90 a, SYNC;
    SetMaxNRegDec "setmaxnreg.dec.sync.aligned.u32" [] [] () <- (Imm), 8 0 90 a, SYNC;
    WgmmaFence    "wgmma.fence.sync.aligned"        [] [] () <- (),    8 0 90 a 90, SYNC;
    WgmmaCommit   "wgmma.commit_group.sync.aligned" [] [] () <- (),    8 0 90 a 90, SYNC;
    WgmmaWait     "wgmma.wait_group.sync.aligned"   [] [] () <- (Imm), 8 0 90 a 90, SYNC;
    Nanosleep     "nanosleep.u32"       [] [] () <- (U32), 6 3 70, SYNC;
    Brkpt         "brkpt"   [] [] () <- (), 1 0 50, SYNC;
    PmEvent       "pmevent" [] [] () <- (Imm), 1 4 50, SYNC;
    Ret           "ret"  [] [] () <- (), 1 0 50, END;
    Exit          "exit" [] [] () <- (), 1 0 50, END;
    Trap          "trap" [] [] () <- (), 1 0 50, END;
}
irregular {
    /// `mov`: register, literal, special register or the address of a symbol.
    Mov "mov";
    /// `mov` of a vector into one wider register.
    Pack "mov";
    /// `mov` of a register into a vector of narrower ones.
    Unpack "mov";
    /// `setp`.
    Setp "setp";
    /// `set`.
    Set "set";
    /// `slct`.
    Slct "slct";
    /// `createpolicy.fractional`.
    CreatePolicy "createpolicy";
    /// `cvt`.
    Cvt "cvt";
    /// `ld`.
    Ld "ld";
    /// `st`.
    St "st";
    /// `atom`.
    Atom "atom";
    /// `red`.
    Red "red";
    /// `st.async`.
    StAsync "st.async";
    /// `shfl.sync`.
    Shfl "shfl";
    /// `match.all.sync`.
    MatchAll "match";
    /// `elect.sync`.
    Elect "elect";
    /// `mbarrier`.
    Mbarrier "mbarrier";
    /// `cp.async.bulk`.
    BulkCopy "cp.async.bulk";
    /// `ldmatrix`.
    LdMatrix "ldmatrix";
    /// `stmatrix`.
    StMatrix "stmatrix";
    /// See [`crate::WmmaMove`].
    WmmaLoad "wmma";
    /// See [`crate::WmmaMove`].
    WmmaStore "wmma";
    /// See [`crate::WmmaProduct`].
    WmmaMma "wmma";
    /// `mma.sync`.
    Mma "mma";
    /// `wgmma.mma_async`.
    Wgmma "wgmma";
    /// `bra`.
    Bra "bra";
    /// `brx.idx`.
    BrxIdx "brx.idx";
    /// `call`.
    Call "call";
    /// Text that the IR does not understand.
    Inline "";
}
}
