//! Instructions: a [`Kind`] (what is computed), its operands, a guard and a comment.
//!
//! Everything that walks instructions (printer, parser, uses and defs, verifier, interpreters) goes
//! through two queries: [`Kind::signature`] says what each operand must be and how operands are grouped
//! in the text, and `Display` of [`Kind`] is the full mnemonic. Regular instructions answer from the table
//! of [`crate::ops`]; each irregular family answers in its own file.

mod atomic;
mod bulk;
mod call;
mod convert;
mod descriptor;
mod matrix;
mod mbarrier;
mod memory;
mod operand;
mod policy;
mod regular;
mod select;
mod signature;
mod space;
mod special;
mod store_async;
mod warp;
mod wgmma;
mod wmma;
mod words;

pub use atomic::{Atom, AtomOp, AtomOrder, Red};
pub use bulk::{BulkCompletion, BulkCopy};
pub use call::{Call, Callee};
pub use convert::{Cmp, Combine, Cvt, CvtRound, Setp};
pub use descriptor::{MatrixDescriptor, Swizzle};
pub use matrix::{MatrixElement, MatrixMove, MmaShape};
pub use mbarrier::{Mbarrier, MbarrierOp};
pub use memory::{Ld, St};
pub use operand::{Address, Base, Operand};
pub use policy::{CreatePolicy, LevelTwoEviction};
pub use regular::Regular;
pub use select::{Set, Slct};
pub use signature::{Arg, Form, Role, Signature, What};
pub use space::{Cache, LevelOneEviction, LevelTwoPrefetch, MemOrder, Scope, Space, Width};
pub use special::SpecialReg;
pub use store_async::StAsync;
pub use warp::ShflMode;
pub use wgmma::Wgmma;
pub use wmma::{MatrixLayout, WmmaMatrix, WmmaMove, WmmaProduct, WmmaShape};
pub(crate) use words::{Shape, Words, named};

use crate::ids::{BlockId, RegId, TargetsId};
use crate::ops::{Effects, Op};
use crate::target::Requires;
use crate::ty::Ty;
use std::fmt;

/// `@%p0` or `@!%p0` before an instruction: it happens only in threads whose predicate says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Guard {
    /// The predicate register.
    pub pred: RegId,
    /// Whether the instruction happens where the predicate is false.
    pub negated: bool,
}

/// What an instruction computes, without its operands.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A row of the table.
    Regular(Regular),
    /// `mov.ty d, a`: a register, literal, special register or symbol address.
    Mov(Ty),
    /// `mov.ty d, {a, b, ..}`: `parts` registers into one, the first in the lowest bits.
    Pack {
        /// `b32` or `b64`.
        ty: Ty,
        /// 2 or 4.
        parts: u8,
    },
    /// `mov.ty {d, e, ..}, a`: one register into `parts`, the lowest bits first.
    Unpack {
        /// `b32` or `b64`.
        ty: Ty,
        /// 2 or 4.
        parts: u8,
    },
    /// Comparison.
    Setp(Setp),
    /// Comparison with a number for its result.
    Set(Set),
    /// Selection by a sign.
    Slct(Slct),
    /// `createpolicy.fractional`.
    CreatePolicy(CreatePolicy),
    /// Conversion.
    Cvt(Cvt),
    /// Load.
    Ld(Ld),
    /// Store.
    St(St),
    /// `st.async`.
    StAsync(StAsync),
    /// Atomic read-modify-write that returns the old value.
    Atom(Atom),
    /// Atomic read-modify-write without a result.
    Red(Red),
    /// `shfl.sync.mode.b32 d|p, a, b, c, mask`.
    Shfl(ShflMode),
    /// `match.all.sync.ty d|p, a, mask`.
    MatchAll(Ty),
    /// `elect.sync d|p, mask`: one lane of the mask gets true; `d` is its number.
    Elect,
    /// `mbarrier`.
    Mbarrier(Mbarrier),
    /// `cp.async.bulk`.
    BulkCopy(BulkCopy),
    /// `ldmatrix`.
    LdMatrix(MatrixMove),
    /// `stmatrix`.
    StMatrix(MatrixMove),
    /// `mma.sync`.
    Mma(MmaShape),
    /// `wgmma.mma_async`.
    Wgmma(Wgmma),
    /// `wmma.load`.
    WmmaLoad(WmmaMove),
    /// `wmma.store`.
    WmmaStore(WmmaMove),
    /// `wmma.mma`.
    WmmaMma(WmmaProduct),
    /// Jump; with a guard, conditional.
    Bra {
        /// All threads that reach it agree.
        uni: bool,
    },
    /// Jump through a table of targets, by the index in the operand: `brx.idx a, targets`.
    BrxIdx {
        /// All threads that reach it agree.
        uni: bool,
        /// The table.
        targets: TargetsId,
    },
    /// Call of a device function.
    Call(Call),
    /// Text that the IR does not understand. The operands are its `defs` results, then its inputs; in the
    /// text registers are written by number (`%r3`), whatever their names.
    Inline {
        /// The PTX text, one or several statements.
        text: Box<str>,
        /// How many of the operands it defines.
        defs: u8,
    },
}

/// An instruction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Inst {
    /// In which threads it happens; `None` for all.
    pub guard: Option<Guard>,
    /// What it computes.
    pub kind: Kind,
    /// Results first, then operands, in the order of the text.
    pub operands: Vec<Operand>,
    /// Printed as `//` lines above the instruction.
    pub comment: Option<Box<str>>,
}

impl Inst {
    /// An unguarded instruction without a comment.
    pub fn new(kind: Kind, operands: Vec<Operand>) -> Self {
        Self { guard: None, kind, operands, comment: None }
    }

    /// The operation.
    pub fn op(&self) -> Op {
        self.kind.op()
    }

    /// The registers that it assigns.
    pub fn defs(&self) -> impl Iterator<Item = RegId> + '_ {
        let defs = self.kind.signature(&self.operands).def_operands();
        self.operands.iter().take(defs).filter_map(|operand| match operand {
            Operand::Reg(reg) => Some(*reg),
            _ => None,
        })
    }

    /// The registers that it reads: operands, address bases and the guard; the results, too, where it adds to them.
    pub fn uses(&self) -> impl Iterator<Item = RegId> + '_ {
        let adds = matches!(self.kind, Kind::Wgmma(wgmma) if wgmma.reads_results(&self.operands));
        let first = if adds { 0 } else { self.kind.signature(&self.operands).def_operands() };
        self.operands.iter().skip(first).filter_map(Operand::register).chain(self.guard.map(|g| g.pred))
    }

    /// Replaces every register that it reads or assigns.
    pub fn map_registers(&mut self, mut replace: impl FnMut(Role, RegId) -> RegId) {
        let defs = self.kind.signature(&self.operands).def_operands();
        for (i, operand) in self.operands.iter_mut().enumerate() {
            let role = if i < defs { Role::Def } else { Role::Use };
            if let Some(reg) = operand.register_mut() {
                *reg = replace(role, *reg);
            }
        }
        if let Some(guard) = &mut self.guard {
            guard.pred = replace(Role::Use, guard.pred);
        }
    }

    /// The PTX ISA version and target that it needs.
    pub fn requires(&self) -> Requires {
        self.operands.iter().fold(self.kind.requires(), |requires, operand| match operand {
            Operand::Special(special) => requires.and(special.requires()),
            _ => requires,
        })
    }

    /// The target of `bra`; [`crate::Function::jump_targets`] has those of `brx.idx` too.
    pub fn target(&self) -> Option<BlockId> {
        self.operands.iter().find_map(|operand| match operand {
            Operand::Label(block) => Some(*block),
            _ => None,
        })
    }

    /// Does it end its block? Guarded jumps and exits do too: control goes on in the next block.
    pub fn is_terminator(&self) -> bool {
        self.kind.effects().terminates
    }

    /// After it, can control go on to the next block?
    pub fn falls_through(&self) -> bool {
        !self.is_terminator() || self.guard.is_some()
    }
}

impl Kind {
    /// The operation.
    pub fn op(&self) -> Op {
        match self {
            Self::Regular(regular) => regular.op,
            Self::Mov(_) => Op::Mov,
            Self::Pack { .. } => Op::Pack,
            Self::Unpack { .. } => Op::Unpack,
            Self::Setp(_) => Op::Setp,
            Self::Set(_) => Op::Set,
            Self::Slct(_) => Op::Slct,
            Self::CreatePolicy(_) => Op::CreatePolicy,
            Self::Cvt(_) => Op::Cvt,
            Self::Ld(_) => Op::Ld,
            Self::St(_) => Op::St,
            Self::StAsync(_) => Op::StAsync,
            Self::Atom(_) => Op::Atom,
            Self::Red(_) => Op::Red,
            Self::Shfl(_) => Op::Shfl,
            Self::MatchAll(_) => Op::MatchAll,
            Self::Elect => Op::Elect,
            Self::Mbarrier(_) => Op::Mbarrier,
            Self::BulkCopy(_) => Op::BulkCopy,
            Self::LdMatrix(_) => Op::LdMatrix,
            Self::StMatrix(_) => Op::StMatrix,
            Self::Mma(_) => Op::Mma,
            Self::Wgmma(_) => Op::Wgmma,
            Self::WmmaLoad(_) => Op::WmmaLoad,
            Self::WmmaStore(_) => Op::WmmaStore,
            Self::WmmaMma(_) => Op::WmmaMma,
            Self::Bra { .. } => Op::Bra,
            Self::BrxIdx { .. } => Op::BrxIdx,
            Self::Call(_) => Op::Call,
            Self::Inline { .. } => Op::Inline,
        }
    }

    /// What each operand must be. Only inline text, whose operands are free, looks at `operands`.
    pub fn signature(&self, operands: &[Operand]) -> Signature {
        match self {
            Self::Regular(regular) => regular.signature(),
            Self::Mov(ty) => Signature::new(&[Arg::def(*ty), Arg::one(What::MovSource(*ty))]),
            Self::Pack { ty, parts } => convert::pack_signature(*ty, *parts),
            Self::Unpack { ty, parts } => convert::unpack_signature(*ty, *parts),
            Self::Setp(setp) => setp.signature(),
            Self::Set(set) => set.signature(),
            Self::Slct(slct) => slct.signature(),
            Self::CreatePolicy(_) => CreatePolicy::signature(),
            Self::Cvt(cvt) => cvt.signature(),
            Self::Ld(ld) => ld.signature(),
            Self::St(st) => st.signature(),
            Self::StAsync(st) => st.signature(),
            Self::Atom(atom) => atom.signature(),
            Self::Red(red) => red.signature(),
            Self::Shfl(_) => warp::shfl_signature(),
            Self::MatchAll(ty) => warp::match_all_signature(*ty),
            Self::Elect => warp::elect_signature(),
            Self::Mbarrier(mbarrier) => mbarrier.signature(),
            Self::BulkCopy(copy) => copy.signature(),
            Self::LdMatrix(matrix) => matrix.load_signature(),
            Self::StMatrix(matrix) => matrix.store_signature(),
            Self::Mma(shape) => shape.signature(),
            Self::Wgmma(wgmma) => wgmma.signature(),
            Self::WmmaLoad(matrix) | Self::WmmaStore(matrix) => matrix.signature(),
            Self::WmmaMma(product) => product.signature(),
            Self::Bra { .. } => Signature::new(&[Arg::one(What::Label)]),
            Self::BrxIdx { .. } => Signature::new(&[Arg::one(What::Reg(Ty::U32))]),
            Self::Call(call) => call.signature(),
            Self::Inline { defs, .. } => special::inline_signature(*defs, operands.len()),
        }
    }

    /// The PTX ISA version and target that it needs.
    pub fn requires(&self) -> Requires {
        match self {
            Self::Regular(regular) => regular.requires(),
            Self::Mov(_)
            | Self::Pack { .. }
            | Self::Unpack { .. }
            | Self::Bra { .. }
            | Self::Call(_)
            | Self::Inline { .. } => Requires::BASE,
            Self::BrxIdx { .. } => Requires::new(6, 0, 50),
            Self::Setp(setp) => setp.requires(),
            Self::Set(set) => set.requires(),
            Self::Slct(_) => Requires::BASE,
            Self::CreatePolicy(_) => Requires::new(7, 4, 80),
            Self::Cvt(cvt) => cvt.requires(),
            Self::Ld(ld) => ld.requires(),
            Self::St(st) => st.requires(),
            Self::StAsync(_) => StAsync::requires(),
            Self::Atom(atom) => atom.requires(),
            Self::Red(red) => red.requires(),
            Self::Shfl(_) => Requires::new(6, 0, 50),
            Self::MatchAll(_) => Requires::new(6, 0, 70),
            Self::Elect => Requires::new(8, 0, 90),
            Self::Mbarrier(mbarrier) => mbarrier.requires(),
            Self::BulkCopy(copy) => copy.requires(),
            Self::LdMatrix(_) => Requires::new(6, 5, 75),
            Self::StMatrix(_) => Requires::new(7, 8, 90),
            Self::Mma(shape) => shape.requires(),
            Self::Wgmma(wgmma) => wgmma.requires(),
            Self::WmmaLoad(matrix) | Self::WmmaStore(matrix) => matrix.requires(),
            Self::WmmaMma(product) => product.requires(),
        }
    }

    /// Side effects.
    pub fn effects(&self) -> Effects {
        match self {
            Self::Regular(regular) => regular.info().effects,
            Self::Mov(_)
            | Self::Pack { .. }
            | Self::Unpack { .. }
            | Self::Setp(_)
            | Self::Set(_)
            | Self::Slct(_)
            | Self::CreatePolicy(_)
            | Self::Cvt(_) => Effects::PURE,
            Self::Ld(ld) => ld.effects(),
            Self::St(_) => Effects::WRITE,
            Self::Atom(_) => Effects::ATOMIC,
            Self::Red(_) => Effects { varies: false, ..Effects::ATOMIC },
            Self::Shfl(_) | Self::MatchAll(_) | Self::Mma(_) | Self::WmmaMma(_) | Self::Elect => {
                Effects::EXCHANGE
            }
            Self::Mbarrier(mbarrier) => mbarrier.effects(),
            Self::BulkCopy(_) => Effects { communicates: true, ..Effects::COPY },
            Self::StAsync(_) => Effects { communicates: true, ..Effects::WRITE },
            Self::LdMatrix(_) | Self::WmmaLoad(_) | Self::Wgmma(_) => {
                Effects { reads: true, ..Effects::EXCHANGE }
            }
            Self::StMatrix(_) | Self::WmmaStore(_) => Effects { writes: true, ..Effects::SYNC },
            Self::Bra { .. } | Self::BrxIdx { .. } => Effects::END,
            Self::Call(_) | Self::Inline { .. } => Effects::UNKNOWN,
        }
    }

    /// What is wrong with the instruction beyond the types of its operands, one message each.
    pub(crate) fn problems(&self, operands: &[Operand], report: &mut dyn FnMut(String)) {
        match self {
            Self::Regular(regular) => regular.problems(operands, report),
            Self::Mov(ty) => convert::mov_problems(*ty, report),
            Self::Pack { ty, parts } | Self::Unpack { ty, parts } => {
                convert::pack_problems(*ty, *parts, report)
            }
            Self::Setp(setp) => setp.problems(report),
            Self::Set(set) => set.problems(report),
            Self::Slct(slct) => slct.problems(report),
            Self::CreatePolicy(policy) => policy.problems(operands, report),
            Self::Cvt(cvt) => cvt.problems(report),
            Self::Ld(ld) => ld.problems(report),
            Self::St(st) => st.problems(report),
            Self::StAsync(st) => st.problems(report),
            Self::Atom(atom) => atom.problems(report),
            Self::Red(red) => red.problems(report),
            Self::MatchAll(ty) => warp::match_all_problems(*ty, report),
            Self::LdMatrix(matrix) | Self::StMatrix(matrix) => matrix.problems(report),
            Self::WmmaLoad(matrix) | Self::WmmaStore(matrix) => matrix.problems(report),
            Self::WmmaMma(product) => product.problems(report),
            Self::Mbarrier(mbarrier) => mbarrier.problems(operands, report),
            Self::BulkCopy(copy) => copy.problems(operands, report),
            Self::Wgmma(wgmma) => wgmma.problems(operands, report),
            Self::Inline { text, .. } => special::inline_problems(text, report),
            Self::Elect if operands.get(1) == Some(&Operand::None) => {
                report("elect.sync has a predicate for its result".to_owned());
            }
            Self::Shfl(_)
            | Self::Mma(_)
            | Self::Elect
            | Self::Bra { .. }
            | Self::BrxIdx { .. }
            | Self::Call(_) => {}
        }
    }

    /// The kind that a mnemonic and the shape of the operand list stand for; the error says why none does.
    pub(crate) fn parse(mnemonic: &str, shapes: &[Shape]) -> Result<Self, String> {
        let mut parts = mnemonic.split('.');
        let head = parts.next().unwrap_or_default();
        let mut words = Words::new(parts.clone().collect());
        let special = match head {
            "mov" => Some(convert::parse_mov(&mut words, shapes)),
            "setp" => Some(Setp::parse(&mut words).map(Self::Setp)),
            "set" => Some(Set::parse(&mut words).map(Self::Set)),
            "slct" => Some(Slct::parse(&mut words).map(Self::Slct)),
            "createpolicy" => Some(CreatePolicy::parse(&mut words).map(Self::CreatePolicy)),
            "cvt" if words.peek() != Some("pack") => Some(Cvt::parse(&mut words).map(Self::Cvt)),
            "ld" | "ldu" => Some(Ld::parse(&mut words).map(Self::Ld)),
            "st" if words.eat("async") => Some(StAsync::parse(&mut words).map(Self::StAsync)),
            "st" => Some(St::parse(&mut words).map(Self::St)),
            "atom" => Some(Atom::parse(&mut words).map(Self::Atom)),
            "red" => Some(Red::parse(&mut words).map(Self::Red)),
            "shfl" => Some(warp::parse_shfl(&mut words)),
            "match" if words.peek() == Some("all") => Some(warp::parse_match_all(&mut words)),
            "elect" => Some(words.expect("sync").map(|()| Self::Elect)),
            "mbarrier" => Some(Mbarrier::parse(&mut words, shapes).map(Self::Mbarrier)),
            "cp" if BulkCopy::begins(mnemonic) => {
                words = Words::new(parts.skip(2).collect());
                Some(BulkCopy::parse(&mut words).map(Self::BulkCopy))
            }
            "ldmatrix" => Some(MatrixMove::parse(&mut words).map(Self::LdMatrix)),
            "stmatrix" => Some(MatrixMove::parse(&mut words).map(Self::StMatrix)),
            "wgmma" if words.eat("mma_async") => Some(Wgmma::parse(&mut words, shapes).map(Self::Wgmma)),
            "mma" => Some(MmaShape::parse(&mut words).map(Self::Mma)),
            "wmma" => Some(Self::parse_wmma(&mut words)),
            "bra" => Some(Ok(Self::Bra { uni: words.eat("uni") })),
            _ => None,
        };
        match special {
            Some(kind) => {
                let kind = kind?;
                words.finish()?;
                Ok(kind)
            }
            None => Regular::parse(mnemonic).map(Self::Regular),
        }
    }

    fn parse_wmma(words: &mut Words<'_>) -> Result<Self, String> {
        use WmmaMatrix::{A, B, C, D};
        match words.need("`.load`, `.store` or `.mma`", |word| Some(word.to_owned()))?.as_str() {
            "load" => WmmaMove::parse(&[A, B, C], words).map(Self::WmmaLoad),
            "store" => WmmaMove::parse(&[D], words).map(Self::WmmaStore),
            "mma" => WmmaProduct::parse(words).map(Self::WmmaMma),
            word => Err(format!("expected `.load`, `.store` or `.mma`, found `.{word}`")),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Regular(regular) => fmt::Display::fmt(regular, f),
            Self::Mov(ty) | Self::Pack { ty, .. } | Self::Unpack { ty, .. } => write!(f, "mov.{ty}"),
            Self::Setp(setp) => fmt::Display::fmt(setp, f),
            Self::Set(set) => fmt::Display::fmt(set, f),
            Self::Slct(slct) => fmt::Display::fmt(slct, f),
            Self::CreatePolicy(policy) => fmt::Display::fmt(policy, f),
            Self::Cvt(cvt) => fmt::Display::fmt(cvt, f),
            Self::Ld(ld) => fmt::Display::fmt(ld, f),
            Self::St(st) => fmt::Display::fmt(st, f),
            Self::StAsync(st) => fmt::Display::fmt(st, f),
            Self::Atom(atom) => fmt::Display::fmt(atom, f),
            Self::Red(red) => fmt::Display::fmt(red, f),
            Self::Shfl(mode) => write!(f, "shfl.sync.{}.b32", mode.name()),
            Self::MatchAll(ty) => write!(f, "match.all.sync.{ty}"),
            Self::Elect => f.write_str("elect.sync"),
            Self::Mbarrier(mbarrier) => fmt::Display::fmt(mbarrier, f),
            Self::BulkCopy(copy) => fmt::Display::fmt(copy, f),
            Self::LdMatrix(matrix) => write!(f, "ldmatrix{matrix}"),
            Self::StMatrix(matrix) => write!(f, "stmatrix{matrix}"),
            Self::Mma(shape) => write!(f, "mma.sync.aligned.{}", shape.name()),
            Self::Wgmma(wgmma) => fmt::Display::fmt(wgmma, f),
            Self::WmmaLoad(matrix) | Self::WmmaStore(matrix) => fmt::Display::fmt(matrix, f),
            Self::WmmaMma(product) => fmt::Display::fmt(product, f),
            Self::Bra { uni } => f.write_str(if *uni { "bra.uni" } else { "bra" }),
            Self::BrxIdx { uni, .. } => f.write_str(if *uni { "brx.idx.uni" } else { "brx.idx" }),
            Self::Call(call) => f.write_str(if call.uni { "call.uni" } else { "call" }),
            Self::Inline { text, .. } => f.write_str(text),
        }
    }
}
