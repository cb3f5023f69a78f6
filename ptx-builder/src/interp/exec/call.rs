//! Calls: frames, parameters, and the functions that the driver provides.

use super::block::Env;
use super::frame::Place;
use super::lanes;
use super::param;
use super::run::Next;
use super::warp::{Fragment, Parent, State, Warp};
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::program::{Action, CallStep, FUNCTION_BASE, ParamRange};
use crate::interp::regs::LANES;
use crate::module::GRAPH_SET_CONDITIONAL;

/// Calls within calls that a thread can make.
const DEPTH: u32 = 512;

impl Warp {
    /// `brx.idx`: lanes with the same index go together.
    pub(super) fn jump_table(
        &mut self,
        env: &mut Env<'_, '_>,
        i: usize,
        active: u32,
        targets: &[u32],
        slot: u32,
    ) -> Result<Next, Fault> {
        let fragment = self.fragments[i];
        let indices = self.frames[fragment.frame as usize].regs.w[slot as usize];
        for lane in lanes(active) {
            if indices[lane] as usize >= targets.len() {
                let detail = format!("index {} in a table of {} targets", indices[lane], targets.len());
                return Err(env.fault(FindingKind::InvalidUse, self.index, fragment.pc, 1 << lane, detail));
            }
        }
        let mut here = i;
        if fragment.mask != active {
            self.fragments[i].pc += 1;
            here = self.split(i, active, fragment.pc);
        }
        let mut rest = active;
        while rest != 0 {
            let index = indices[rest.trailing_zeros() as usize % LANES];
            let same =
                lanes(rest).filter(|lane| indices[*lane] == index).fold(0, |mask, lane| mask | 1 << lane);
            rest &= !same;
            let target = targets.get(index as usize).copied().unwrap_or(fragment.pc);
            if rest == 0 {
                self.fragments[here].pc = target;
            } else {
                self.split(here, same, target);
                env.diverged(fragment.pc);
            }
        }
        Ok(Next::Again)
    }

    /// `call`: active lanes go on in a new frame.
    pub(super) fn call(
        &mut self,
        env: &mut Env<'_, '_>,
        i: usize,
        active: u32,
        call: &CallStep,
    ) -> Result<Next, Fault> {
        let fragment = self.fragments[i];
        let pc = fragment.pc;
        let Some(step) = env.grid.code.steps.get(pc as usize) else { return Ok(Next::Again) };
        let mut here = i;
        if fragment.mask != active {
            self.fragments[i].pc += 1;
            here = self.split(i, active, pc);
        }
        if let Some(callee) = call.callee {
            return self.enter(env, here, callee, call);
        }
        // Lanes that call the same function go together.
        let addresses = self.frames[fragment.frame as usize].regs.l[step.args.slots[0] as usize];
        let mut rest = active;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize % LANES;
            let address = addresses[lane];
            let same =
                lanes(rest).filter(|lane| addresses[*lane] == address).fold(0, |mask, lane| mask | 1 << lane);
            rest &= !same;
            let offset = address.wrapping_sub(FUNCTION_BASE);
            let callee = offset.is_multiple_of(16).then(|| u32::try_from(offset / 16).ok()).flatten();
            let callee = callee.filter(|callee| self.fits(env, *callee, call));
            let Some(callee) = callee else {
                let detail =
                    format!("{address:#x} is not the address of a function with the signature of the call");
                return Err(env.fault(FindingKind::InvalidUse, self.index, pc, same, detail));
            };
            let part = if rest == 0 { here } else { self.split(here, same, pc) };
            // Entering a function of the driver may change fragments, but leaves those before it in place.
            self.enter(env, part, callee, call)?;
        }
        Ok(Next::Again)
    }

    /// Does a function take and return what the call passes?
    fn fits(&self, env: &Env<'_, '_>, callee: u32, call: &CallStep) -> bool {
        let Some(function) = env.grid.code.functions.get(callee as usize) else { return false };
        let same = |ours: &[ParamRange], theirs: &[ParamRange]| {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| a.bytes == b.bytes)
        };
        same(&call.args, &function.layout.params) && same(&call.returns, &function.layout.returns)
    }

    fn enter(
        &mut self,
        env: &mut Env<'_, '_>,
        i: usize,
        callee: u32,
        call: &CallStep,
    ) -> Result<Next, Fault> {
        let grid = env.grid;
        let Fragment { frame, pc, mask, .. } = self.fragments[i];
        let Some(function) = grid.code.functions.get(callee as usize) else { return Ok(Next::Again) };
        if function.range.insts.is_empty() {
            return self.provided(env, i, callee, call);
        }
        let caller = &self.frames[frame as usize];
        let (local, depth) = (caller.local_end, caller.depth + 1);
        let template = grid.template(callee);
        if depth > DEPTH || local.saturating_add(template.local_bytes) > grid.local_bytes {
            let detail = format!("the stack overflows: {depth} calls deep, {local} bytes of local memory");
            return Err(env.fault(FindingKind::OutOfBounds, self.index, pc, mask, detail));
        }
        let place = Place { block: env.block.at, rank: self.rank, warp: self.number };
        let mut new = template.frame(grid, callee, place, local, mask);
        for (from, to) in call.args.iter().zip(&function.layout.params) {
            let caller = &self.frames[frame as usize];
            param::copy(&caller.params, from.offset, &mut new.params, to.offset, from.bytes, mask);
        }
        new.parent = Some(Parent { frame, pc });
        new.depth = depth;
        let new = self.keep(new);
        let fragment = &mut self.fragments[i];
        fragment.frame = new;
        fragment.pc = function.range.entry;
        fragment.state = State::Ready;
        Ok(Next::Again)
    }

    /// `ret`: active lanes go on after the call, or end.
    pub(super) fn ret(&mut self, env: &mut Env<'_, '_>, i: usize, active: u32) {
        let fragment = self.fragments[i];
        let frame = fragment.frame as usize;
        let Some(parent) = self.frames[frame].parent else { return self.leave(env, i, active) };
        let function = self.frames[frame].function as usize;
        let returns =
            env.grid.code.functions.get(function).map(|f| f.layout.returns.as_slice()).unwrap_or_default();
        let call = match env.grid.code.steps.get(parent.pc as usize).map(|step| &step.action) {
            Some(Action::Call(call)) => call.returns.as_ref(),
            _ => &[],
        };
        let callee = std::mem::take(&mut self.frames[frame].params);
        let caller = &mut self.frames[parent.frame as usize].params;
        for (from, to) in returns.iter().zip(call) {
            param::copy(&callee, from.offset, caller, to.offset, to.bytes, active);
        }
        self.frames[frame].params = callee;
        if fragment.mask != active {
            self.fragments[i].pc += 1;
        }
        let back = self.split(i, active, fragment.pc);
        self.fragments[back].frame = parent.frame;
        self.fragments[back].pc = parent.pc + 1;
        self.release(frame, active);
    }

    /// Functions that are only declared: those of the driver, known by name.
    fn provided(
        &mut self,
        env: &mut Env<'_, '_>,
        i: usize,
        callee: u32,
        call: &CallStep,
    ) -> Result<Next, Fault> {
        let Fragment { frame, pc, mask, .. } = self.fragments[i];
        let name = env.grid.code.module.functions.get(callee as usize).map_or("", |f| f.name.as_str());
        let arg = |params: &[[u32; LANES]], n: usize, lane: usize| -> u64 {
            let Some(range) = call.args.get(n) else { return 0 };
            let word =
                |i: u32| params.get((range.offset / 4 + i) as usize).map_or(0, |row| u64::from(row[lane]));
            if range.bytes == 8 { word(0) | word(1) << 32 } else { word(0) }
        };
        let params = &self.frames[frame as usize].params;
        let mut results = [0u64; LANES];
        match name {
            "vprintf" => {
                for lane in lanes(mask) {
                    let (format, values) = (arg(params, 0, lane), arg(params, 1, lane));
                    let text = super::print::vprintf(env, (self.index, pc, lane), format, values)?;
                    results[lane] = text.1;
                    env.printed.push_str(&text.0);
                }
            }
            GRAPH_SET_CONDITIONAL => {
                for lane in lanes(mask) {
                    #[expect(clippy::cast_possible_truncation, reason = "the argument has 32 bits")]
                    let value = arg(params, 1, lane) as u32;
                    env.conditionals.push((arg(params, 0, lane), value));
                }
            }
            "__assertfail" => {
                let lane = mask.trailing_zeros() as usize % LANES;
                let at = (self.index, pc, lane);
                let message = super::print::text(env, at, arg(params, 0, lane))?;
                let file = super::print::text(env, at, arg(params, 1, lane))?;
                let line = arg(params, 2, lane);
                let function = super::print::text(env, at, arg(params, 3, lane))?;
                let detail = format!("{file}:{line}: {function}: assertion `{message}` failed");
                return Err(env.fault(FindingKind::Trap, self.index, pc, mask, detail));
            }
            _ => {
                let detail = format!("the function `{name}` is declared, but nobody defines it");
                return Err(env.fault(FindingKind::InvalidUse, self.index, pc, mask, detail));
            }
        }
        if let Some(range) = call.returns.first() {
            let params = &mut self.frames[frame as usize].params;
            for lane in lanes(mask) {
                for word in 0..range.bytes.div_ceil(4).min(2) {
                    if let Some(row) = params.get_mut((range.offset / 4 + word) as usize) {
                        #[expect(clippy::cast_possible_truncation, reason = "words of the result")]
                        let part = (results[lane] >> (word * 32)) as u32;
                        row[lane] = part;
                    }
                }
            }
        }
        self.fragments[i].pc = pc + 1;
        Ok(Next::Again)
    }
}
