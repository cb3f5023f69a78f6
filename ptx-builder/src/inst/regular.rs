//! Instructions that a row of the table describes completely.

use super::space::Space;
use super::{Arg, Form, Operand, Role, Signature, What};
use crate::ops::{Mod, Mods, Op, RegularInfo, Rounding, Spec};
use crate::target::Requires;
use crate::ty::Ty;
use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

/// A regular instruction without its operands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Regular {
    /// The row of the table. An irregular operation here is rejected by the verifier.
    pub op: Op,
    /// The type suffix, for rows that have types.
    pub ty: Option<Ty>,
    /// Modifiers.
    pub mods: Mods,
}

/// What an irregular operation in the place of a regular one is taken for.
const NO_ROW: RegularInfo = RegularInfo {
    mods: &[],
    types: &[],
    defs: &[],
    uses: &[],
    requires: Requires::BASE,
    effects: crate::ops::Effects::UNKNOWN,
};

impl Regular {
    /// An instruction without modifiers.
    pub const fn new(op: Op, ty: Option<Ty>) -> Self {
        Self { op, ty, mods: Mods::NONE }
    }

    pub(crate) fn info(&self) -> &'static RegularInfo {
        self.op.regular().unwrap_or(&NO_ROW)
    }

    pub(super) fn signature(&self) -> Signature {
        let info = self.info();
        // A row with types always has one in a verified module.
        let ty = self.ty.unwrap_or(Ty::B32);
        let wide = ty.widened().unwrap_or(ty);
        let mut signature = Signature::new(&[]);
        for spec in info.defs {
            let what = match spec {
                Spec::T => What::Reg(ty),
                Spec::W => What::Reg(wide),
                Spec::U32 | Spec::OptU32 | Spec::Pair => What::Reg(Ty::U32),
                Spec::S32 => What::Reg(Ty::S32),
                Spec::F32 => What::Reg(Ty::F32),
                Spec::B32 | Spec::R32 => What::Reg(Ty::B32),
                Spec::U64 => What::Reg(Ty::U64),
                Spec::Word => What::Word,
                Spec::P | Spec::PN => What::Pred(false),
                Spec::Imm => What::Literal,
                Spec::Global => What::Address(Space::Global),
                Spec::Shared => What::Address(Space::Shared),
                Spec::Generic => What::Address(Space::Generic),
            };
            signature.push(Arg { role: Role::Def, what, form: Form::One });
        }
        for spec in info.uses {
            let what = match spec {
                Spec::T if ty == Ty::Pred => What::Pred(false),
                Spec::T => What::Value(ty),
                Spec::W => What::Value(wide),
                Spec::U32 | Spec::OptU32 => What::Value(Ty::U32),
                Spec::S32 => What::Value(Ty::S32),
                Spec::F32 => What::Value(Ty::F32),
                Spec::B32 => What::Value(Ty::B32),
                Spec::Word => What::Word,
                Spec::R32 => What::Reg(Ty::B32),
                Spec::Pair => What::Reg(Ty::U32),
                Spec::U64 => What::Value(Ty::U64),
                Spec::P => What::Pred(false),
                Spec::PN => What::Pred(true),
                Spec::Imm => What::Literal,
                Spec::Global => What::Address(Space::Global),
                Spec::Shared => What::Address(Space::Shared),
                Spec::Generic => What::Address(Space::Generic),
            };
            let form = if *spec == Spec::OptU32 { Form::Optional } else { Form::One };
            signature.push(Arg::one(what).form(form));
        }
        signature
    }

    pub(super) fn requires(&self) -> Requires {
        self.info().requires
    }

    pub(super) fn problems(&self, operands: &[Operand], report: &mut dyn FnMut(String)) {
        let Some(info) = self.op.regular() else {
            report(format!("{:?} is not a regular instruction", self.op));
            return;
        };
        if !info.allows_type(self.ty) {
            match self.ty {
                Some(ty) => report(format!("`{}` has no form for .{ty}", self.op.mnemonic())),
                None => report(format!("`{}` needs a type", self.op.mnemonic())),
            }
        }
        if !info.allows(self.mods) {
            report(format!("`{}` does not take the modifiers `{}`", self.op.mnemonic(), self.mods));
        }
        let literal = |i: usize| match operands.get(i) {
            Some(Operand::Int(value)) => Some(*value),
            _ => None,
        };
        match self.op {
            Op::Lop3 if literal(4).is_some_and(|v| !(0..=0xFF).contains(&v)) => {
                report("the truth table of lop3 has 8 bits".to_owned());
            }
            Op::Bfe | Op::Bfi
                if positions(self.op).any(|i| literal(i).is_some_and(|v| !(0..=255).contains(&v))) =>
            {
                report("positions and lengths of bit fields are between 0 and 255".to_owned());
            }
            Op::CpAsyncCa | Op::CpAsyncCaL2 | Op::CpAsyncCg | Op::CpAsyncCgL2
                if literal(3)
                    .is_some_and(|valid| valid < 0 || literal(2).is_some_and(|bytes| valid > bytes)) =>
            {
                report("cp.async cannot read more bytes than it writes".to_owned());
            }
            Op::CpAsyncCa | Op::CpAsyncCaL2 if literal(2).is_some_and(|v| ![4, 8, 16].contains(&v)) => {
                report("cp.async.ca copies 4, 8 or 16 bytes".to_owned());
            }
            Op::CpAsyncCg | Op::CpAsyncCgL2 if literal(2).is_some_and(|v| v != 16) => {
                report("cp.async.cg copies 16 bytes".to_owned());
            }
            Op::CpAsyncWait | Op::BulkWait | Op::BulkWaitRead | Op::WgmmaWait
                if literal(0).is_some_and(|v| !(0..=63).contains(&v)) =>
            {
                report("the number of pending groups must be between 0 and 63".to_owned());
            }
            Op::BarSync
            | Op::BarArrive
            | Op::BarRedPopc
            | Op::BarRedAnd
            | Op::BarRedOr
            | Op::BarrierSync
            | Op::BarrierArrive
            | Op::BarrierRedPopc
            | Op::BarrierRedAnd
            | Op::BarrierRedOr => {
                let first = usize::from(!info.defs.is_empty());
                if literal(first).is_some_and(|v| !(0..16).contains(&v)) {
                    report("barriers are numbered 0 to 15".to_owned());
                }
                if literal(first + 1).is_some_and(|v| v <= 0 || v % 32 != 0 || v > 1024) {
                    report("the thread count of a barrier is a multiple of 32, at most 1024".to_owned());
                }
            }
            Op::ApplyPriority | Op::ApplyPriorityAny | Op::Discard | Op::DiscardAny
                if literal(1).is_some_and(|v| v != 128) =>
            {
                report("a cache line has 128 bytes".to_owned());
            }
            Op::BulkPrefetch => {
                if let Some(bytes) = literal(1) {
                    super::bulk::size_problems(bytes, report);
                }
            }
            Op::PmEvent if literal(0).is_some_and(|v| !(0..16).contains(&v)) => {
                report("performance events are numbered 0 to 15".to_owned());
            }
            Op::SetMaxNRegInc | Op::SetMaxNRegDec
                if literal(0).is_some_and(|v| !(24..=256).contains(&v) || v % 8 != 0) =>
            {
                report("setmaxnreg takes a multiple of 8 between 24 and 256".to_owned());
            }
            _ => {}
        }
    }

    /// Reads a whole mnemonic. The row with the longest fixed part that explains all of it wins.
    pub(super) fn parse(mnemonic: &str) -> Result<Self, String> {
        Self::parse_exactly(mnemonic).or_else(|error| match other_name(mnemonic) {
            Some(mnemonic) => Self::parse_exactly(&mnemonic),
            None => Err(error),
        })
    }

    fn parse_exactly(mnemonic: &str) -> Result<Self, String> {
        let rows = rows_by_head();
        let head = mnemonic.split('.').next().unwrap_or_default();
        let Some(candidates) = rows.get(head) else {
            return Err(format!("unknown instruction `{mnemonic}`"));
        };
        candidates
            .iter()
            .filter_map(|op| Self::parse_as(*op, mnemonic).map(|found| (op.mnemonic().len(), found)))
            .max_by_key(|(length, _)| *length)
            .map(|(_, found)| found)
            .ok_or_else(|| format!("unknown instruction `{mnemonic}`"))
    }

    fn parse_as(op: Op, mnemonic: &str) -> Option<Self> {
        let info = op.regular()?;
        let rest = mnemonic.strip_prefix(op.mnemonic())?;
        if !rest.is_empty() && !rest.starts_with('.') {
            return None;
        }
        let mut words: Vec<&str> = rest.split('.').skip(1).collect();
        let ty = if info.types.is_empty() { None } else { Some(Ty::parse(words.pop()?)?) };
        if info.mods.contains(&Mod::Single) && words.pop() != Some("f32") {
            return None;
        }
        // Their order is free.
        let mut mods = Mods::NONE;
        for word in words {
            match word {
                "ftz" if !mods.ftz => mods.ftz = true,
                "sat" if !mods.sat => mods.sat = true,
                _ if mods.rounding.is_some() => return None,
                _ => mods.rounding = Some(Rounding::ALL.into_iter().find(|r| r.name() == word)?),
            }
        }
        (info.allows_type(ty) && info.allows(mods)).then_some(Self { op, ty, mods })
    }
}

/// Another way to write the same instruction, which may be the one of the table.
fn other_name(mnemonic: &str) -> Option<String> {
    const SAME: &[(&str, &str)] = &[
        ("shared::cta", "shared"),
        ("param::entry", "param"),
        ("barrier.cta.", "barrier."),
        ("bar.cta.", "bar."),
        ("barrier.cluster.arrive.release", "barrier.cluster.arrive"),
        ("barrier.cluster.wait.acquire", "barrier.cluster.wait"),
        ("membar.proxy.", "fence.proxy."),
        ("fence.cta", "fence.acq_rel.cta"),
        ("fence.cluster", "fence.acq_rel.cluster"),
        ("fence.gpu", "fence.acq_rel.gpu"),
        ("fence.sys", "fence.acq_rel.sys"),
        ("ret.uni", "ret"),
    ];
    let mut name = mnemonic.to_owned();
    for (written, known) in SAME {
        name = name.replacen(written, known, 1);
    }
    // With a rounding, `mad` of single and double precision is fused.
    if let Some(rest) = name.strip_prefix("mad.")
        && (rest.ends_with(".f32") || rest.ends_with(".f64"))
    {
        name = format!("fma.{rest}");
    }
    // `.ftz` may stand before what is part of the name of the operation, such as `.approx`.
    if let Some((head, rest)) = name.split_once(".ftz.")
        && let Some((further, ty)) = rest.rsplit_once('.')
    {
        name = format!("{head}.{further}.ftz.{ty}");
    }
    // `.relu` of a minimum may stand after the type.
    if let Some((head @ ("min" | "max"), rest)) = name.split_once('.')
        && let Some(ty) = rest.strip_suffix(".relu")
    {
        name = format!("{head}.relu.{ty}");
    }
    // `bar.sync` is short for `barrier.sync.aligned`.
    if let Some(rest) = name.strip_prefix("barrier.")
        && !rest.starts_with("cluster")
        && rest.contains(".aligned")
    {
        name = format!("bar.{}", rest.replacen(".aligned", "", 1));
    }
    (name != mnemonic).then_some(name)
}

/// Where `bfe` and `bfi` have position and length.
fn positions(op: Op) -> std::ops::Range<usize> {
    if op == Op::Bfe { 2..4 } else { 3..5 }
}

fn rows_by_head() -> &'static HashMap<&'static str, Vec<Op>> {
    static ROWS: OnceLock<HashMap<&'static str, Vec<Op>>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let mut rows: HashMap<&'static str, Vec<Op>> = HashMap::new();
        for op in Op::ALL.iter().filter(|op| op.regular().is_some()) {
            let head = op.mnemonic().split('.').next().unwrap_or_default();
            rows.entry(head).or_default().push(*op);
        }
        rows
    })
}

impl fmt::Display for Regular {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.op.mnemonic(), self.mods)?;
        if self.info().mods.contains(&Mod::Single) {
            f.write_str(".f32")?;
        }
        match self.ty {
            Some(ty) => write!(f, ".{ty}"),
            None => Ok(()),
        }
    }
}
