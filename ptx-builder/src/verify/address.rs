//! Bounds and alignment of accesses, as far as addresses are known without execution.
//!
//! For each register the analysis keeps what holds for every value that it can have: the largest power of two
//! that divides it, and whether it is a symbol's or a pointer parameter's address plus a constant.

use super::Place;
use super::objects::object;
use super::report::{Reporter, Rule};
use crate::ids::{ParamId, RegId};
use crate::inst::{Address, Base, Inst, Kind, Operand, Space};
use crate::module::{Function, Module, ParamTy};
use crate::ops::Op;

/// What is known of a value: it is a multiple of `1 << zeros`, and what it was made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    zeros: u32,
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    /// Nothing assigned it yet.
    Nothing,
    /// Exactly this address.
    Symbol(Base),
    /// This pointer parameter, plus a constant.
    Pointer(ParamId),
    /// Computed.
    Other,
}

const TOP: Known = Known { zeros: 64, origin: Origin::Nothing };
const UNKNOWN: Known = Known { zeros: 0, origin: Origin::Other };

impl Known {
    fn number(zeros: u32) -> Self {
        Self { zeros: zeros.min(64), origin: Origin::Other }
    }

    fn join(self, other: Self) -> Self {
        let origin = match (self.origin, other.origin) {
            (Origin::Nothing, origin) | (origin, Origin::Nothing) => origin,
            (a, b) if a == b => a,
            _ => Origin::Other,
        };
        Self { zeros: self.zeros.min(other.zeros), origin }
    }
}

pub(super) fn check(module: &Module, function: &Function, reporter: &mut Reporter<'_>) {
    let known = Analysis { module, function, known: vec![TOP; function.register_count()] }.solve();
    for (id, inst) in function.insts() {
        let place = Place::Inst(function, id);
        for (i, operand) in inst.operands.iter().enumerate() {
            if let Operand::Addr(address) = operand
                && let Some(bytes) = accessed_bytes(inst, i)
            {
                known.check_access(*address, bytes, &mut |rule, message| {
                    reporter.advice(rule, place, message)
                });
            }
        }
    }
}

/// How many bytes an instruction accesses at its operand `i`; prefetches access none.
fn accessed_bytes(inst: &Inst, i: usize) -> Option<u32> {
    match &inst.kind {
        Kind::Ld(ld) => Some(ld.bytes()),
        Kind::St(st) => Some(st.bytes()),
        // The address is the first operand, the barrier object the last.
        Kind::StAsync(st) if i == 0 => Some(st.bytes()),
        Kind::StAsync(_) => Some(8),
        Kind::Atom(atom) => Some(atom.ty.bytes()),
        Kind::Red(red) => Some(red.ty.bytes()),
        Kind::Mbarrier(_) => Some(8),
        Kind::BulkCopy(_) if i == 3 => Some(8),
        Kind::BulkCopy(_) | Kind::LdMatrix(_) | Kind::StMatrix(_) => Some(16),
        Kind::Regular(regular) => match regular.op {
            Op::CpAsyncCa | Op::CpAsyncCg | Op::CpAsyncCaL2 | Op::CpAsyncCgL2 if i < 2 => {
                match inst.operands.get(2) {
                    Some(Operand::Int(bytes)) => u32::try_from(*bytes).ok(),
                    _ => None,
                }
            }
            Op::CpAsyncArrive
            | Op::CpAsyncArriveShared
            | Op::CpAsyncArriveNoInc
            | Op::CpAsyncArriveNoIncShared => Some(8),
            Op::BulkPrefetch => Some(16),
            _ => None,
        },
        _ => None,
    }
}

struct Analysis<'a> {
    module: &'a Module,
    function: &'a Function,
    known: Vec<Known>,
}

impl Analysis<'_> {
    fn solve(mut self) -> Self {
        // Each round can only lose knowledge, and there are 64 steps to lose.
        loop {
            let mut changed = false;
            for (_, inst) in self.function.insts() {
                for (nth, reg) in inst.defs().enumerate() {
                    let value = if nth == 0 { self.transfer(inst) } else { UNKNOWN };
                    let Some(index) = self.function.register_index(reg) else { continue };
                    let joined = self.known[index].join(value);
                    changed |= joined != self.known[index];
                    self.known[index] = joined;
                }
            }
            if !changed {
                return self;
            }
        }
    }

    fn of(&self, operand: Option<&Operand>) -> Known {
        match operand {
            Some(Operand::Reg(reg)) => self.register(*reg),
            Some(Operand::Int(value)) => Known::number(value.trailing_zeros()),
            Some(Operand::Symbol(base)) => self.base(*base),
            _ => UNKNOWN,
        }
    }

    fn register(&self, reg: RegId) -> Known {
        self.function.register_index(reg).map_or(UNKNOWN, |index| self.known[index])
    }

    fn base(&self, base: Base) -> Known {
        if let Base::Reg(reg) = base {
            return self.register(reg);
        }
        let align = object(self.module, self.function, base).map(|object| object.align);
        Known { zeros: align.unwrap_or(1).trailing_zeros(), origin: Origin::Symbol(base) }
    }

    fn transfer(&self, inst: &Inst) -> Known {
        let arg = |i: usize| self.of(inst.operands.get(i));
        match &inst.kind {
            Kind::Mov(_) => arg(1),
            Kind::Ld(ld) if ld.space == Space::Param => self.loaded_param(inst),
            Kind::Cvt(cvt) if cvt.to.is_int() && cvt.from.is_int() => Known::number(arg(1).zeros),
            Kind::Regular(regular) => match regular.op {
                Op::CvtaToGlobal | Op::CvtaGlobal => arg(1),
                Op::Add => {
                    let (a, b) = (arg(1), arg(2));
                    let origin = match (a.origin, inst.operands.get(2)) {
                        (Origin::Pointer(param), Some(Operand::Int(_))) => Origin::Pointer(param),
                        _ => Origin::Other,
                    };
                    Known { zeros: a.zeros.min(b.zeros), origin }
                }
                Op::Sub | Op::Or | Op::Xor | Op::Min | Op::Max => {
                    Known::number(arg(1).zeros.min(arg(2).zeros))
                }
                Op::Selp => arg(1).join(arg(2)),
                Op::And => Known::number(arg(1).zeros.max(arg(2).zeros)),
                Op::MulLo | Op::MulWide => Known::number(arg(1).zeros + arg(2).zeros),
                Op::MadLo | Op::MadWide => Known::number((arg(1).zeros + arg(2).zeros).min(arg(3).zeros)),
                Op::Shl => match inst.operands.get(2) {
                    Some(Operand::Int(by)) => {
                        Known::number(arg(1).zeros + u32::try_from(*by).unwrap_or(64).min(64))
                    }
                    _ => Known::number(arg(1).zeros),
                },
                _ => UNKNOWN,
            },
            _ => UNKNOWN,
        }
    }

    fn loaded_param(&self, inst: &Inst) -> Known {
        let Some(Operand::Addr(Address { base: Base::Param(id), offset: 0 })) = inst.operands.get(1) else {
            return UNKNOWN;
        };
        match self.function.param(*id).map(|param| param.ty) {
            Some(ParamTy::Pointer { align }) => {
                Known { zeros: align.trailing_zeros(), origin: Origin::Pointer(*id) }
            }
            _ => UNKNOWN,
        }
    }

    fn check_access(&self, address: Address, bytes: u32, report: &mut dyn FnMut(Rule, String)) {
        let base = self.base(address.base);
        let object = match base.origin {
            Origin::Symbol(base) => self.object(base),
            _ => None,
        };
        let offset = i64::from(address.offset);
        if let Some((name, size)) = object {
            let end = offset + i64::from(bytes);
            if offset < 0 || size.is_some_and(|size| end > size) {
                let of = size.map_or(String::new(), |size| format!(" of {size} bytes"));
                report(Rule::Bounds, format!("bytes {offset}..{end} are outside of `{name}`{of}"));
            }
        }
        if !bytes.is_power_of_two() {
            return;
        }
        let needed = bytes.trailing_zeros();
        let certain = base.zeros.min(needed);
        if offset.trailing_zeros() < certain {
            let message = format!(
                "an access of {bytes} bytes at a multiple of {} plus {offset} is misaligned",
                1u64 << certain
            );
            report(Rule::Alignment, message);
        } else if base.zeros < needed {
            let declared = 1u64 << base.zeros;
            match base.origin {
                Origin::Pointer(id) => {
                    let name = self.function.param(id).map_or("", |param| &param.name);
                    let message = format!(
                        "an access of {bytes} bytes needs more than the alignment of {declared} that parameter `{name}` declares (or than its constant offset leaves)"
                    );
                    report(Rule::Alignment, message);
                }
                Origin::Symbol(_) => {
                    if let Some((name, _)) = object {
                        let message = format!(
                            "an access of {bytes} bytes needs more than the alignment of {declared} that `{name}` declares"
                        );
                        report(Rule::Alignment, message);
                    }
                }
                _ => {}
            }
        }
    }

    /// The name of what a symbol stands for, and its size if that is known.
    fn object(&self, base: Base) -> Option<(&str, Option<i64>)> {
        object(self.module, self.function, base).map(|object| (object.name, object.bytes))
    }
}
