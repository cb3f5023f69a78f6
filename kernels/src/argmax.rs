//! The index of the largest value of rows.

use ptx_builder::{Cmp, Combine, F32, KernelBuilder, Module, Reg, Target, U32, U64};
use tensor_formats::ElementType;

use crate::cases::Case;
use crate::emit::{self, RowPlan};
use crate::random::Random;
use crate::support::{WARP, boxed, dim, dim_up_to, extent, f32_param, f32_vector, known};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "argmax";

/// `y[r]` = the lowest `i` for which `x[r, i]` is the largest of the row.
///
/// A NaN never wins. A row with nothing above -inf gives 0. One block per row.
/// Parameters: `x` `[rows, n]` f32, `y` `[rows]` u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argmax {
    rows: u32,
    n: u32,
}

impl Argmax {
    /// The kernel for `rows` rows of `n` values.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for `rows` of 0 or beyond 2^31, `n` of 0 or beyond 2^28.
    pub fn new(rows: usize, n: usize) -> Result<Self, KernelError> {
        let (rows, n) = (dim(FAMILY, "rows", rows)?, dim_up_to(FAMILY, "n", n, RowPlan::MAX_N)?);
        extent(FAMILY, "x", &[rows, n])?;
        Ok(Self { rows, n })
    }

    /// What the kernel computes.
    ///
    /// # Panics
    /// If `x` does not have the length of the parameter.
    pub fn reference(&self, x: &[f32]) -> Vec<u32> {
        assert_eq!(x.len(), self.rows as usize * self.n as usize);
        let best = |row: &[f32]| {
            let start = (f32::NEG_INFINITY, 0);
            (0..).zip(row).fold(start, |best, (i, &v)| if v > best.0 { (v, i) } else { best }).1
        };
        x.chunks(self.n as usize).map(best).collect()
    }

    fn plan(&self) -> RowPlan {
        RowPlan::new(self.n, 1)
    }
}

impl Kernel for Argmax {
    fn name(&self) -> String {
        format!("argmax_f32_n{}_b{}", self.n, self.rows)
    }

    fn params(&self) -> Vec<Param> {
        let elements = u64::from(self.rows) * u64::from(self.n);
        let y = Param {
            name: "y",
            access: Access::Write,
            element: ElementType::U32,
            bytes: u64::from(self.rows) * 4,
            align: 4,
        };
        vec![f32_param("x", Access::Read, elements, f32_vector(self.n) * 4), y]
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry { grid: [self.rows, 1, 1], block: [self.plan().threads, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        let (rows, n) = (u64::from(self.rows), u64::from(self.n));
        Cost { bytes_read: rows * n * 4, bytes_written: rows * 4, operations: rows * n }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, [x, y]| self.body(k, x, y))
    }
}

/// The largest value so far and its index.
#[derive(Debug, Clone, Copy)]
struct Best {
    value: Reg<F32>,
    index: Reg<U32>,
}

impl Best {
    /// The better of two: the larger, of equals the one that comes first.
    fn or(self, k: &mut KernelBuilder, other: Self) -> Self {
        let earlier = k.lt(other.index, self.index);
        let first_of_equals = k.setp_combine(Cmp::Eq, other.value, self.value, Combine::And, earlier);
        let wins = k.setp_combine(Cmp::Gt, other.value, self.value, Combine::Or, first_of_equals);
        Self { value: k.selp(wins, other.value, self.value), index: k.selp(wins, other.index, self.index) }
    }

    /// The best of the warp, in every lane.
    fn of_warp(self, k: &mut KernelBuilder) -> Self {
        [16, 8, 4, 2, 1].into_iter().fold(self, |best, lanes| {
            let value = k.shfl_bfly(best.value, lanes);
            let index = k.shfl_bfly(best.index, lanes);
            best.or(k, Self { value, index })
        })
    }
}

/// Loads of a thread that are in flight together.
const UNROLL: u32 = 4;

impl Argmax {
    fn body(&self, k: &mut KernelBuilder, x: Reg<U64>, y: Reg<U64>) {
        let plan = self.plan();
        let thread = k.tid_x();
        let [row] = plan.rows(k, [x]);
        let value = k.named_var::<F32>("best", f32::NEG_INFINITY);
        let index = k.named_var::<U32>("best_index", 0);
        // A thread sees its elements in ascending order, so that "greater" keeps the first of equals.
        let consider = |k: &mut KernelBuilder, unit: Reg<U32>, values: &[Reg<F32>]| {
            for (lane, &v) in (0..).zip(values) {
                let better = k.gt(v, value);
                let here = if plan.vector == 1 { unit } else { k.mad(unit, plan.vector, lane) };
                k.update(value, |k, best| k.selp(better, v, best));
                k.update(index, |k, best| k.selp(better, here, best));
            }
        };
        let rounds = plan.units / (plan.threads * UNROLL);
        let unrolled = rounds * plan.threads * UNROLL;
        k.for_range(0, unrolled, plan.threads * UNROLL, |k, base| {
            let units: Vec<_> = (0..UNROLL)
                .map(|u| {
                    let unit = k.add(base, thread);
                    k.add(unit, u * plan.threads)
                })
                .collect();
            let loads: Vec<_> = units
                .iter()
                .map(|&unit| {
                    let at = k.ptr_index(row, unit, plan.vector * 4);
                    emit::load(k, at, plan.vector)
                })
                .collect();
            units.iter().zip(&loads).for_each(|(&unit, values)| consider(k, unit, values));
        });
        let start = if unrolled == 0 { thread } else { k.add(thread, unrolled) };
        k.for_range(start, plan.units, plan.threads, |k, unit| {
            let at = k.ptr_index(row, unit, plan.vector * 4);
            let values = emit::load(k, at, plan.vector);
            consider(k, unit, &values);
        });

        let best = Best { value: k.get(value), index: k.get(index) }.of_warp(k);
        let best = self.of_block(k, thread, best);
        let first = k.eq(thread, 0);
        let block = k.ctaid_x();
        let at = k.ptr_index(y, block, 4);
        k.guarded(first, |k| k.st_global::<U32>(at, best.index));
    }

    /// The best of all warps, at least in the first one.
    fn of_block(&self, k: &mut KernelBuilder, thread: Reg<U32>, best: Best) -> Best {
        let warps = self.plan().threads / WARP;
        if warps == 1 {
            return best;
        }
        let values = k.shared::<F32>("values", warps);
        let indices = k.shared::<U32>("indices", warps);
        let (warp, lane) = (k.shr(thread, 5), k.and(thread, WARP - 1));
        let (value_slot, index_slot) = (k.shared_index(values, warp), k.shared_index(indices, warp));
        let first = k.eq(lane, 0);
        k.guarded(first, |k| {
            k.st_shared::<F32>(value_slot, best.value);
            k.st_shared::<U32>(index_slot, best.index);
        });
        k.barrier();
        // Lanes beyond the last warp repeat it, which changes nothing.
        let slot = k.min(lane, warps - 1);
        let (value_slot, index_slot) = (k.shared_index(values, slot), k.shared_index(indices, slot));
        let part = Best { value: k.ld_shared::<F32>(value_slot), index: k.ld_shared::<U32>(index_slot) };
        part.of_warp(k)
    }
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let shapes = [(1, 64), (2, 77), (1, 32_000), (8, 128_256), (1, 151_936)];
    shapes.into_iter().map(|(rows, n)| boxed(Argmax::new(rows, n))).collect()
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let case = |rows: usize, n: usize, data: &str, x: &[f32]| {
        let kernel = known(Argmax::new(rows, n));
        let y = kernel.reference(x);
        Case::new(kernel, data).with_f32("x", x).expect_u32("y", &y)
    };
    let random = |rows: usize, n: usize| case(rows, n, "", &Random::new((rows * n) as u64).f32s(rows * n));
    // Few distinct values: every row has many equal maxima, in all lanes and warps.
    let ties = |rows: usize, n: usize| {
        let mut random = Random::new((rows * n) as u64);
        let x: Vec<f32> = (0..rows * n).map(|_| random.below(3) as f32).collect();
        case(rows, n, "ties", &x)
    };
    let only = |n: usize, at: usize, value: f32, others: f32, data: &str| {
        let mut x = vec![others; n];
        x[at] = value;
        case(1, n, data, &x)
    };
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let mut cases: Vec<Case> = [1, 2, 5, 8, 9, 16, 32].into_iter().map(|rows| random(rows, 1000)).collect();
    let sizes = [1, 2, 3, 31, 33, 1023, 1025, 4100, 32_000, 50_257, 128_256, 151_936];
    cases.extend(sizes.map(|n| random(2, n)));
    // Enough rows that the largest element is once in every place of the unrolled loop and of its tail.
    cases.extend([1023, 8191, 20_000, 20_481].map(|n| random(96, n)));
    cases.extend([5, 64, 4097, 8192, 50_257].map(|n| ties(3, n)));
    for at in [0, 1, 31, 32, 4095, 4096, 9998, 9999] {
        cases.push(only(10_000, at, -1.0, -2.0, &format!("at_{at}")));
        cases.push(only(10_001, at, -3.0e38, -inf, &format!("above_minus_inf_at_{at}")));
    }
    // Equal everywhere: the first wins, in the unrolled loop and in its tail, with and without vectors.
    cases.extend([1023, 20_481, 20_484].map(|n| case(1, n, "equal", &vec![0.5; n])));
    // A row for each end of what one instruction of the block loads, in the unrolled loop and in its tail.
    cases.extend([5 * 1024 + 1, 4 * (5 * 1024 + 1)].map(|n: usize| {
        let unit = if n.is_multiple_of(4) { 4 } else { 1 };
        let ends: Vec<usize> =
            (0..=5).flat_map(|i| [i * 1024 * unit, ((i + 1) * 1024 * unit).min(n) - 1]).collect();
        let mut x = vec![-1.0; ends.len() * n];
        ends.iter().zip(x.chunks_exact_mut(n)).for_each(|(&at, row)| row[at] = 1.0);
        case(ends.len(), n, "ends", &x)
    }));
    cases.push(only(4096, 4000, nan, -5.0, "nan_among_equals"));
    cases.push(only(4096, 0, nan, -5.0, "nan_first"));
    cases.push(only(4096, 77, 1.0, nan, "one_number"));
    cases.push(only(4096, 99, inf, 1.0, "inf"));
    cases.push(case(1, 4096, "all_nan", &[nan; 4096]));
    cases.push(case(1, 4097, "all_minus_inf", &[-inf; 4097]));
    cases.push(case(1, 8, "signed_zeros", &[-1.0, -0.0, 0.0, -0.0, 0.0, 0.0, -1.0, -2.0]));
    cases
}
