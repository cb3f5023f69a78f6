//! Random valid modules, from a stream of choices.

use super::{LOCAL, SHARED, base, forms, literal_for, mov_takes};
use crate::build::{B32, F32, F64, KernelBuilder, Pred, Reg, U32, U64};
use crate::ids::{RegClass, RegId};
use crate::inst::{Address, Arg, Base, Form, Kind, Operand, Role, Space, SpecialReg, St, What};
use crate::module::Module;
use crate::ops::Op;
use crate::target::Target;
use crate::ty::{Ty, TyKind};
use std::cell::RefCell;
use std::sync::OnceLock;

/// A module that verifies: nested control flow, instructions of all kinds, names, comments, literals at the ends of
/// their ranges. The same choices give the same module; a choice of 0 gives the simplest alternative,
/// so that shrinking works.
///
/// `budget` is about the number of instructions.
pub fn random_module(target: Target, budget: usize, choose: &mut dyn FnMut() -> u32) -> Module {
    let kinds: Vec<&Kind> = all_kinds().iter().filter(|kind| kind.requires().met_by(target)).collect();
    let mut module = Module::new(target);
    for i in 0..1 + choose() % 2 {
        module.kernel(&format!("kernel_{i}"), |k| {
            let mut random = Random { choose, kinds: &kinds, live: Default::default(), left: budget };
            random.header(k);
            random.body(k, 0);
        });
    }
    module
}

/// Every form that a random kernel may contain, in the order of the operations.
fn all_kinds() -> &'static [Kind] {
    static KINDS: OnceLock<Vec<Kind>> = OnceLock::new();
    KINDS.get_or_init(|| {
        let ops = Op::ALL.iter().filter(|op| !matches!(op, Op::Inline | Op::GridDepLaunch | Op::Call));
        ops.flat_map(|op| forms(*op))
            .filter(|kind| !kind.effects().terminates && !stores_param(kind))
            .collect()
    })
}

/// Arguments of calls are stored next to the call.
fn stores_param(kind: &Kind) -> bool {
    matches!(kind, Kind::St(St { space: Space::Param, .. }))
}

struct Random<'a> {
    choose: &'a mut dyn FnMut() -> u32,
    kinds: &'a [&'static Kind],
    /// Assigned registers of each class.
    live: [Vec<RegId>; 6],
    left: usize,
}

impl Random<'_> {
    fn below(&mut self, n: usize) -> usize {
        (self.choose)() as usize % n.max(1)
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == one_in - 1
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let index = self.below(all.len());
        all.get(index).copied()
    }

    /// The declarations that [`super::Scratch`] has, and one register of each class.
    fn header(&mut self, k: &mut KernelBuilder) {
        let param = k.declare_param_bytes("bytes", 64, 16);
        k.shared::<B32>("tile", 64);
        k.local::<B32>("stack", 64);
        match self.below(3) {
            0 => k.reqntid(128, 1, 1),
            1 => k.maxntid(64, 4, 2),
            _ => {}
        }
        if self.chance(4) {
            k.declare_param::<U32>("unused");
        }
        if self.chance(4) {
            k.dynamic_shared(16);
        }
        let address: Reg<U64> = k.ld_param_at::<U64>(param, 16);
        let tid = k.tid_x();
        let half = k.f16_bits(0x3C00);
        let single = k.imm::<F32>(1.0);
        let double = k.imm::<F64>(1.0);
        let p = k.lt(tid, 7);
        for id in [address.id(), tid.id(), half.id(), single.id(), double.id(), p.id()] {
            self.live[id.class() as usize].push(id);
        }
    }

    fn body(&mut self, k: &mut KernelBuilder, depth: usize) {
        let length = self.below(12);
        for _ in 0..length {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            if depth < 4 && self.chance(6) {
                self.nest(k, depth);
            } else {
                self.instruction(k, depth);
            }
        }
    }

    fn predicate(&mut self) -> Pred {
        let live = self.live[RegClass::Pred as usize].clone();
        let id = self.pick(&live).unwrap_or(RegId::new(RegClass::Pred, 0));
        Pred::new(id, self.chance(2))
    }

    /// What is assigned inside is not assigned after.
    fn scoped(&mut self, k: &mut KernelBuilder, depth: usize) {
        let live = self.live.clone();
        self.body(k, depth + 1);
        self.live = live;
    }

    fn nest(&mut self, k: &mut KernelBuilder, depth: usize) {
        let p = self.predicate();
        match self.below(6) {
            0 => k.if_(p, |k| self.scoped(k, depth)),
            1 => {
                // Both closures need the generator, one after the other.
                let this = RefCell::new(self);
                k.if_else(p, |k| this.borrow_mut().scoped(k, depth), |k| this.borrow_mut().scoped(k, depth));
            }
            2 => {
                let step = 1 + (self.choose)() % 7;
                let i = RegId::new(RegClass::B32, 0);
                k.for_range::<U32>(0, Reg::<U32>::new(i), step, |k, i| {
                    let live = self.live.clone();
                    self.live[RegClass::B32 as usize].push(i.id());
                    self.body(k, depth + 1);
                    self.live = live;
                });
            }
            3 => k.while_(|_| p, |k| self.scoped(k, depth)),
            4 => k.do_while(|k| {
                self.scoped(k, depth);
                p
            }),
            _ => k.ret_if(p),
        }
    }

    fn instruction(&mut self, k: &mut KernelBuilder, depth: usize) {
        if self.chance(8) {
            let comments = ["plain", "", "two\nlines", " spaced ", "//", "; } %r0 L1:", "inline", "/* */"];
            let comment = self.pick(&comments).unwrap_or_default();
            k.comment(comment);
        }
        if self.chance(40) {
            return self.inline(k);
        }
        // Uniform over operations first: a few of them have most of the forms.
        let op = self.pick(Op::ALL).unwrap_or(Op::Mov);
        let kinds = self.kinds;
        let start = kinds.partition_point(|kind| kind.op() < op);
        let same = &kinds[start..];
        let same = &same[..same.partition_point(|kind| kind.op() <= op)];
        let kind = match same.get(self.below(same.len())) {
            Some(kind) => Kind::clone(kind),
            None => Kind::Mov(Ty::U32),
        };
        let block_wide = op.mnemonic().starts_with("bar") && op != Op::BarWarpSync;
        let kind = if block_wide && depth > 0 { Kind::Mov(Ty::F32) } else { kind };
        let mut operands = Vec::new();
        let mut defs = Vec::new();
        let signature = kind.signature(&[]);
        for arg in signature.args() {
            if arg.form == Form::Optional && self.chance(2) {
                continue;
            }
            for i in 0..arg.operands() {
                let operand = match (arg.form, operands.last()) {
                    // The registers of a vector have one width.
                    (Form::Vector(_), Some(Operand::Reg(first))) if i > 0 && arg.role == Role::Def => {
                        Operand::Reg(k.fresh_register(first.class()))
                    }
                    (Form::Vector(_), Some(Operand::Reg(first))) if i > 0 => {
                        Operand::Reg(self.live(first.class()))
                    }
                    _ => self.operand(k, &kind, arg, i, operands.len()),
                };
                if let (Role::Def, Operand::Reg(reg)) = (arg.role, operand) {
                    defs.push(reg);
                }
                operands.push(operand);
            }
        }
        if !block_wide && self.chance(6) {
            // What a guarded instruction assigns is not known to be assigned after it.
            let p = self.predicate();
            return k.guarded(p, |k| k.push(kind, operands));
        }
        k.push(kind, operands);
        for reg in defs {
            if self.chance(5) {
                let name = self.pick(&["acc", "x", "row_sum", "_", "$", "7"]).unwrap_or("x");
                k.name(Reg::<U32>::new(reg), name);
            }
            self.live[reg.class() as usize].push(reg);
        }
    }

    fn inline(&mut self, k: &mut KernelBuilder) {
        let dest = k.fresh::<U32>();
        let words = self.live[RegClass::B32 as usize].clone();
        let Some(source) = self.pick(&words) else { return };
        let text = ["add.u32 {0}, {1}, 1;", "{\n\tmov.u32 {0}, {1};\n}"];
        let text = self.pick(&text).unwrap_or_default();
        let p = self.predicate();
        if self.chance(2) && !text.contains('\n') {
            return k.guarded(p, |k| k.inline(text, &[dest.id()], &[source]));
        }
        k.inline(text, &[dest.id()], &[source]);
        self.live[RegClass::B32 as usize].push(dest.id());
    }

    /// A live register of the class; there always is one.
    fn live(&mut self, class: RegClass) -> RegId {
        let live = self.live[class as usize].clone();
        self.pick(&live).unwrap_or(RegId::new(class, 0))
    }

    fn operand(
        &mut self,
        k: &mut KernelBuilder,
        kind: &Kind,
        arg: &Arg,
        i: usize,
        position: usize,
    ) -> Operand {
        if arg.form == Form::Pair && i == 1 {
            return if kind.op() == Op::Elect || self.chance(2) {
                Operand::Reg(k.fresh_register(RegClass::Pred))
            } else {
                Operand::None
            };
        }
        match (arg.role, arg.what) {
            (Role::Def, What::WideReg(ty)) if ty.fits_in(RegClass::B64) && self.chance(3) => {
                Operand::Reg(k.fresh_register(RegClass::B64))
            }
            (Role::Def, What::Reg(ty) | What::WideReg(ty) | What::Value(ty) | What::WideValue(ty)) => {
                Operand::Reg(k.fresh_register(ty.class()))
            }
            (Role::Def, What::Sink) => Operand::None,
            (Role::Def, _) => Operand::Reg(k.fresh_register(RegClass::Pred)),
            (_, What::Value(Ty::Pred)) if kind.op() == Op::Wgmma => Operand::Int(0),
            (_, What::MovSource(ty)) if self.chance(2) => self.mov_source(k, ty),
            (_, What::Word) if self.chance(2) => self.literal(kind, Ty::B32, position),
            (_, What::Value(ty) | What::WideValue(ty) | What::MovSource(ty))
                if ty.kind() != TyKind::SmallFloat && ty != Ty::Pred && self.chance(2) =>
            {
                self.literal(kind, ty, position)
            }
            (_, What::WideReg(ty) | What::WideValue(ty)) if ty.fits_in(RegClass::B32) && self.chance(3) => {
                Operand::Reg(self.live(RegClass::B32))
            }
            (_, What::Pred(negatable)) => {
                let reg = self.live(RegClass::Pred);
                if negatable && self.chance(2) { Operand::NotPred(reg) } else { Operand::Reg(reg) }
            }
            (_, What::Literal) => Operand::Int(literal_for(kind.op(), position)),
            (_, What::Address(space)) => self.address(space),
            (_, what) => what.ty().map_or(Operand::None, |ty| Operand::Reg(self.live(ty.class()))),
        }
    }

    fn mov_source(&mut self, k: &KernelBuilder, ty: Ty) -> Operand {
        let symbols = [Operand::Symbol(Base::Array(SHARED)), Operand::Symbol(Base::Array(LOCAL))];
        let specials = SpecialReg::ALL.iter().filter(|s| s.requires().met_by(k.target()));
        let all: Vec<Operand> = symbols.into_iter().chain(specials.map(|s| Operand::Special(*s))).collect();
        let fitting: Vec<Operand> = all.into_iter().filter(|source| mov_takes(ty, *source)).collect();
        match self.pick(&fitting) {
            Some(source) => source,
            None => Operand::Reg(self.live(ty.class())),
        }
    }

    fn literal(&mut self, kind: &Kind, ty: Ty, position: usize) -> Operand {
        let fixed = literal_for(kind.op(), position);
        let bits = (u64::from((self.choose)()) << 32) | u64::from((self.choose)());
        match ty {
            _ if matches!(kind, Kind::CreatePolicy(_)) => Operand::F32(1f32.to_bits()),
            _ if matches!(kind, Kind::Mbarrier(_)) => Operand::Int(fixed),
            Ty::F32 => Operand::F32((self.choose)()),
            Ty::F64 => Operand::F64(bits),
            _ if fixed != 1 || matches!(kind, Kind::Regular(r) if r.op.mnemonic().starts_with("bar")) => {
                Operand::Int(fixed)
            }
            _ => {
                let (min, max) = ty.literal_range();
                let value = if self.chance(3) {
                    min
                } else if self.chance(3) {
                    max
                } else {
                    bits.cast_signed()
                };
                // Into the range by wrapping, as the bits of the type.
                let span = max.wrapping_sub(min).wrapping_add(1);
                Operand::Int(if span == 0 { value } else { min + value.wrapping_sub(min).rem_euclid(span) })
            }
        }
    }

    /// Sixteen-byte steps keep every access aligned and inside of what is declared.
    fn address(&mut self, space: Space) -> Operand {
        let step = i32::try_from(self.below(4)).unwrap_or(0) * 16;
        let base = base(space);
        let computed = matches!(base, Base::Reg(_));
        let far = [i32::MIN, i32::MAX - 15, -16];
        let offset = if computed && self.chance(3) { self.pick(&far).unwrap_or(0) } else { step };
        Operand::Addr(Address { base, offset })
    }
}
