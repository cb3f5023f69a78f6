//! Device-to-device copy.

use ptx_builder::{Module, Target, U8, U16, U32};
use tensor_formats::ElementType;

use crate::cases::Case;
use crate::emit;
use crate::random::Random;
use crate::support::{boxed, dim, extent, flat_launch, known, refuse};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "copy";
const THREADS: u32 = 256;

/// `y = x`, byte for byte, for rows of any element type.
///
/// Parameters: `x` and `y`, `rows` rows of `n` elements. Accesses are as wide as the row size allows (16, 8, 4 or 2
/// bytes), which is also the alignment that the pointers need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyRows {
    element: ElementType,
    rows: u32,
    n: u32,
    row_bytes: u32,
}

impl CopyRows {
    /// The kernel for `rows` rows of `n` elements of type `element`.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a row is not whole blocks; [`KernelError::Unsupported`] for a dimension of 0, or
    /// more than 2^32 threads.
    pub fn new(element: ElementType, rows: usize, n: usize) -> Result<Self, KernelError> {
        let row_bytes = dim(FAMILY, "bytes of a row", element.row_bytes(n)?)?;
        let (rows, n) = (dim(FAMILY, "rows", rows)?, dim(FAMILY, "n", n)?);
        extent(FAMILY, "x", &[rows, row_bytes])?;
        let kernel = Self { element, rows, n, row_bytes };
        match flat_launch(kernel.units(), THREADS) {
            Some(_) => Ok(kernel),
            None => {
                Err(refuse(FAMILY, format!("{rows} rows of {row_bytes} bytes need more than 2^32 threads")))
            }
        }
    }

    fn bytes(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.row_bytes)
    }

    /// Bytes of an access: as many as every row is a multiple of.
    fn width(&self) -> u32 {
        (1 << self.row_bytes.trailing_zeros()).min(16)
    }

    fn units(&self) -> u64 {
        self.bytes() / u64::from(self.width())
    }
}

impl Kernel for CopyRows {
    fn name(&self) -> String {
        format!("copy_{}_n{}_b{}", self.element.name().to_lowercase(), self.n, self.rows)
    }

    fn params(&self) -> Vec<Param> {
        let param = |name, access| Param {
            name,
            access,
            element: self.element,
            bytes: self.bytes(),
            align: self.width(),
        };
        vec![param("x", Access::Read), param("y", Access::Write)]
    }

    fn geometry(&self) -> LaunchGeometry {
        let blocks = self.units().div_ceil(THREADS.into()) as u32;
        LaunchGeometry { grid: [blocks, 1, 1], block: [THREADS, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        Cost { bytes_read: self.bytes(), bytes_written: self.bytes(), operations: 0 }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, [x, y]| {
            let index = emit::flat_index(k, self.units(), THREADS);
            let [x, y] = [x, y].map(|base| k.ptr_index(base, index, self.width()));
            match self.width() {
                16 => {
                    let values = k.ld_global_v4::<U32>(x);
                    k.st_global_v4::<U32>(y, values);
                }
                8 => {
                    let values = k.ld_global_v2::<U32>(x);
                    k.st_global_v2::<U32>(y, values);
                }
                4 => {
                    let value = k.ld_global::<U32>(x);
                    k.st_global::<U32>(y, value);
                }
                2 => {
                    let value = k.ld_global::<U16>(x);
                    k.st_global::<U16>(y, value);
                }
                _ => {
                    let value = k.ld_global::<U8>(x);
                    k.st_global::<U8>(y, value);
                }
            }
        })
    }
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let shapes = [
        (ElementType::F32, 1, 64),
        (ElementType::F32, 2, 78),
        (ElementType::F32, 2, 77),
        (ElementType::F16, 3, 33),
        (ElementType::F32, 8, 4096),
    ];
    shapes.into_iter().map(|(element, rows, n)| boxed(CopyRows::new(element, rows, n))).collect()
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let case = |element: ElementType, rows: usize, n: usize| {
        let kernel = known(CopyRows::new(element, rows, n));
        let x = Random::new(rows as u64).bytes(kernel.bytes() as usize);
        Case::new(kernel, "").with_bytes("x", &x).expect_bytes("y", x)
    };
    let mut cases: Vec<Case> =
        [1, 2, 5, 8, 9, 16, 32].into_iter().map(|r| case(ElementType::F32, r, 96)).collect();
    let sizes = [1, 2, 3, 4, 5, 1023, 1024, 1025, 100_000];
    cases.extend(sizes.map(|n| case(ElementType::F32, 3, n)));
    cases.extend(sizes.map(|n| case(ElementType::F16, 3, n)));
    cases.extend(sizes.map(|n| case(ElementType::F8E4M3, 3, n)));
    cases.extend(ElementType::ALL.map(|element| case(element, 5, 768)));
    // Several blocks, the last of which is not full.
    cases.extend(ElementType::ALL.map(|element| case(element, 35, 768)));
    cases
}
