//! `mov` with vectors, `setp` and `cvt`.

use super::{Arg, Form, Kind, Role, Shape, Signature, What, Words, named};
use crate::target::Requires;
use crate::ty::{Ty, TyKind};
use std::fmt;

fn part_ty(ty: Ty, parts: u8) -> Ty {
    match ty.bits() / u32::from(parts.max(1)) {
        8 => Ty::B8,
        16 => Ty::B16,
        _ => Ty::B32,
    }
}

pub(super) fn pack_signature(ty: Ty, parts: u8) -> Signature {
    let part = Arg::one(What::Reg(part_ty(ty, parts))).vector(parts);
    Signature::new(&[Arg::def(ty), part])
}

pub(super) fn unpack_signature(ty: Ty, parts: u8) -> Signature {
    let part = Arg::def(part_ty(ty, parts)).vector(parts);
    Signature::new(&[part, Arg::one(What::Reg(ty))])
}

pub(super) fn pack_problems(ty: Ty, parts: u8, report: &mut dyn FnMut(String)) {
    if !matches!((ty, parts), (Ty::B32, 2) | (Ty::B64, 2 | 4)) {
        report(format!("no mov between .{ty} and a vector of {parts}"));
    }
}

pub(super) fn mov_problems(ty: Ty, report: &mut dyn FnMut(String)) {
    if ty.kind() == TyKind::SmallFloat || ty.bits() == 8 {
        report(format!("mov has no form for .{ty}"));
    }
}

pub(super) fn parse_mov(words: &mut Words<'_>, shapes: &[Shape]) -> Result<Kind, String> {
    let ty = words.ty()?;
    let parts = |n: usize| u8::try_from(n).map_err(|_| "vector too long".to_owned());
    match shapes {
        [Shape::Vector(1), Shape::One] | [Shape::One, Shape::Vector(1)] if ty.kind() == TyKind::Bits => {
            Ok(Kind::Mov(ty))
        }
        [Shape::Vector(n), _] => Ok(Kind::Unpack { ty, parts: parts(*n)? }),
        [_, Shape::Vector(n)] => Ok(Kind::Pack { ty, parts: parts(*n)? }),
        _ => Ok(Kind::Mov(ty)),
    }
}

named! {
    /// The relation that `setp` tests.
    Cmp {
        /// Equal.
        Eq = "eq",
        /// Not equal (ordered: false with a NaN).
        Ne = "ne",
        /// Less.
        Lt = "lt",
        /// Less or equal.
        Le = "le",
        /// Greater.
        Gt = "gt",
        /// Greater or equal.
        Ge = "ge",
        /// Equal, or one is a NaN.
        Equ = "equ",
        /// Not equal, or one is a NaN.
        Neu = "neu",
        /// Less, or one is a NaN.
        Ltu = "ltu",
        /// Less or equal, or one is a NaN.
        Leu = "leu",
        /// Greater, or one is a NaN.
        Gtu = "gtu",
        /// Greater or equal, or one is a NaN.
        Geu = "geu",
        /// Neither is a NaN.
        Num = "num",
        /// At least one is a NaN.
        Nan = "nan",
    }
}

impl Cmp {
    /// The next word as a comparison, and whether it is one of the names that only unsigned operands have.
    pub(super) fn parse(words: &mut Words<'_>) -> Result<(Self, bool), String> {
        words.need("a comparison", |word| match word {
            "lo" => Some((Self::Lt, true)),
            "ls" => Some((Self::Le, true)),
            "hi" => Some((Self::Gt, true)),
            "hs" => Some((Self::Ge, true)),
            _ => Some((Self::from_name(word)?, false)),
        })
    }
}

named! {
    /// How `setp` combines its comparison with a third predicate.
    Combine {
        /// Both.
        And = "and",
        /// Either.
        Or = "or",
        /// Exactly one.
        Xor = "xor",
    }
}

/// `setp.cmp{.combine}{.ftz}.ty p{|q}, a, b{, c}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Setp {
    /// The relation.
    pub cmp: Cmp,
    /// Combination with a further predicate operand.
    pub combine: Option<Combine>,
    /// Flush subnormals.
    pub ftz: bool,
    /// The type of both operands.
    pub ty: Ty,
}

impl Setp {
    pub(super) fn signature(&self) -> Signature {
        // Of halves, the assembler takes one result only.
        let form = if matches!(self.ty, Ty::F16 | Ty::BF16) { Form::One } else { Form::Pair };
        let dest = Arg { role: Role::Def, what: What::Pred(false), form };
        let mut signature = Signature::new(&[dest, Arg::value(self.ty), Arg::value(self.ty)]);
        if self.combine.is_some() {
            signature.push(Arg::one(What::Pred(true)));
        }
        signature
    }

    pub(super) fn requires(&self) -> Requires {
        match self.ty {
            Ty::F16 | Ty::F16x2 => Requires::new(4, 2, 53),
            Ty::BF16 | Ty::BF16x2 => Requires::new(7, 8, 90),
            _ => Requires::BASE,
        }
    }

    pub(super) fn problems(&self, report: &mut dyn FnMut(String)) {
        if self.ty == Ty::Pred
            || self.ty.bits() == 8
            || matches!(self.ty, Ty::TF32 | Ty::F32x2 | Ty::E4M3x2 | Ty::E5M2x2)
        {
            report(format!("setp has no form for .{}", self.ty));
        }
        if matches!(self.ty, Ty::F16x2 | Ty::BF16x2) {
            report("setp of packed halves assigns two predicates, which this IR does not model".to_owned());
        }
        let ordering = !matches!(self.cmp, Cmp::Eq | Cmp::Ne);
        let unordered = !matches!(self.cmp, Cmp::Eq | Cmp::Ne | Cmp::Lt | Cmp::Le | Cmp::Gt | Cmp::Ge);
        if self.ty.kind() == TyKind::Bits && ordering {
            report(format!("bits have no order: setp.{} of .{}", self.cmp.name(), self.ty));
        } else if self.ty.is_int() && unordered {
            report(format!("integers are never NaN: setp.{} of .{}", self.cmp.name(), self.ty));
        }
        if self.ftz && !matches!(self.ty, Ty::F32 | Ty::F16) {
            report(format!("setp of .{} does not take .ftz", self.ty));
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let (cmp, unsigned) = Cmp::parse(words)?;
        let combine = words.take(Combine::from_name);
        let ftz = words.eat("ftz");
        Self { cmp, combine, ftz, ty: words.ty()? }.named(unsigned)
    }

    /// This, unless the comparison has a name that its type has not.
    pub(super) fn named(self, unsigned: bool) -> Result<Self, String> {
        if unsigned && self.ty.kind() != TyKind::Unsigned {
            return Err(format!("`lo`, `ls`, `hi` and `hs` compare unsigned integers, not .{}", self.ty));
        }
        Ok(self)
    }
}

impl fmt::Display for Setp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setp.{}", self.cmp.name())?;
        if let Some(combine) = self.combine {
            write!(f, ".{}", combine.name())?;
        }
        write!(f, "{}.{}", if self.ftz { ".ftz" } else { "" }, self.ty)
    }
}

named! {
    /// The rounding of a conversion.
    CvtRound {
        /// Float result, to nearest even.
        Rn = "rn",
        /// Float result, towards zero.
        Rz = "rz",
        /// Float result, towards minus infinity.
        Rm = "rm",
        /// Float result, towards plus infinity.
        Rp = "rp",
        /// Float result, to nearest, ties away from zero (tf32 only).
        Rna = "rna",
        /// Integer result, to nearest even.
        Rni = "rni",
        /// Integer result, towards zero.
        Rzi = "rzi",
        /// Integer result, towards minus infinity.
        Rmi = "rmi",
        /// Integer result, towards plus infinity.
        Rpi = "rpi",
    }
}

impl CvtRound {
    /// Does it round to an integral value?
    pub const fn is_integer(self) -> bool {
        matches!(self, Self::Rni | Self::Rzi | Self::Rmi | Self::Rpi)
    }
}

/// `cvt{.round}{.ftz}{.sat}{.satfinite}{.relu}.to.from d, a{, b}`: with two operands when `to` is a packed pair, the first
/// operand in the upper half.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cvt {
    /// The type of the result.
    pub to: Ty,
    /// The type of the operand.
    pub from: Ty,
    /// Rounding; required exactly where the result may be inexact.
    pub round: Option<CvtRound>,
    /// Flush subnormals.
    pub ftz: bool,
    /// Clamp to the result's range (integers) or to 0..1 (floats).
    pub sat: bool,
    /// Clamp to the largest finite value (FP8, halves, tf32).
    pub satfinite: bool,
    /// A negative result becomes zero (FP8, halves, tf32).
    pub relu: bool,
}

impl Cvt {
    /// A conversion without modifiers but its rounding.
    pub const fn new(to: Ty, from: Ty, round: Option<CvtRound>) -> Self {
        Self { to, from, round, ftz: false, sat: false, satfinite: false, relu: false }
    }

    fn is_packed(&self) -> bool {
        matches!(self.to, Ty::F16x2 | Ty::BF16x2 | Ty::E4M3x2 | Ty::E5M2x2) && self.from == Ty::F32
    }

    pub(super) fn signature(&self) -> Signature {
        let narrow = |ty: Ty| ty.kind() == TyKind::SmallFloat && ty != Ty::F16;
        let exact = narrow(self.to) || narrow(self.from);
        let to = if exact { What::Reg(self.to) } else { What::WideReg(self.to) };
        let from = if exact { What::Value(self.from) } else { What::WideValue(self.from) };
        let dest = Arg { role: Role::Def, what: to, form: Form::One };
        let source = Arg::one(from);
        if self.is_packed() {
            Signature::new(&[dest, source, source])
        } else {
            Signature::new(&[dest, source])
        }
    }

    pub(super) fn requires(&self) -> Requires {
        let is_bf16 = |ty| ty == Ty::BF16;
        let types = match (self.to, self.from) {
            (Ty::TF32, _) if self.round != Some(CvtRound::Rna) && self.satfinite => Requires::new(8, 6, 100),
            (Ty::TF32, _) if self.round != Some(CvtRound::Rna) => Requires::new(7, 8, 90),
            (Ty::F16, Ty::F32) if self.relu => Requires::new(7, 0, 80),
            (Ty::E4M3x2 | Ty::E5M2x2, _) | (_, Ty::E4M3x2 | Ty::E5M2x2) => Requires::new(8, 1, 89),
            (Ty::F16x2 | Ty::BF16x2, _) | (Ty::TF32, _) | (Ty::BF16, Ty::F32) => Requires::new(7, 0, 80),
            (Ty::F32, Ty::BF16) => Requires::new(7, 1, 80),
            (to, from) if is_bf16(to) || is_bf16(from) => Requires::new(7, 8, 90),
            _ => Requires::BASE,
        };
        if self.satfinite { types.and(Requires::new(8, 1, 50)) } else { types }
    }

    /// What rounding the pair of types asks for.
    fn rounding(&self) -> Result<Rounds, String> {
        let scalar = |ty: Ty| matches!(ty, Ty::F16 | Ty::BF16 | Ty::F32 | Ty::F64);
        let int = |ty: Ty| ty.is_int();
        // The exponent range and precision of a scalar float: a wider format holds a narrower one exactly.
        let holds = |to: Ty, from: Ty| {
            to == from || matches!((to, from), (Ty::F64, _) | (Ty::F32, Ty::F16 | Ty::BF16))
        };
        match (self.to, self.from) {
            (to, from) if (to == Ty::BF16 || from == Ty::BF16) && (to.bits() == 8 || from.bits() == 8) => {
                Err(format!("no conversion from .{from} to .{to}"))
            }
            (to, from) if int(to) && int(from) => Ok(Rounds::Never),
            (to, from) if int(to) && scalar(from) => Ok(Rounds::ToInteger),
            (to, from) if scalar(to) && int(from) => Ok(Rounds::ToFloat),
            (to, from) if scalar(to) && scalar(from) && to == from => Ok(Rounds::MayInteger),
            (to, from) if scalar(to) && scalar(from) && holds(to, from) => Ok(Rounds::Never),
            (to, from) if scalar(to) && scalar(from) => Ok(Rounds::ToFloat),
            (Ty::F16x2 | Ty::BF16x2, Ty::F32) => Ok(Rounds::Nearest),
            (Ty::E4M3x2 | Ty::E5M2x2, Ty::F32) => Ok(Rounds::NearestOnly),
            (Ty::E4M3x2 | Ty::E5M2x2, Ty::F16x2) | (Ty::F16x2, Ty::E4M3x2 | Ty::E5M2x2) => {
                Ok(Rounds::NearestOnly)
            }
            (Ty::TF32, Ty::F32) => Ok(Rounds::NearestOrAway),
            (to, from) => Err(format!("no conversion from .{from} to .{to}")),
        }
    }

    pub(super) fn problems(&self, report: &mut dyn FnMut(String)) {
        let rounds = match self.rounding() {
            Ok(rounds) => rounds,
            Err(message) => return report(message),
        };
        let fits = match (rounds, self.round) {
            (Rounds::Never | Rounds::MayInteger, None) => true,
            (Rounds::MayInteger | Rounds::ToInteger, Some(r)) => r.is_integer(),
            (Rounds::ToFloat, Some(r)) => !r.is_integer() && r != CvtRound::Rna,
            (Rounds::Nearest, Some(r)) => matches!(r, CvtRound::Rn | CvtRound::Rz),
            (Rounds::NearestOnly, Some(r)) => r == CvtRound::Rn,
            (Rounds::NearestOrAway, Some(r)) => matches!(r, CvtRound::Rn | CvtRound::Rz | CvtRound::Rna),
            (Rounds::Never, Some(_)) | (_, None) => false,
        };
        if !fits {
            let given = self.round.map_or("none", CvtRound::name);
            report(format!(
                "rounding `{given}` does not suit a conversion from .{} to .{}",
                self.from, self.to
            ));
        }
        let fp8 = matches!(self.to, Ty::E4M3x2 | Ty::E5M2x2);
        if fp8 && !self.satfinite {
            report(format!("cvt to .{} needs .satfinite", self.to));
        }
        let clean = !self.sat && !self.ftz && matches!(self.round, Some(CvtRound::Rn | CvtRound::Rz));
        let from_single =
            self.from == Ty::F32 && matches!(self.to, Ty::F16 | Ty::BF16 | Ty::F16x2 | Ty::BF16x2);
        let tf32 = self.to == Ty::TF32;
        let away = tf32 && self.round == Some(CvtRound::Rna);
        if self.satfinite && !fp8 && !away && !(clean && (from_single || tf32)) {
            report(format!("this cvt from .{} to .{} does not take .satfinite", self.from, self.to));
        }
        let of_fp8 = matches!(self.from, Ty::E4M3x2 | Ty::E5M2x2);
        if self.relu && !(clean && (from_single || tf32 || fp8 || of_fp8)) {
            report(format!("this cvt from .{} to .{} does not take .relu", self.from, self.to));
        }
        let plain = |ty: Ty| ty.is_int() || matches!(ty, Ty::F16 | Ty::F32 | Ty::F64);
        if self.sat && !(plain(self.to) && plain(self.from) && self.can_clamp()) {
            report(format!("cvt from .{} to .{} does not take .sat", self.from, self.to));
        }
        let single = self.to == Ty::F32 || self.from == Ty::F32;
        if self.ftz && !(plain(self.to) && plain(self.from) && single) {
            report(format!("cvt from .{} to .{} does not take .ftz", self.from, self.to));
        }
    }

    /// Are there values of the source type outside the range of the result? Floats clamp to 0..1.
    fn can_clamp(&self) -> bool {
        match (self.to.kind(), self.from.kind()) {
            (TyKind::Signed, TyKind::Unsigned) => self.from.bits() >= self.to.bits(),
            (TyKind::Signed, TyKind::Signed) | (TyKind::Unsigned, TyKind::Unsigned) => {
                self.from.bits() > self.to.bits()
            }
            _ => true,
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let mut cvt = Self::new(Ty::B8, Ty::B8, None);
        // The order of the modifiers is free.
        loop {
            if cvt.round.is_none()
                && let Some(round) = words.take(CvtRound::from_name)
            {
                cvt.round = Some(round);
            } else if !cvt.ftz && words.eat("ftz") {
                cvt.ftz = true;
            } else if !cvt.sat && words.eat("sat") {
                cvt.sat = true;
            } else if !cvt.satfinite && words.eat("satfinite") {
                cvt.satfinite = true;
            } else if !cvt.relu && words.eat("relu") {
                cvt.relu = true;
            } else {
                break;
            }
        }
        (cvt.to, cvt.from) = (words.ty()?, words.ty()?);
        // Between the formats of 16 bits, no rounding is `.rn`.
        if cvt.round.is_none() && matches!((cvt.to, cvt.from), (Ty::BF16, Ty::F16) | (Ty::F16, Ty::BF16)) {
            cvt.round = Some(CvtRound::Rn);
        }
        Ok(cvt)
    }
}

/// Which roundings a pair of types takes.
#[derive(Clone, Copy)]
enum Rounds {
    /// The result is exact.
    Never,
    /// Exact, or rounded to an integral value in the same format.
    MayInteger,
    /// To an integer: `.rni` and friends.
    ToInteger,
    /// `.rn`, `.rz`, `.rm`, `.rp`.
    ToFloat,
    /// `.rn` or `.rz`.
    Nearest,
    /// `.rn`.
    NearestOnly,
    /// `.rn`, `.rz` or `.rna`.
    NearestOrAway,
}

impl fmt::Display for Cvt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cvt")?;
        if let Some(round) = self.round {
            write!(f, ".{}", round.name())?;
        }
        let modifiers =
            [(self.ftz, ".ftz"), (self.sat, ".sat"), (self.satfinite, ".satfinite"), (self.relu, ".relu")];
        for (present, name) in modifiers {
            if present {
                f.write_str(name)?;
            }
        }
        write!(f, ".{}.{}", self.to, self.from)
    }
}
