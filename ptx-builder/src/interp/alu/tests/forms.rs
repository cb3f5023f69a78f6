//! Every form of every pure operation: it is there, keeps to its lanes, and may have an operand as its result.

use super::{Machine, Numbers, operands};
use crate::inst::{Kind, MmaShape};
use crate::interp::regs::{FULL, File, LANES};
use crate::ops::{Effects, Op};
use crate::testing::forms;

/// What is pure, but needs to know where memory or the block is: the executor does it.
fn is_executed(op: Op) -> bool {
    matches!(
        op,
        Op::CvtaGlobal
            | Op::CvtaShared
            | Op::CvtaLocal
            | Op::CvtaConst
            | Op::CvtaParam
            | Op::CvtaCluster
            | Op::CvtaToGlobal
            | Op::CvtaToShared
            | Op::CvtaToLocal
            | Op::CvtaToConst
            | Op::CvtaToParam
            | Op::CvtaToCluster
            | Op::IsConst
            | Op::IsParam
            | Op::IsCluster
            | Op::IsGlobal
            | Op::IsShared
            | Op::IsLocal
            | Op::Mapa
            | Op::MapaShared
            | Op::GetCtaRank
            | Op::GetCtaRankShared
            | Op::CreatePolicy
            | Op::Mbarrier
    )
}

/// Every form that arithmetic has to know.
fn arithmetic() -> Vec<Kind> {
    let pure = |kind: &Kind| kind.effects() == Effects::PURE && !is_executed(kind.op());
    let forms = Op::ALL.iter().flat_map(|op| forms(*op)).filter(pure);
    forms.chain(MmaShape::ALL.iter().map(|shape| Kind::Mma(*shape))).collect()
}

#[test]
fn every_pure_form_has_a_function() {
    let kinds = arithmetic();
    assert!(kinds.len() > 1000, "{}", kinds.len());
    for kind in &kinds {
        let machine = Machine::new(kind);
        assert!(super::lower(kind, &machine.place()).is_some(), "{kind:?}");
    }
    // What the executor does is not claimed twice.
    for op in Op::ALL.iter().filter(|op| is_executed(**op)) {
        for kind in forms(*op) {
            let place = super::Place { files: &[File::W, File::W], half: false };
            assert!(super::lower(&kind, &place).is_none(), "{kind:?}");
        }
    }
}

/// Random operands in all lanes of all registers, the results too.
fn fill(machine: &mut Machine, numbers: &mut Numbers) {
    for operand in 0..machine.types.len() {
        for lane in 0..LANES {
            let value = numbers.value(machine.types[operand]);
            machine.set(operand, lane, value);
        }
    }
    machine.regs.p[super::CARRY as usize] = numbers.bits() as u32;
    // A table of `lop3` is a literal: the same in all lanes.
    if machine.kind.op() == Op::Lop3 {
        let table = numbers.bits() & 0xFF;
        (0..LANES).for_each(|lane| machine.set(4, lane, table));
    }
}

#[test]
fn lanes_outside_of_the_mask_keep_what_they_hold() {
    for (i, kind) in arithmetic().iter().enumerate() {
        let mut numbers = Numbers::new(i as u64 + 1);
        let mut partial = Machine::new(kind);
        fill(&mut partial, &mut numbers);
        let before = partial.regs.clone();
        let mut full = Machine::new(kind);
        full.regs = before.clone();
        // The matrix product needs the whole warp.
        let mask = if matches!(kind, Kind::Mma(_)) { FULL } else { numbers.bits() as u32 };
        partial.run(mask);
        full.run(FULL);
        for row in 0..before.w.len() {
            for lane in 0..LANES {
                let on = mask >> lane & 1 == 1;
                let w = if on { full.regs.w[row][lane] } else { before.w[row][lane] };
                assert_eq!(partial.regs.w[row][lane], w, "{kind:?} lane {lane} of {mask:#x}");
                let l = if on { full.regs.l[row][lane] } else { before.l[row][lane] };
                assert_eq!(partial.regs.l[row][lane], l, "{kind:?} lane {lane} of {mask:#x}");
            }
            let p = full.regs.p[row] & mask | before.p[row] & !mask;
            assert_eq!(partial.regs.p[row], p, "{kind:?} with {mask:#x}");
        }
        // Nothing but results changes.
        for operand in partial.results..partial.types.len() {
            for lane in 0..LANES {
                let slot = partial.args.slots[operand] as usize;
                let kept = match partial.files[operand] {
                    File::P => u64::from(before.p[slot] >> lane & 1),
                    File::W => u64::from(before.w[slot][lane]),
                    File::L => before.l[slot][lane],
                };
                assert_eq!(partial.get(operand, lane), kept, "{kind:?} operand {operand}");
            }
        }
    }
}

#[test]
fn a_result_may_be_an_operand() {
    for (i, kind) in arithmetic().iter().enumerate() {
        let (results, types) = operands(kind);
        for result in 0..results {
            for operand in results..types.len() {
                let mut numbers = Numbers::new(i as u64 + 7);
                let mut apart = Machine::new(kind);
                if apart.files[result] != apart.files[operand] {
                    continue;
                }
                fill(&mut apart, &mut numbers);
                let mut same = Machine::new(kind);
                same.regs = apart.regs.clone();
                same.args.slots[result] = same.args.slots[operand];
                apart.run(FULL);
                same.run(FULL);
                for lane in 0..LANES {
                    for r in 0..results {
                        assert_eq!(
                            same.get(r, lane),
                            apart.get(r, lane),
                            "{kind:?}, result {r}, with {result} in the register of {operand}"
                        );
                    }
                }
            }
        }
    }
}

/// Rows of 16-bit registers are zero above them, whatever an instruction computes.
#[test]
fn halves_stay_halves() {
    for (i, kind) in arithmetic().iter().enumerate() {
        let mut numbers = Numbers::new(i as u64 + 3);
        let mut machine = Machine::new(kind);
        for _ in 0..4 {
            fill(&mut machine, &mut numbers);
            machine.run(FULL);
            for result in 0..machine.results {
                if machine.types[result].bits() > 16 {
                    continue;
                }
                for lane in 0..LANES {
                    assert!(machine.get(result, lane) <= 0xFFFF, "{kind:?}");
                }
            }
        }
    }
}
