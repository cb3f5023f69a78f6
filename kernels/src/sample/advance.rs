//! The state of the next step, from the tokens that this one has chosen.

use ptx_builder::{B64, KernelBuilder, MemOrder, Module, Reg, Scope, Space, Store, Target, U32, U64};
use tensor_formats::ElementType;

use crate::cases::Case;
use crate::emit;
use crate::support::{boxed, dim, extent, known, refuse, u32_param};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "advance";
const THREADS: u32 = 128;

/// For each row `r`: `tokens[r]` becomes `chosen[r]`, `positions[r]` and `steps[r]` grow by 1, and entry
/// `[steps[r] % slots, r]` of the ring, with `steps[r]` as it was before, becomes the pair (`chosen[r]`, `steps[r] + 1`).
///
/// An entry is written by one store of 64 bits at system scope, the token in the low half, so a host that finds a count
/// in the high half also finds its token. A count is never 0 before 2^32 steps: a ring of zeros holds no entry.
/// Parameters: `chosen`, `tokens`, `positions` and `steps` `[rows]` u32, `ring` `[slots, rows, 2]` u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    rows: u32,
    slots: u32,
}

impl Advance {
    /// The kernel for `rows` rows and a ring of `slots` steps.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] if `slots` is no power of two, or for more entries than fit 32 bits.
    pub fn new(rows: usize, slots: usize) -> Result<Self, KernelError> {
        let (rows, slots) = (dim(FAMILY, "rows", rows)?, dim(FAMILY, "slots", slots)?);
        if !slots.is_power_of_two() {
            return Err(refuse(FAMILY, format!("a ring of {slots} slots, which is no power of two")));
        }
        if u64::from(rows) * u64::from(slots) > u64::from(u32::MAX) {
            return Err(refuse(FAMILY, format!("a ring of {slots} x {rows} entries")));
        }
        extent(FAMILY, "ring", &[slots, rows, 2])?;
        Ok(Self { rows, slots })
    }

    /// What the kernel does to tokens, positions, steps and ring, in this order.
    ///
    /// # Panics
    /// If the slices do not have the lengths of the parameters.
    pub fn reference(&self, chosen: &[u32], [tokens, positions, steps, ring]: [&mut [u32]; 4]) {
        let rows = self.rows as usize;
        assert_eq!((chosen.len(), ring.len()), (rows, 2 * rows * self.slots as usize));
        tokens.copy_from_slice(chosen);
        for row in 0..rows {
            let at = 2 * ((steps[row] % self.slots) as usize * rows + row);
            positions[row] = positions[row].wrapping_add(1);
            steps[row] = steps[row].wrapping_add(1);
            ring[at..at + 2].copy_from_slice(&[chosen[row], steps[row]]);
        }
    }

    fn body(&self, k: &mut KernelBuilder, [chosen, tokens, positions, steps, ring]: [Reg<U64>; 5]) {
        let row = emit::flat_index(k, self.rows.into(), THREADS);
        let at = |k: &mut KernelBuilder, base: Reg<U64>| k.ptr_index(base, row, 4);
        let (from, to) = (at(k, chosen), at(k, tokens));
        let token = k.ld_global::<U32>(from);
        k.st_global::<U32>(to, token);
        let position_at = at(k, positions);
        let position = k.ld_global::<U32>(position_at);
        let position = k.add(position, 1);
        k.st_global::<U32>(position_at, position);
        let steps_at = at(k, steps);
        let before = k.ld_global::<U32>(steps_at);
        let count = k.add(before, 1);
        k.st_global::<U32>(steps_at, count);
        k.comment("token and count in one store: the host that sees the count sees the token");
        let slot = k.and(before, self.slots - 1);
        let entry = k.mad(slot, self.rows, row);
        let entry = k.ptr_index(ring, entry, 8);
        let pair = k.pack64(token, count);
        let whole = Store::WEAK.order(MemOrder::Relaxed(Scope::Sys));
        k.store::<B64>(Space::Global, whole, entry, pair);
    }
}

impl Kernel for Advance {
    fn name(&self) -> String {
        format!("advance_s{}_b{}", self.slots, self.rows)
    }

    fn params(&self) -> Vec<Param> {
        let rows = u64::from(self.rows);
        let state = |name, access| Param { access, ..u32_param(name, rows) };
        let ring = Param {
            name: "ring",
            access: Access::ReadWrite,
            element: ElementType::U32,
            bytes: u64::from(self.slots) * rows * 8,
            align: 8,
        };
        vec![
            state("chosen", Access::Read),
            state("tokens", Access::Write),
            state("positions", Access::ReadWrite),
            state("steps", Access::ReadWrite),
            ring,
        ]
    }

    fn geometry(&self) -> LaunchGeometry {
        let blocks = self.rows.div_ceil(THREADS);
        LaunchGeometry { grid: [blocks, 1, 1], block: [THREADS, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        let rows = u64::from(self.rows);
        Cost { bytes_read: 12 * rows, bytes_written: 20 * rows, operations: 0 }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, pointers| self.body(k, pointers))
    }
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    [(1, 16), (3, 4), (130, 16)].into_iter().map(|(rows, slots)| boxed(Advance::new(rows, slots))).collect()
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let case = |rows: usize, slots: usize, data: &str, steps: &dyn Fn(u32) -> u32| {
        let kernel = known(Advance::new(rows, slots));
        let of = |value: &dyn Fn(u32) -> u32| (0..rows as u32).map(value).collect::<Vec<_>>();
        let (chosen, steps) = (of(&|r| 1000 + 7 * r), of(steps));
        let (mut tokens, mut positions) = (of(&|r| 5 + r), of(&|r| 40 + 3 * r));
        let mut ring: Vec<u32> = (0..2 * (rows * slots) as u32).map(|i| 0x4000_0000 + i).collect();
        let case = Case::new(kernel, data)
            .with_u32("chosen", &chosen)
            .with_u32("tokens", &tokens)
            .with_u32("positions", &positions)
            .with_u32("steps", &steps)
            .with_u32("ring", &ring);
        let mut after = steps;
        kernel.reference(&chosen, [&mut tokens, &mut positions, &mut after, &mut ring]);
        case.expect_u32("tokens", &tokens)
            .expect_u32("positions", &positions)
            .expect_u32("steps", &after)
            .expect_u32("ring", &ring)
    };
    let mut cases: Vec<Case> =
        [1, 2, 5, 8, 9, 16, 32, 130].into_iter().map(|rows| case(rows, 4, "", &|_| 2)).collect();
    cases.push(case(1, 16, "first", &|_| 0));
    cases.push(case(3, 4, "last_slot", &|_| 7));
    cases.push(case(7, 8, "rows_apart", &|r| 13 * r));
    cases.push(case(2, 1, "one_slot", &|r| 5 + r));
    cases.push(case(2, 8, "count_wraps", &|_| u32::MAX));
    cases
}
