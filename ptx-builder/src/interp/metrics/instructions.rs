//! Instructions that a launch executed.

use super::super::regs::LANES;
use crate::inst::{Kind, Regular};
use crate::ty::{Ty, TyKind};
use std::ops::AddAssign;

/// Classes of instructions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum InstClass {
    /// Integer arithmetic and bits.
    Integer,
    /// Single precision.
    Float,
    /// Half precision and bfloat16.
    Half,
    /// Double precision.
    Double,
    /// Reciprocals, roots, exponentials and their kind.
    Special,
    /// Conversions between types.
    Convert,
    /// Comparisons, selections and logic of predicates.
    Predicate,
    /// Moves, packing and unpacking.
    Move,
    /// Loads.
    Load,
    /// Stores.
    Store,
    /// Atomic operations and reductions.
    Atomic,
    /// Copies that run beside the warp.
    AsyncCopy,
    /// Shuffles, votes, matches and reductions over a warp.
    Warp,
    /// Matrix multiplication and its loads and stores.
    Matrix,
    /// Barriers, fences, mbarriers and waits.
    Sync,
    /// Branches, calls and returns.
    Control,
    /// Everything else.
    Other,
}

impl InstClass {
    /// Every class, in the order of tables.
    pub const ALL: [Self; 17] = [
        Self::Integer,
        Self::Float,
        Self::Half,
        Self::Double,
        Self::Special,
        Self::Convert,
        Self::Predicate,
        Self::Move,
        Self::Load,
        Self::Store,
        Self::Atomic,
        Self::AsyncCopy,
        Self::Warp,
        Self::Matrix,
        Self::Sync,
        Self::Control,
        Self::Other,
    ];

    /// The class of an instruction.
    pub fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Regular(regular) => Self::of_regular(regular),
            Kind::Mov(_) | Kind::Pack { .. } | Kind::Unpack { .. } => Self::Move,
            Kind::Setp(_) | Kind::Set(_) | Kind::Slct(_) => Self::Predicate,
            Kind::Cvt(_) => Self::Convert,
            Kind::Ld(_) => Self::Load,
            Kind::St(_) | Kind::StAsync(_) => Self::Store,
            Kind::Atom(_) | Kind::Red(_) => Self::Atomic,
            Kind::Shfl(_) | Kind::MatchAll(_) | Kind::Elect => Self::Warp,
            Kind::Mbarrier(_) => Self::Sync,
            Kind::BulkCopy(_) => Self::AsyncCopy,
            Kind::LdMatrix(_) | Kind::StMatrix(_) | Kind::Mma(_) | Kind::Wgmma(_) => Self::Matrix,
            Kind::WmmaLoad(_) | Kind::WmmaStore(_) | Kind::WmmaMma(_) => Self::Matrix,
            Kind::Bra { .. } | Kind::BrxIdx { .. } | Kind::Call(_) => Self::Control,
            Kind::CreatePolicy(_) | Kind::Inline { .. } => Self::Other,
        }
    }

    fn of_regular(regular: &Regular) -> Self {
        let mnemonic = regular.op.mnemonic();
        let mut words = mnemonic.split('.');
        match (words.next().unwrap_or_default(), words.next()) {
            ("rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh", _) => Self::Special,
            ("div", Some("approx" | "full")) => Self::Special,
            ("selp" | "testp" | "isspacep", _) => Self::Predicate,
            ("vote" | "match" | "redux" | "activemask", _) => Self::Warp,
            (
                "bar" | "barrier" | "membar" | "fence" | "griddepcontrol" | "nanosleep" | "setmaxnreg"
                | "wgmma",
                _,
            ) => Self::Sync,
            ("cp", Some("async")) if mnemonic.contains("wait") => Self::Sync,
            ("cp", _) => Self::AsyncCopy,
            ("movmatrix" | "mma", _) => Self::Matrix,
            ("ret" | "exit" | "trap" | "brkpt", _) => Self::Control,
            ("cvta" | "mapa" | "getctarank", _) => Self::Integer,
            ("prefetch" | "prefetchu" | "applypriority" | "discard" | "pmevent", _) => Self::Other,
            _ => match regular.ty {
                Some(Ty::Pred) => Self::Predicate,
                Some(Ty::F32) => Self::Float,
                Some(Ty::F64) => Self::Double,
                Some(ty) if ty.kind() == TyKind::SmallFloat => Self::Half,
                _ => Self::Integer,
            },
        }
    }

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Float => "f32",
            Self::Half => "f16/bf16",
            Self::Double => "f64",
            Self::Special => "special function",
            Self::Convert => "convert",
            Self::Predicate => "predicate",
            Self::Move => "move",
            Self::Load => "load",
            Self::Store => "store",
            Self::Atomic => "atomic",
            Self::AsyncCopy => "async copy",
            Self::Warp => "warp exchange",
            Self::Matrix => "matrix",
            Self::Sync => "synchronisation",
            Self::Control => "control",
            Self::Other => "other",
        }
    }
}

/// Instructions that warps executed and the lanes that took part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Executed {
    /// Instructions, each counted once for a warp.
    pub warp: u64,
    /// Instructions, each counted once for every lane that executed it.
    pub lane: u64,
}

impl Executed {
    /// The share of lanes that took part, from 0 to 1; 1 if nothing was executed.
    pub fn utilisation(self) -> f64 {
        if self.warp == 0 { 1.0 } else { self.lane as f64 / (self.warp * LANES as u64) as f64 }
    }
}

impl AddAssign for Executed {
    fn add_assign(&mut self, other: Self) {
        self.warp += other.warp;
        self.lane += other.lane;
    }
}

/// Instruction counts of a launch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InstructionCounts {
    by_class: [Executed; InstClass::ALL.len()],
    /// Branches after which a warp's lanes were at different places.
    pub divergent_branches: u64,
}

impl InstructionCounts {
    /// Counts executions of an instruction by warps, and by their lanes.
    pub(in crate::interp) fn add(&mut self, class: InstClass, executed: Executed) {
        self.by_class[class as usize] += executed;
    }

    /// How often instructions of a class were executed.
    pub fn of(&self, class: InstClass) -> Executed {
        self.by_class[class as usize]
    }

    /// All classes together.
    pub fn total(&self) -> Executed {
        let mut total = Executed::default();
        for executed in self.by_class {
            total += executed;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Target, all_ops_module};
    use std::collections::BTreeMap;

    #[test]
    fn every_instruction_has_a_class() {
        let module = all_ops_module(Target::SM_100A);
        let mut counts = InstructionCounts::default();
        let mut named = BTreeMap::new();
        for (_, inst) in module.functions.iter().flat_map(|function| function.insts()) {
            let class = InstClass::of(&inst.kind);
            counts.add(class, Executed { warp: 1, lane: 16 });
            named.insert(inst.op().info().name, class);
        }
        for class in InstClass::ALL {
            assert!(counts.of(class).warp > 0, "nothing is {}", class.name());
        }
        assert!((counts.total().utilisation() - 0.5).abs() < 1e-12);
        let expected = [
            ("Add", InstClass::Integer),
            ("FAdd", InstClass::Float),
            ("HFma", InstClass::Half),
            ("DFma", InstClass::Double),
            ("DivApprox", InstClass::Special),
            ("FDiv", InstClass::Float),
            ("Selp", InstClass::Predicate),
            ("VoteAll", InstClass::Warp),
            ("BarSync", InstClass::Sync),
        ];
        for (op, class) in expected {
            assert_eq!(named.get(op), Some(&class), "{op}");
        }
    }
}
