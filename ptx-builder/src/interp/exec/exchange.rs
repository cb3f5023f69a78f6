//! What the lanes of a warp tell each other: shuffles, votes, matches, reductions, `bar.warp.sync`.
//!
//! The lanes that a mask names need not be together: those that come first wait, and the last to come completes the
//! exchange for all. They may be at different instructions, as compilers duplicate code, but of the same kind and with
//! the same mask. Lanes that have exited are not waited for.

use super::block::Env;
use super::run::Next;
use super::warp::{State, Warp};
use crate::inst::ShflMode;
use crate::interp::alu;
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::program::{Action, Exchange, Reduce};
use crate::interp::regs::{Args, File, LANES, Regs};
use crate::ty::Ty;

/// Operands of an exchange by lane.
struct Inputs {
    value: [u64; LANES],
    /// Lane and clamp of a shuffle.
    lane: [u32; LANES],
    clamp: [u32; LANES],
}

/// Results by lane.
struct Outputs {
    value: [u64; LANES],
    pred: u32,
    /// Lanes that asked for the value of a lane that does not take part.
    absent: u32,
}

impl Warp {
    /// Executes an exchange for active lanes of fragment `i`, or lets them wait.
    pub(super) fn exchange(
        &mut self,
        env: &mut Env<'_, '_>,
        i: usize,
        active: u32,
        exchange: Exchange,
    ) -> Result<Next, Fault> {
        let fragment = self.fragments[i];
        let code = env.grid.code;
        let Some(step) = code.steps.get(fragment.pc as usize) else { return Ok(Next::Again) };
        let slot = step.args.slots[exchange.mask_operand()] as usize;
        let masks = self.frames[fragment.frame as usize].regs.w[slot];
        self.check_membership(env, i, active, &masks);
        // The usual case: one mask, and everybody is here.
        let first = masks[active.trailing_zeros() as usize % LANES];
        let uniform = super::lanes(active).all(|lane| masks[lane] == first);
        if uniform && first & self.live & !active == 0 {
            let regs = &mut self.frames[fragment.frame as usize].regs;
            let mut inputs = Inputs { value: [0; LANES], lane: [0; LANES], clamp: [0; LANES] };
            gather(regs, &step.args, exchange, active, &mut inputs);
            let outputs = compute(exchange, &inputs, active);
            scatter(regs, &step.args, exchange, active, &outputs);
            self.absent(env, fragment.pc, &outputs);
            return Ok(Next::Advance);
        }
        self.park(i, active, &masks);
        self.settle_exchanges(env);
        Ok(Next::Again)
    }

    /// `bar.warp.sync`.
    pub(super) fn warp_sync(&mut self, env: &mut Env<'_, '_>, i: usize, active: u32) -> Result<Next, Fault> {
        let fragment = self.fragments[i];
        let Some(step) = env.grid.code.steps.get(fragment.pc as usize) else { return Ok(Next::Again) };
        let masks = self.frames[fragment.frame as usize].regs.w[step.args.slots[0] as usize];
        self.check_membership(env, i, active, &masks);
        let first = masks[active.trailing_zeros() as usize % LANES];
        let uniform = super::lanes(active).all(|lane| masks[lane] == first);
        if uniform && first & self.live & !active == 0 {
            env.memory.sync_lanes(self.index, active);
            return Ok(Next::Advance);
        }
        self.park(i, active, &masks);
        self.settle_exchanges(env);
        Ok(Next::Again)
    }

    fn check_membership(&self, env: &mut Env<'_, '_>, i: usize, active: u32, masks: &[u32; LANES]) {
        if !env.sync {
            return;
        }
        let outside = super::lanes(active).filter(|lane| masks[*lane] >> lane & 1 == 0);
        let outside = outside.fold(0u32, |mask, lane| mask | 1 << lane);
        if outside != 0 {
            let mask = masks[outside.trailing_zeros() as usize % LANES];
            let detail = format!("the lane is not in the mask {mask:#010x} that it gives");
            env.report(FindingKind::InvalidUse, self.index, self.fragments[i].pc, outside, detail);
        }
    }

    /// Active lanes of a fragment wait, those with the same mask together.
    fn park(&mut self, i: usize, active: u32, masks: &[u32; LANES]) {
        let pc = self.fragments[i].pc;
        let mut here = i;
        if self.fragments[i].mask != active {
            self.fragments[i].pc = pc + 1;
            here = self.split(i, active, pc);
        }
        let mut rest = active;
        while rest != 0 {
            let mask = masks[rest.trailing_zeros() as usize % LANES];
            let same = super::lanes(rest).filter(|lane| masks[*lane] == mask);
            let same = same.fold(0, |lanes, lane| lanes | 1 << lane);
            rest &= !same;
            let part = if rest == 0 { here } else { self.split(here, same, pc) };
            self.fragments[part].state = State::Lanes(mask);
        }
    }

    /// Completes the exchanges that nobody is missing from.
    pub(super) fn settle_exchanges(&mut self, env: &mut Env<'_, '_>) {
        let steps = env.grid.code.steps.as_slice();
        // What decides whether two instructions are of the same kind.
        let kind = |pc: u32| match steps.get(pc as usize).map(|step| &step.action) {
            Some(Action::Exchange(exchange)) => Some(*exchange),
            _ => None,
        };
        let mut i = 0;
        while i < self.fragments.len() {
            let fragment = self.fragments[i];
            i += 1;
            let State::Lanes(mask) = fragment.state else { continue };
            let exchange = kind(fragment.pc);
            let group: Vec<usize> = (0..self.fragments.len())
                .filter(|j| {
                    self.fragments[*j].state == State::Lanes(mask) && kind(self.fragments[*j].pc) == exchange
                })
                .collect();
            let present = group.iter().fold(0, |lanes, j| lanes | self.fragments[*j].mask);
            if mask & self.live & !present != 0 {
                continue;
            }
            match exchange {
                None => env.memory.sync_lanes(self.index, present),
                Some(exchange) => {
                    let mut inputs = Inputs { value: [0; LANES], lane: [0; LANES], clamp: [0; LANES] };
                    for j in &group {
                        let part = self.fragments[*j];
                        if let Some(step) = steps.get(part.pc as usize) {
                            let regs = &self.frames[part.frame as usize].regs;
                            gather(regs, &step.args, exchange, part.mask, &mut inputs);
                        }
                    }
                    let outputs = compute(exchange, &inputs, present);
                    for j in &group {
                        let part = self.fragments[*j];
                        if let Some(step) = steps.get(part.pc as usize) {
                            let regs = &mut self.frames[part.frame as usize].regs;
                            scatter(regs, &step.args, exchange, part.mask, &outputs);
                        }
                    }
                    self.absent(env, fragment.pc, &outputs);
                }
            }
            for j in group {
                self.fragments[j].pc += 1;
                self.fragments[j].state = State::Ready;
            }
        }
    }

    fn absent(&self, env: &mut Env<'_, '_>, pc: u32, outputs: &Outputs) {
        if outputs.absent != 0 && env.sync {
            let detail = "the lane that it reads from does not take part".to_owned();
            env.report(FindingKind::InvalidUse, self.index, pc, outputs.absent, detail);
        }
    }
}

/// The operand that is the value.
fn value_operand(exchange: Exchange) -> usize {
    if matches!(exchange, Exchange::Shfl(_) | Exchange::MatchAll(_)) { 2 } else { 1 }
}

fn gather(regs: &Regs, args: &Args, exchange: Exchange, mask: u32, inputs: &mut Inputs) {
    let operand = value_operand(exchange);
    let slot = args.slots[operand] as usize;
    match exchange {
        Exchange::VoteAll | Exchange::VoteAny | Exchange::VoteUni | Exchange::Ballot => {
            let row = regs.p[slot] ^ if args.negated >> operand & 1 == 1 { u32::MAX } else { 0 };
            for lane in super::lanes(mask) {
                inputs.value[lane] = u64::from(row >> lane & 1);
            }
        }
        Exchange::MatchAny(File::L) | Exchange::MatchAll(File::L) => {
            for lane in super::lanes(mask) {
                inputs.value[lane] = regs.l[slot][lane];
            }
        }
        Exchange::Elect => {}
        _ => {
            for lane in super::lanes(mask) {
                inputs.value[lane] = u64::from(regs.w[slot][lane]);
            }
        }
    }
    if matches!(exchange, Exchange::Shfl(_)) {
        let (lane_row, clamp_row) = (&regs.w[args.slots[3] as usize], &regs.w[args.slots[4] as usize]);
        for lane in super::lanes(mask) {
            inputs.lane[lane] = lane_row[lane];
            inputs.clamp[lane] = clamp_row[lane];
        }
    }
}

fn scatter(regs: &mut Regs, args: &Args, exchange: Exchange, mask: u32, outputs: &Outputs) {
    let slot = args.slots[0] as usize;
    let mut pred = |slot: u32| {
        let row = &mut regs.p[slot as usize];
        *row = *row & !mask | outputs.pred & mask;
    };
    match exchange {
        Exchange::VoteAll | Exchange::VoteAny | Exchange::VoteUni => return pred(args.slots[0]),
        Exchange::Shfl(_) | Exchange::MatchAll(_) | Exchange::Elect => pred(args.slots[1]),
        _ => {}
    }
    let row = &mut regs.w[slot];
    for lane in super::lanes(mask) {
        #[expect(clippy::cast_possible_truncation, reason = "results have 32 bits")]
        let value = outputs.value[lane] as u32;
        row[lane] = value;
    }
}

/// The exchange among the lanes of a mask.
fn compute(exchange: Exchange, inputs: &Inputs, present: u32) -> Outputs {
    let mut outputs = Outputs { value: [0; LANES], pred: 0, absent: 0 };
    let true_lanes =
        || super::lanes(present).fold(0u32, |mask, lane| mask | (inputs.value[lane] as u32 & 1) << lane);
    match exchange {
        Exchange::Shfl(mode) => shuffle(mode, inputs, present, &mut outputs),
        Exchange::VoteAll => outputs.pred = if true_lanes() == present { u32::MAX } else { 0 },
        Exchange::VoteAny => outputs.pred = if true_lanes() != 0 { u32::MAX } else { 0 },
        Exchange::VoteUni => {
            let lanes = true_lanes();
            outputs.pred = if lanes == 0 || lanes == present { u32::MAX } else { 0 };
        }
        Exchange::Elect => {
            outputs.value = [u64::from(present.trailing_zeros()); LANES];
            outputs.pred = present & present.wrapping_neg();
        }
        Exchange::Ballot => outputs.value = [u64::from(true_lanes()); LANES],
        Exchange::MatchAny(_) => {
            for lane in super::lanes(present) {
                let equal = super::lanes(present).filter(|other| inputs.value[*other] == inputs.value[lane]);
                outputs.value[lane] = equal.fold(0, |mask, other| mask | 1 << other);
            }
        }
        Exchange::MatchAll(_) => {
            let first = inputs.value[present.trailing_zeros() as usize % LANES];
            if super::lanes(present).all(|lane| inputs.value[lane] == first) {
                outputs.value = [u64::from(present); LANES];
                outputs.pred = u32::MAX;
            }
        }
        Exchange::Redux(reduce, ty) => {
            let values = super::lanes(present).map(|lane| inputs.value[lane] as u32);
            let result = values.reduce(|a, b| combine(reduce, ty, a, b)).unwrap_or(0);
            // The NaN of one lane alone is the canonical one too.
            let result = if ty == Ty::F32 { alu::least(result, result) } else { result };
            outputs.value = [u64::from(result); LANES];
        }
    }
    outputs
}

fn combine(reduce: Reduce, ty: Ty, a: u32, b: u32) -> u32 {
    match (reduce, ty) {
        (Reduce::Add, _) => a.wrapping_add(b),
        (Reduce::And, _) => a & b,
        (Reduce::Or, _) => a | b,
        (Reduce::Xor, _) => a ^ b,
        (Reduce::Min, Ty::F32) => alu::least(a, b),
        (Reduce::Max, Ty::F32) => alu::most(a, b),
        (Reduce::Min, Ty::S32) => a.cast_signed().min(b.cast_signed()).cast_unsigned(),
        (Reduce::Max, Ty::S32) => a.cast_signed().max(b.cast_signed()).cast_unsigned(),
        (Reduce::Min, _) => a.min(b),
        (Reduce::Max, _) => a.max(b),
    }
}

/// Source lanes as the PTX ISA defines them: `clamp` holds the bound in its low five bits, and from bit 8 on the mask
/// of the bits that number a segment.
fn shuffle(mode: ShflMode, inputs: &Inputs, present: u32, outputs: &mut Outputs) {
    for lane in super::lanes(present) {
        let own = lane as u32;
        let b = inputs.lane[lane] & 0x1F;
        let clamp = inputs.clamp[lane] & 0x1F;
        let segment = inputs.clamp[lane] >> 8 & 0x1F;
        let most = own & segment | clamp & !segment;
        let least = own & segment;
        let (source, inside) = match mode {
            ShflMode::Up => (own.wrapping_sub(b), own.cast_signed() - b.cast_signed() >= most.cast_signed()),
            ShflMode::Down => (own + b, own + b <= most),
            ShflMode::Bfly => (own ^ b, own ^ b <= most),
            ShflMode::Idx => {
                let source = least | b & !segment;
                (source, source <= most)
            }
        };
        let source = if inside { source & 31 } else { own };
        outputs.pred |= u32::from(inside) << lane;
        if present >> source & 1 == 0 {
            outputs.absent |= 1 << lane;
            outputs.value[lane] = inputs.value[lane];
        } else {
            outputs.value[lane] = inputs.value[source as usize];
        }
    }
}
