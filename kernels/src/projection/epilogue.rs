//! What becomes of a unit's sums.

use ptx_builder::{F32, KernelBuilder, Pred, Reg, U32, U64};

use super::{Destination, Pairing, Segment};
use crate::emit::LOG2_E;
use crate::stored::Stored;

/// Pointers that an epilogue may need; those that its segment has no use for are absent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pointers {
    pub(super) bias: Option<Reg<U64>>,
    pub(super) residual: Option<Reg<U64>>,
    pub(super) output: Option<Reg<U64>>,
    pub(super) positions: Option<Reg<U64>>,
    pub(super) sequences: Option<Reg<U64>>,
    pub(super) table: Option<Reg<U64>>,
}

impl Pointers {
    /// Those of `segment`, by the names of its parameters.
    pub(super) fn of(segment: &Segment, pointer: &dyn Fn(&str) -> Option<Reg<U64>>) -> Self {
        Self {
            bias: segment.bias.then(|| pointer(segment.names.bias)).flatten(),
            residual: segment.residual.then(|| pointer("residual")).flatten(),
            output: pointer(segment.names.output),
            positions: pointer("positions"),
            sequences: pointer("sequences"),
            table: pointer("table"),
        }
    }
}

/// Where an activation row belongs, as far as its segment has to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Belongs {
    position: Option<Reg<U32>>,
    sequence: Option<Reg<U32>>,
}

impl Belongs {
    /// Loads what is known of row `row`, after the kernel has waited for those before it.
    pub(super) fn load(k: &mut KernelBuilder, segment: &Segment, pointers: &Pointers, row: Reg<U32>) -> Self {
        let mut load = |leaf: Option<Reg<U64>>, needed: bool| {
            leaf.filter(|_| needed).map(|leaf| {
                let at = k.ptr_index(leaf, row, 4);
                k.ld_global::<U32>(at)
            })
        };
        let cached = matches!(segment.destination, Destination::Cache(_));
        Self {
            position: load(pointers.positions, cached || segment.rotation.is_some()),
            sequence: load(pointers.sequences, cached),
        }
    }
}

/// What lane `b` knows of activation row `b` before the first unit.
pub(super) struct Finisher<'a> {
    segment: &'a Segment,
    pointers: Pointers,
    /// The activation row of this lane; the last one in lanes beyond.
    row: Reg<U32>,
    /// The row's place in the table of rotations, and whether it is in it.
    rotation: Option<(Reg<U64>, Pred)>,
    /// The row's place in the cache, at head 0, and whether it is in it.
    cached: Option<(Reg<U64>, Pred)>,
}

/// What is loaded for a unit ahead of its sums.
#[derive(Default)]
pub(super) struct Fetched {
    bias: Option<[Reg<F32>; 2]>,
    residual: Option<[Reg<F32>; 2]>,
    rotation: Option<[Reg<F32>; 2]>,
}

impl<'a> Finisher<'a> {
    /// For activation row `row`, which belongs there.
    pub(super) fn new(
        k: &mut KernelBuilder,
        segment: &'a Segment,
        pointers: Pointers,
        (row, belongs): (Reg<U32>, Belongs),
    ) -> Self {
        let rotation = segment.rotation.zip(pointers.table).zip(belongs.position);
        let rotation = rotation.map(|((rotation, table), position)| {
            let inside = k.lt(position, rotation.max_seq);
            let position = k.selp(inside, position, 0);
            (k.ptr_index(table, position, rotation.head_dim * 4), inside)
        });
        let cached = match (segment.destination, pointers.output, belongs.position, belongs.sequence) {
            (Destination::Cache(cache), Some(output), Some(position), Some(sequence)) => {
                let position_inside = k.lt(position, cache.max_seq);
                let sequence_inside = k.lt(sequence, cache.n_sequences);
                let inside = k.and_pred(position_inside, sequence_inside);
                let head = k.mul(sequence, cache.n_kv_heads);
                let position = k.widen(position);
                let row = k.mad_wide(head, cache.max_seq, position);
                Some((k.mad(row, u64::from(cache.head_dim * cache.stored.bytes()), output), inside))
            }
            _ => None,
        };
        Self { segment, pointers, row, rotation, cached }
    }

    /// Emits what a unit's end needs and its sums do not.
    pub(super) fn fetch(&self, k: &mut KernelBuilder, unit: Reg<U32>) -> Fetched {
        let first = self.segment.pairing.first_row(k, unit);
        let bias = self.pointers.bias.map(|bias| {
            let at = k.ptr_index(bias, first, 4);
            self.load_pair(k, at)
        });
        let residual = self.pointers.residual.map(|residual| {
            let at = self.output_row(k, residual);
            let at = k.ptr_index(at, first, 4);
            self.load_pair(k, at)
        });
        let rotation = self.rotation.zip(self.segment.rotation).map(|((table, _), rotation)| {
            let (_, pair) = crate::emit::split(k, unit, u64::from(self.segment.units), rotation.head_dim / 2);
            let at = k.ptr_index(table, pair, 8);
            k.ld_global_v2::<F32>(at)
        });
        Fetched { bias, residual, rotation }
    }

    /// Emits the stores of a unit with these sums, in lanes where `stores` holds.
    pub(super) fn finish(
        &self,
        k: &mut KernelBuilder,
        unit: Reg<U32>,
        sums: [Reg<F32>; 2],
        fetched: &Fetched,
        stores: Pred,
    ) {
        let [mut a, mut b] = sums;
        if let Some([bias_a, bias_b]) = fetched.bias {
            (a, b) = (k.add(a, bias_a), k.add(b, bias_b));
        }
        if let (Some([cos, sin]), Some((_, inside))) = (fetched.rotation, self.rotation) {
            k.comment("a row beyond the table becomes NaNs");
            let [cos, sin] = [cos, sin].map(|v| k.selp(inside, v, f32::NAN));
            let (b_sin, b_cos) = (k.mul(b, sin), k.mul(b, cos));
            let b_sin = k.neg(b_sin);
            (a, b) = (k.fma(a, cos, b_sin), k.fma(a, sin, b_cos));
        }
        if let Some([residual_a, residual_b]) = fetched.residual {
            (a, b) = (k.add(residual_a, a), k.add(residual_b, b));
        }
        match self.segment.destination {
            Destination::Gated => {
                k.comment("silu(gate) * up");
                let scaled = k.mul(a, -LOG2_E);
                let exp = k.ex2_approx(scaled);
                let denominator = k.add(exp, 1.0);
                let silu = k.div(a, denominator);
                let value = k.mul(silu, b);
                if let Some(output) = self.pointers.output {
                    let at = self.output_row(k, output);
                    let at = k.ptr_index(at, unit, 4);
                    k.guarded(stores, |k| k.st_global::<F32>(at, value));
                }
            }
            Destination::Rows => {
                if let Some(output) = self.pointers.output {
                    let first = self.segment.pairing.first_row(k, unit);
                    let at = self.output_row(k, output);
                    let at = k.ptr_index(at, first, 4);
                    k.guarded(stores, |k| self.store_pair(k, at, [a, b]));
                }
            }
            // Never finished here.
            Destination::Largest => (),
            Destination::Cache(cache) => {
                if let Some((row, inside)) = self.cached {
                    let units = u64::from(self.segment.units);
                    let (head, pair) = crate::emit::split(k, unit, units, cache.head_dim / 2);
                    let at = k.widen(head);
                    let bytes = cache.stored.bytes();
                    let at = k.mad(at, cache.head_elements() * u64::from(bytes), row);
                    let together = self.segment.pairing == Pairing::Neighbours;
                    let at = k.ptr_index(at, pair, if together { 2 * bytes } else { bytes });
                    let stores = k.and_pred(stores, inside);
                    self.cache_pair(k, (cache.stored, at), [a, b], stores);
                }
            }
        }
    }

    /// The address of this lane's row of an activation matrix.
    fn output_row(&self, k: &mut KernelBuilder, base: Reg<U64>) -> Reg<U64> {
        k.ptr_index(base, self.row, self.segment.features() * 4)
    }

    fn load_pair(&self, k: &mut KernelBuilder, at: Reg<U64>) -> [Reg<F32>; 2] {
        match self.segment.pairing {
            Pairing::Neighbours => k.ld_global_v2::<F32>(at),
            pairing => [0, pairing.distance()].map(|rows| k.ld_global::<F32>(at + (rows * 4) as i32)),
        }
    }

    fn store_pair(&self, k: &mut KernelBuilder, at: Reg<U64>, [a, b]: [Reg<F32>; 2]) {
        match self.segment.pairing {
            Pairing::Neighbours => k.st_global_v2::<F32>(at, [a, b]),
            pairing => {
                k.st_global::<F32>(at, a);
                k.st_global::<F32>(at + (pairing.distance() * 4) as i32, b);
            }
        }
    }

    /// Stores a unit in a cache from `at` on, rounded to the cache's type, where `stores` holds.
    fn cache_pair(
        &self,
        k: &mut KernelBuilder,
        (stored, at): (Stored, Reg<U64>),
        [a, b]: [Reg<F32>; 2],
        stores: Pred,
    ) {
        if stored == Stored::F32 {
            return k.guarded(stores, |k| self.store_pair(k, at, [a, b]));
        }
        let distance = match self.segment.pairing {
            Pairing::Neighbours => 1,
            pairing => pairing.distance(),
        };
        let second = k.add(at, u64::from(distance * stored.bytes()));
        k.if_(stores, |k| {
            stored.store(k, at, &[a]);
            stored.store(k, second, &[b]);
        });
    }
}
