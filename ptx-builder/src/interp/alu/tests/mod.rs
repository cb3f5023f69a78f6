//! Arithmetic against references that are written another way: exact integers, doubles with their rounding errors, the
//! `half` crate, tables of all values of a format.

mod atomic;
mod compare;
mod convert;
mod forms;
mod integer;
mod matrix;
mod single;
mod small;

use super::{EXTRA, Place, extra, lower};
use crate::inst::{Form, Kind, Regular, Role, What};
use crate::interp::regs::{Args, FULL, File, LANES, Regs};
use crate::ops::{Mods, Op, Rounding};
use crate::ty::{Ty, TyKind};

/// A source of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() >> 33) as usize % n
    }

    /// A value of a type: anything, or what lies at an edge of the type.
    fn value(&mut self, ty: Ty) -> u64 {
        let bits = ty.bits();
        let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        let raw = self.bits();
        let raw = match ty {
            Ty::F32 => u64::from(self.single()),
            Ty::F64 => self.double(),
            Ty::F16x2 | Ty::BF16x2 => self.value(half_of(ty)) | self.value(half_of(ty)) << 16,
            Ty::F32x2 => u64::from(self.single()) | u64::from(self.single()) << 32,
            Ty::F16 | Ty::BF16 => self.half(ty == Ty::BF16),
            _ if ty.kind() == TyKind::SmallFloat => raw,
            _ => match self.below(8) {
                0 => raw >> (raw & 63),
                1 => !(raw >> (raw & 63)),
                2 => 1 << (raw & 63),
                3 => (1 << (raw & 63)) - 1,
                4 => raw & 0xFF,
                5 => [0, 1, u64::MAX, 1 << (bits - 1), mask >> 1][self.below(5)],
                _ => raw,
            },
        };
        raw & mask
    }

    fn single(&mut self) -> u32 {
        let raw = self.bits() as u32;
        let near = |exponent: u32| raw & 0x80FF_FFFF | exponent << 23;
        match self.below(10) {
            0 => raw & 0x807F_FFFF,
            1 => {
                [0, 1, 0x007F_FFFF, 0x0080_0000, 0x7F7F_FFFF, 0x7F80_0000, 0x7FC0_0001, 0x3F80_0000]
                    [self.below(8)]
                    | raw & 0x8000_0000
            }
            // Few bits: exact results and ties.
            2 => near(120 + raw % 16) & 0xFFFC_0000,
            3 => near(1 + raw % 30),
            4 => near(230 + raw % 24),
            5..8 => near(110 + raw % 32),
            _ => raw,
        }
    }

    fn double(&mut self) -> u64 {
        let raw = self.bits();
        let near = |exponent: u64| raw & 0x800F_FFFF_FFFF_FFFF | exponent << 52;
        match self.below(8) {
            0 => raw & 0x800F_FFFF_FFFF_FFFF,
            1 => f64::from(f32::from_bits(self.single())).to_bits(),
            2 => near(1000 + raw % 40) & !0xFFFF_FFFF,
            3..6 => near(960 + raw % 120),
            _ => raw,
        }
    }

    fn half(&mut self, brain: bool) -> u64 {
        let raw = self.bits();
        match self.below(6) {
            0 => raw & if brain { 0x807F } else { 0x83FF },
            1 if brain => [0, 0x8000, 0x7F80, 0xFF80, 0x7FC1, 1, 0x7F, 0x7F7F][self.below(8)],
            1 => [0, 0x8000, 0x7C00, 0xFC00, 0x7E01, 1, 0x3FF, 0x7BFF][self.below(8)],
            2 | 3 if brain => raw & 0x87FF | 0x3C00,
            _ => raw & 0xFFFF,
        }
    }
}

fn half_of(ty: Ty) -> Ty {
    match ty {
        Ty::F16x2 => Ty::F16,
        Ty::BF16x2 => Ty::BF16,
        other => other,
    }
}

/// The single that rounds to a half like a double: odd if the double has more bits. `half` drops bits of doubles.
fn odd_single(x: f64) -> f32 {
    let near = x as f32;
    match f64::from(near).total_cmp(&x) {
        _ if x.is_nan() || near.to_bits() & 1 == 1 => near,
        std::cmp::Ordering::Less => near.next_up(),
        std::cmp::Ordering::Greater => near.next_down(),
        std::cmp::Ordering::Equal => near,
    }
}

fn file_of(ty: Ty) -> File {
    match ty.bits() {
        1 => File::P,
        64 => File::L,
        _ => File::W,
    }
}

/// The operands of an instruction: a type each, results first.
fn operands(kind: &Kind) -> (usize, Vec<Ty>) {
    let (mut results, mut types) = (0, Vec::new());
    for arg in kind.signature(&[]).args() {
        for part in 0..arg.operands() {
            types.push(match arg.what {
                _ if arg.form == Form::Pair && part == 1 => Ty::Pred,
                What::Pred(_) => Ty::Pred,
                What::Literal => Ty::U32,
                what => what.ty().unwrap_or_else(|| panic!("{kind:?} has {what:?}")),
            });
            results += usize::from(arg.role == Role::Def);
        }
    }
    (results, types)
}

/// Where [`Machine`] keeps the carry flag.
const CARRY: u32 = 0;

/// An instruction with a register for each operand, one after the other from 1 on in every file.
struct Machine {
    kind: Kind,
    results: usize,
    types: Vec<Ty>,
    files: Vec<File>,
    args: Args,
    regs: Regs,
    /// What results are when nothing writes them.
    carry: bool,
}

impl Machine {
    fn new(kind: &Kind) -> Self {
        let (results, types) = operands(kind);
        Self::with_types(kind, results, types)
    }

    fn with_types(kind: &Kind, results: usize, types: Vec<Ty>) -> Self {
        let files: Vec<File> = types.iter().map(|ty| file_of(*ty)).collect();
        let mut args = Args::default();
        for (i, slot) in args.slots.iter_mut().enumerate().take(files.len()) {
            *slot = i as u32 + 1;
        }
        let carry = kind.op().sets_carry() || kind.op().reads_carry();
        let rows = files.len() + 1;
        let regs = Regs { w: vec![[0; LANES]; rows], l: vec![[0; LANES]; rows], p: vec![0; rows] };
        let mut machine = Self { kind: kind.clone(), results, types, files, args, regs, carry };
        machine.args.slots[EXTRA] = if carry { CARRY } else { extra(kind, &machine.place()) };
        machine
    }

    fn place(&self) -> Place<'_> {
        Place { files: &self.files, half: matches!(self.types.first().map(|ty| ty.bits()), Some(8 | 16)) }
    }

    fn set(&mut self, operand: usize, lane: usize, value: u64) {
        let slot = self.args.slots[operand] as usize;
        match self.files[operand] {
            File::P => self.regs.p[slot] = self.regs.p[slot] & !(1 << lane) | ((value & 1) as u32) << lane,
            File::W => self.regs.w[slot][lane] = value as u32,
            File::L => self.regs.l[slot][lane] = value,
        }
    }

    fn get(&self, operand: usize, lane: usize) -> u64 {
        let slot = self.args.slots[operand] as usize;
        match self.files[operand] {
            File::P => u64::from(self.regs.p[slot] >> lane & 1),
            File::W => u64::from(self.regs.w[slot][lane]),
            File::L => self.regs.l[slot][lane],
        }
    }

    fn run(&mut self, mask: u32) {
        let f =
            lower(&self.kind, &self.place()).unwrap_or_else(|| panic!("no arithmetic for {:?}", self.kind));
        f(&mut self.regs, &self.args, mask);
    }

    /// The results for operands lane by lane; with the carry flag, it is the last operand and the last result.
    fn apply(&mut self, lanes: &[Vec<u64>]) -> Vec<Vec<u64>> {
        let mut all = Vec::with_capacity(lanes.len());
        for chunk in lanes.chunks(LANES) {
            for (lane, values) in chunk.iter().enumerate() {
                for (i, value) in values.iter().enumerate() {
                    if self.results + i < self.types.len() {
                        self.set(self.results + i, lane, *value);
                    } else {
                        let flags = &mut self.regs.p[CARRY as usize];
                        *flags = *flags & !(1 << lane) | (*value as u32) << lane;
                    }
                }
            }
            self.run(FULL);
            for lane in 0..chunk.len() {
                let mut results: Vec<u64> = (0..self.results).map(|i| self.get(i, lane)).collect();
                if self.carry {
                    results.push(u64::from(self.regs.p[CARRY as usize] >> lane & 1));
                }
                all.push(results);
            }
        }
        all
    }
}

/// A regular instruction.
fn regular(op: Op, ty: Ty, mods: Mods) -> Kind {
    Kind::Regular(Regular { op, ty: Some(ty), mods })
}

/// A regular instruction that rounds.
fn rounded(op: Op, ty: Ty, rounding: Rounding) -> Kind {
    regular(op, ty, Mods { rounding: Some(rounding), ftz: false, sat: false })
}

/// Compares an instruction with a reference for `count` random operands.
fn check(kind: &Kind, count: usize, seed: u64, reference: impl Fn(&[u64]) -> u64) {
    let mut machine = Machine::new(kind);
    let mut numbers = Numbers::new(seed);
    let types: Vec<Ty> = machine.types[machine.results..].to_vec();
    let lanes: Vec<Vec<u64>> =
        (0..count).map(|_| types.iter().map(|ty| numbers.value(*ty)).collect()).collect();
    check_all(&mut machine, &lanes, reference);
}

/// Compares the first result with a reference, for operands lane by lane.
fn check_all(machine: &mut Machine, lanes: &[Vec<u64>], reference: impl Fn(&[u64]) -> u64) {
    let results = machine.apply(lanes);
    for (inputs, outputs) in lanes.iter().zip(results) {
        let expected = reference(inputs);
        assert_eq!(
            outputs[0], expected,
            "{:?} of {inputs:x?} gives {:#x} instead of {expected:#x}",
            machine.kind, outputs[0]
        );
    }
}
