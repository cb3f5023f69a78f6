//! `wgmma`: products of matrices in shared memory in every layout, and what is done to that memory meanwhile.

use crate::support::{Setup, module, put};
use half::{bf16, f16};
use ptx_builder::interp::FindingKind;
use ptx_builder::{
    F32, KernelBuilder, MatrixDescriptor, MatrixElement, Module, Reg, Swizzle, Ty, U32, U64, Wgmma, WgmmaA,
    WgmmaOperands,
};

/// Where A begins, behind B, and where it ends.
const START_OF_A: u32 = 32 << 10;
const IMAGE: u32 = 40 << 10;
const SWIZZLES: [Swizzle; 4] = [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128];

/// A product whose matrices lie in one way.
#[derive(Clone, Copy, Debug)]
struct Case {
    shape: Wgmma,
    swizzle: Swizzle,
    transposed: [bool; 2],
}

impl Case {
    fn new(n: u16, d: Ty, a: MatrixElement, b: MatrixElement) -> Self {
        let shape = Wgmma { n, satfinite: false, d, a, b, registers: false };
        Self { shape, swizzle: Swizzle::Bytes128, transposed: [false; 2] }
    }

    /// Layouts whose distances are no multiples of each other; swizzled patterns begin at 1024 bytes.
    fn layout(self, transposed: bool) -> MatrixDescriptor {
        let (leading, stride) = match (self.swizzle, transposed) {
            (Swizzle::None, false) => (144, 304),
            (Swizzle::None, true) => (4240, 128),
            (Swizzle::Bytes32, false) => (16, 768),
            (Swizzle::Bytes64, false) => (16, 512),
            (Swizzle::Bytes128, false) => (16, 1024),
            // Two tiles of depth side by side, one of rows behind the other.
            (swizzle, true) => (16 * swizzle.row_bytes(), 8 * swizzle.row_bytes()),
        };
        MatrixDescriptor { leading, stride, swizzle: self.swizzle, ..MatrixDescriptor::default() }
    }

    /// The byte of an element: the layouts of the PTX ISA as sums of distances, chunks moved by bits of the address.
    fn place(self, transposed: bool, i: u32, k: u32, bytes: u32) -> u32 {
        let MatrixDescriptor { leading, stride, .. } = self.layout(transposed);
        let row = self.swizzle.row_bytes();
        let (depth, across) = (k * bytes, i * bytes);
        let plain = match (self.swizzle, transposed) {
            (Swizzle::None, false) => i % 8 * 16 + i / 8 * stride + depth / 16 * leading + depth % 16,
            (_, false) => i % 8 * row + i / 8 * stride + depth,
            (Swizzle::None, true) => k % 8 * 16 + k / 8 * leading + across / 16 * stride + across % 16,
            (_, true) => k % 8 * row + k / 8 * stride + across / row * leading + across % row,
        };
        plain ^ (plain >> 3 & (row - 16))
    }
}

/// An integer as an element.
fn encode(element: MatrixElement, v: i32) -> u32 {
    let single = (v as f32).to_bits();
    match element {
        MatrixElement::F16 => u32::from(f16::from_f32(v as f32).to_bits()),
        MatrixElement::BF16 => u32::from(bf16::from_f32(v as f32).to_bits()),
        MatrixElement::TF32 => single | 0x1ABC,
        MatrixElement::S8 | MatrixElement::U8 => v as u32 & 0xFF,
        MatrixElement::E5M2 => u32::from(f16::from_f32(v as f32).to_bits() >> 8),
        MatrixElement::E4M3 if v == 0 => 0,
        MatrixElement::E4M3 => single >> 24 & 0x80 | ((single >> 23 & 0xFF) - 120) << 3 | single >> 20 & 7,
        other => panic!("no product has elements {}", other.name()),
    }
}

/// A number of element `i` of matrix `m`: small, but for integers of 8 bits.
fn number(element: MatrixElement, m: u32, i: u32) -> i32 {
    let bits = (i * 2 + m).wrapping_mul(0x9E37_79B9) >> 16;
    match element {
        MatrixElement::U8 => (bits & 0xFF) as i32,
        MatrixElement::S8 => (bits & 0xFF) as i32 - 128,
        _ => (bits % 17) as i32 - 8,
    }
}

/// Copies the image of both matrices to shared memory; where B and A begin there.
fn load(k: &mut KernelBuilder, image: Reg<U64>) -> (Reg<U32>, Reg<U32>) {
    let tile = k.shared_aligned::<U32>("tile", IMAGE / 4, 1024);
    let t = k.tid_x();
    let mine = k.shl(t, 2);
    k.for_range::<U32>(0, IMAGE / 4, 512, |k, i| {
        let index = k.add(mine, i);
        let from = k.ptr_index(image, index, 4);
        let words = k.ld_global_v4::<U32>(from);
        let to = k.shared_index(tile, index);
        k.st_shared_v4::<U32>(to, words);
    });
    k.fence_proxy_async_shared();
    k.bar_sync(0);
    let b = k.shared_base(tile);
    let a = k.add(b, START_OF_A);
    (b, a)
}

/// `out` begins as the image of the matrices and ends as D, row by row, a word an element; D was 1 before.
fn kernel(case: Case) -> Module {
    module(|k, out| {
        let (b, a) = load(k, out);
        k.bar_sync(0);
        let a = k.matrix_descriptor(a, case.layout(case.transposed[0]));
        let b = k.matrix_descriptor(b, case.layout(case.transposed[1]));
        let one = match case.shape.d {
            Ty::F16 => 0x3C00_3C00,
            Ty::F32 => 1.0f32.to_bits(),
            _ => 1,
        };
        let d: Vec<_> = (0..case.shape.accumulators()).map(|_| k.var::<U32>(one)).collect();
        let (transposed, a) = (case.transposed, WgmmaA::Shared(a));
        k.wgmma_fence();
        k.wgmma(case.shape, WgmmaOperands { a, b, transposed, d: &d, adds: None });
        k.wgmma_commit();
        k.wgmma_wait(0);
        let t = k.tid_x();
        let (lane, warp) = (k.and(t, 31), k.shr(t, 5));
        let (g, pair) = (k.shr(lane, 2), k.and(lane, 3));
        let row = k.mad(warp, 16, g);
        let n = u32::from(case.shape.n);
        let first = k.mul(row, n);
        let first = k.mad(pair, 2, first);
        let store = |k: &mut KernelBuilder, offset: u32, value: Reg<U32>| {
            let index = k.add(first, offset);
            put(k, out, index, value);
        };
        for (r, d) in (0..).zip(&d) {
            let value = k.get(*d);
            if case.shape.d == Ty::F16 {
                let offset = r / 2 * 8 + r % 2 * 8 * n;
                let low = k.and(value, 0xFFFF);
                let high = k.shr(value, 16);
                store(k, offset, low);
                store(k, offset + 1, high);
            } else {
                store(k, r / 4 * 8 + r / 2 % 2 * 8 * n + r % 2, value);
            }
        }
    })
}

fn check(case: Case) {
    let Wgmma { n, d, a, b, .. } = case.shape;
    let (n, depth) = (u32::from(n), case.shape.depth());
    let mut image = vec![0u8; IMAGE as usize];
    let mut matrix = |m: u32, element: MatrixElement, at: u32, rows: u32| {
        let bytes = element.bits() / 8;
        let of = move |i: u32, k: u32| number(element, m, i * depth + k);
        for (i, k) in (0..rows).flat_map(|i| (0..depth).map(move |k| (i, k))) {
            let at = (at + case.place(case.transposed[m as usize], i, k, bytes)) as usize;
            let value = encode(element, of(i, k)).to_le_bytes();
            image[at..at + bytes as usize].copy_from_slice(&value[..bytes as usize]);
        }
        of
    };
    let of_a = matrix(0, a, START_OF_A, 64);
    let of_b = matrix(1, b, 0, n);
    let image = image.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
    let mut before: Vec<u32> = image.collect();
    before.resize(before.len().max(64 * n as usize), 0);
    let out = Setup::block(128).clean_from(kernel(case), &before);
    for (i, j) in (0..64).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let sum: i32 = 1 + (0..depth).map(|k| of_a(i, k) * of_b(j, k)).sum::<i32>();
        let expected = match d {
            Ty::F16 => encode(MatrixElement::F16, sum),
            Ty::F32 => (sum as f32).to_bits(),
            _ => sum as u32,
        };
        assert_eq!(out[(i * n + j) as usize], expected, "{case:?}, row {i}, column {j}");
    }
}

#[test]
fn matrices_in_every_layout() {
    let mut cases = Vec::new();
    for swizzle in SWIZZLES {
        for transposed in [[false, false], [false, true], [true, false], [true, true]] {
            for n in [8, 40, 256] {
                let case = Case::new(n, Ty::F32, MatrixElement::BF16, MatrixElement::BF16);
                cases.push(Case { swizzle, transposed, ..case });
            }
        }
    }
    cases.into_iter().for_each(check);
}

#[test]
fn elements_of_every_type() {
    use MatrixElement::{BF16, E4M3, E5M2, F16, S8, TF32, U8};
    let pairs = [(F16, F16), (BF16, BF16), (TF32, TF32), (E4M3, E5M2), (E5M2, E4M3), (S8, U8), (U8, S8)];
    for (a, b) in pairs {
        let types: &[Ty] = match a {
            F16 | E4M3 => &[Ty::F16, Ty::F32],
            S8 | U8 => &[Ty::S32],
            _ => &[Ty::F32],
        };
        for (d, swizzle) in types.iter().flat_map(|d| SWIZZLES.map(|swizzle| (*d, swizzle))) {
            check(Case { swizzle, ..Case::new(24, d, a, b) });
        }
    }
}

/// A product that is started, then what `meanwhile` does, then the wait, all with matrices of zeros.
fn around(block: u32, meanwhile: impl FnOnce(&mut KernelBuilder, Reg<U32>)) -> (Setup, Module) {
    let case = Case::new(16, Ty::F32, MatrixElement::F16, MatrixElement::F16);
    let kernel = module(|k, out| {
        let (b, a) = load(k, out);
        let descriptors = [a, b].map(|start| k.matrix_descriptor(start, case.layout(false)));
        let d: Vec<_> = (0..8).map(|_| k.var::<F32>(0.0)).collect();
        k.wgmma_fence();
        let operands = WgmmaOperands {
            a: WgmmaA::Shared(descriptors[0]),
            b: descriptors[1],
            transposed: [false; 2],
            d: &d,
            adds: None,
        };
        k.wgmma(case.shape, operands);
        k.wgmma_commit();
        meanwhile(k, b);
        k.wgmma_wait(0);
    });
    (Setup::block(block), kernel)
}

/// A store by the first thread of one warp to where the matrices are.
fn overwrite(k: &mut KernelBuilder, b: Reg<U32>) {
    let t = k.tid_x();
    let one = k.eq(t, 96);
    k.guarded(one, |k| k.st_shared::<U32>(b, 7));
}

#[test]
fn matrices_stay_as_they_are_until_the_wait() {
    let (setup, kernel) = around(128, overwrite);
    setup.finds_in(kernel, IMAGE as usize / 4, FindingKind::SharedRace);
    // After a wait of all, and a barrier, they may change.
    let (setup, kernel) = around(128, |k, b| {
        k.wgmma_wait(0);
        k.bar_sync(0);
        overwrite(k, b);
    });
    setup.clean(kernel, IMAGE as usize / 4);
    // One group may be unfinished.
    let (setup, kernel) = around(128, |k, b| {
        k.wgmma_wait(1);
        k.bar_sync(0);
        overwrite(k, b);
    });
    setup.finds_in(kernel, IMAGE as usize / 4, FindingKind::SharedRace);
}

#[test]
fn a_warpgroup_is_four_whole_warps_that_agree() {
    for block in [64, 96] {
        let (setup, kernel) = around(block, |_, _| {});
        let finding = setup.finds_in(kernel, IMAGE as usize / 4, FindingKind::InvalidUse);
        assert!(finding.detail.contains("four whole warps"), "{finding}");
    }
    let case = Case::new(16, Ty::F32, MatrixElement::F16, MatrixElement::F16);
    let different = module(|k, out| {
        let (b, a) = load(k, out);
        let t = k.tid_x();
        let odd = k.and(t, 1);
        let b = k.mad(odd, 1024, b);
        let [a, b] = [a, b].map(|start| k.matrix_descriptor(start, case.layout(false)));
        let d: Vec<_> = (0..8).map(|_| k.var::<F32>(0.0)).collect();
        let a = WgmmaA::Shared(a);
        k.wgmma(case.shape, WgmmaOperands { a, b, transposed: [false; 2], d: &d, adds: None });
    });
    let finding = Setup::block(128).finds_in(different, IMAGE as usize / 4, FindingKind::InvalidUse);
    assert!(finding.detail.contains("different matrix descriptors"), "{finding}");
}

#[test]
fn descriptors_are_read_as_they_are_written() {
    for swizzle in SWIZZLES {
        let whole =
            MatrixDescriptor { start: 0x3_FFF0, leading: 0x1_0010, stride: 0x2_0020, phase: 5, swizzle };
        assert_eq!(MatrixDescriptor::from_bits(whole.bits()), whole);
    }
    let swizzle = Swizzle::Bytes128;
    let known = MatrixDescriptor { start: 0x400, leading: 16, stride: 1024, phase: 0, swizzle };
    assert_eq!(known.bits(), 1 << 62 | 64 << 32 | 1 << 16 | 0x40);
}
