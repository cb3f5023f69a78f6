//! `ld.param` and `st.param`: parameter memory belongs to the frame.

use super::block::Env;
use super::lanes;
use super::transfer::{addresses, extend, read_lane, write_lane};
use super::warp::Frame;
use crate::inst::Space;
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::program::{PARAM_WINDOW, Transfer};
use crate::interp::regs::{File, LANES};

/// The word and the shift of a byte offset.
fn place(offset: u64) -> (usize, u32) {
    (usize::try_from(offset / 4).unwrap_or(usize::MAX), (offset % 4 * 8) as u32)
}

fn offset(frame: &Frame, transfer: &Transfer, lane: usize) -> u64 {
    let base = match transfer.pointer.file {
        File::W => u64::from(frame.regs.w[transfer.pointer.slot as usize][lane]),
        _ => frame.regs.l[transfer.pointer.slot as usize][lane],
    };
    base.wrapping_add_signed(transfer.pointer.offset)
}

fn outside(env: &Env<'_, '_>, warp: u32, pc: u32, lane: usize, at: u64, frame: &Frame) -> Fault {
    let detail = format!("the parameters of this function take {} bytes", frame.params.len() * 4);
    let mut fault = env.fault(FindingKind::OutOfBounds, warp, pc, 1 << lane, detail);
    fault.address = Some(at);
    fault.space = Some(Space::Param);
    fault
}

pub(super) fn load(
    env: &Env<'_, '_>,
    frame: &mut Frame,
    warp: u32,
    pc: u32,
    transfer: &Transfer,
    mask: u32,
) -> Result<(), Fault> {
    let bytes = u64::from(transfer.ty.bytes());
    for lane in lanes(mask) {
        let start = offset(frame, transfer, lane);
        for (i, element) in (0..).zip(&*transfer.elements) {
            let at = start.wrapping_add(i * bytes);
            let (word, shift) = place(at);
            let found = frame.params.get(word).map(|row| u64::from(row[lane]));
            let low = found.ok_or_else(|| outside(env, warp, pc, lane, at, frame))?;
            let value = match bytes {
                8 => {
                    let high = frame.params.get(word + 1).map(|row| u64::from(row[lane]));
                    low | high.ok_or_else(|| outside(env, warp, pc, lane, at, frame))? << 32
                }
                4 => low,
                2 => low >> shift & 0xFFFF,
                _ => low >> shift & 0xFF,
            };
            write_lane(&mut frame.regs, *element, lane, extend(value, transfer.ty, element.bits));
        }
    }
    Ok(())
}

pub(super) fn store(
    env: &Env<'_, '_>,
    frame: &mut Frame,
    warp: u32,
    pc: u32,
    transfer: &Transfer,
    mask: u32,
) -> Result<(), Fault> {
    let bytes = u64::from(transfer.ty.bytes());
    for lane in lanes(mask) {
        let start = offset(frame, transfer, lane);
        for (i, element) in (0..).zip(&*transfer.elements) {
            let value = read_lane(&frame.regs, *element, lane);
            let at = start.wrapping_add(i * bytes);
            let (word, shift) = place(at);
            let words = frame.params.len();
            if word.checked_add(bytes.div_ceil(4) as usize).is_none_or(|end| end > words) {
                return Err(outside(env, warp, pc, lane, at, frame));
            }
            #[expect(clippy::cast_possible_truncation, reason = "words are the parts of the value")]
            match bytes {
                8 => {
                    frame.params[word][lane] = value as u32;
                    frame.params[word + 1][lane] = (value >> 32) as u32;
                }
                4 => frame.params[word][lane] = value as u32,
                _ => {
                    let ones: u32 = if bytes == 2 { 0xFFFF } else { 0xFF };
                    let row = &mut frame.params[word][lane];
                    *row = *row & !(ones << shift) | (value as u32 & ones) << shift;
                }
            }
        }
    }
    Ok(())
}

/// Loads from generic addresses of the kernel's parameters; gives the lanes that had such. Those whose address is
/// outside of the parameters are left, for the memory to refuse.
pub(super) fn load_generic(frames: &mut [Frame], frame: usize, transfer: &Transfer, mask: u32) -> u32 {
    let bytes = u64::from(transfer.ty.bytes());
    let mut at = [0; LANES];
    addresses(&frames[frame].regs, &transfer.pointer, &mut at);
    let mut done = 0;
    for lane in lanes(mask) {
        let start = at[lane].wrapping_sub(PARAM_WINDOW);
        // The kernel's own frame is the first.
        let size = frames.first().map_or(0, |kernel| kernel.params.len() as u64 * 4);
        let length = u64::from(transfer.bytes());
        if start.checked_add(length).is_none_or(|end| end > size) || !start.is_multiple_of(length.max(1)) {
            continue;
        }
        done |= 1 << lane;
        for (i, element) in (0..).zip(&*transfer.elements) {
            let (word, shift) = place(start + i * bytes);
            let of = |word: usize| frames[0].params.get(word).map_or(0, |row| u64::from(row[lane]));
            let value = match bytes {
                8 => of(word) | of(word + 1) << 32,
                4 => of(word),
                2 => of(word) >> shift & 0xFFFF,
                _ => of(word) >> shift & 0xFF,
            };
            write_lane(&mut frames[frame].regs, *element, lane, extend(value, transfer.ty, element.bits));
        }
    }
    done
}

/// Copies bytes of parameter memory between frames, for the lanes of a mask. Both offsets are multiples of 4.
pub(super) fn copy(
    from: &[[u32; LANES]],
    at: u32,
    to: &mut [[u32; LANES]],
    to_at: u32,
    bytes: u32,
    mask: u32,
) {
    for word in 0..bytes.div_ceil(4) {
        let source = from.get((at / 4 + word) as usize);
        let target = to.get_mut((to_at / 4 + word) as usize);
        if let (Some(source), Some(target)) = (source, target) {
            for lane in lanes(mask) {
                target[lane] = source[lane];
            }
        }
    }
}
