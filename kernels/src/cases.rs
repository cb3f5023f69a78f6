//! Conformance cases: a kernel, the bytes its parameters point to, and what has to be there afterwards.
//!
//! A case runs on anything that can run PTX ([`PtxRunner`]). Whatever a check does not cover must be bit for bit
//! what it was: inputs, the parts of a cache that a row must not touch, and [`GUARD_BYTES`] after every extent.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use ptx_builder::Target;

use crate::Kernel;

/// The byte that fills outputs and guards: as an f32 it is a NaN, so that what nobody wrote spoils every sum.
pub const POISON: u8 = 0xff;

/// Bytes after the extent of every parameter that no kernel may write.
pub const GUARD_BYTES: usize = 256;

/// The relative L2 error that f32 kernels may have against f64 accumulation.
pub const F32_BOUND: f64 = 1e-5;

/// Something that runs PTX kernels.
pub trait PtxRunner {
    /// Why a launch failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The target that kernels are emitted for.
    fn target(&self) -> Target;

    /// Emits `kernel` for [`target`](Self::target), launches it once with its
    /// [`geometry`](Kernel::geometry) and waits for it.
    ///
    /// `arguments[i]` is the index in `buffers` of what parameter `i` points to: the start of that buffer, aligned to
    /// at least 256 bytes. Two parameters share a buffer when the kernel runs in place. Every buffer holds on
    /// return what the launch left in it.
    ///
    /// # Errors
    /// If the kernel cannot be emitted, loaded or launched, or faults.
    fn run(
        &mut self,
        kernel: &dyn Kernel,
        buffers: &mut [&mut [u8]],
        arguments: &[usize],
    ) -> Result<(), Self::Error>;
}

/// What a region of a buffer has to hold after the launch.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// f32 values near these. An expected NaN asks for any NaN but the poison, an expected infinity for the same infinity; of
    /// the others the relative L2 error must not exceed `bound` in any row of `cols` values.
    F32 {
        /// The expectation, accumulated in f64.
        values: Vec<f64>,
        /// Values that are compared together.
        cols: usize,
        /// The largest relative L2 error of a row.
        bound: f64,
    },
}

impl Expect {
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::F32 { values, .. } => values.len() * 4,
        }
    }
}

/// An expectation and where it applies.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The parameter's index.
    pub param: usize,
    /// The first byte, from the pointer on.
    pub offset: usize,
    /// What has to be there.
    pub expect: Expect,
}

/// One conformance case. Built with [`Case::new`] and the `with_*` methods.
///
/// A mistake in building it (an unknown parameter, a wrong length) is kept and reported when the case runs.
#[derive(Debug)]
pub struct Case {
    /// A unique name: the kernel's, then what distinguishes the data.
    pub name: String,
    /// The kernel to launch.
    pub kernel: Box<dyn Kernel>,
    /// The initial bytes of every buffer, guard included.
    pub buffers: Vec<Vec<u8>>,
    /// For each parameter, the buffer that it points to.
    pub arguments: Vec<usize>,
    /// What has to be there afterwards; everything else is unchanged.
    pub checks: Vec<Check>,
    defect: Option<String>,
}

impl Case {
    /// A case for `kernel` with every buffer poisoned and nothing checked yet but that nothing changes.
    /// `data` distinguishes it from other cases of the kernel; it may be empty.
    pub fn new(kernel: impl Kernel + 'static, data: &str) -> Self {
        let params = kernel.params();
        let name = if data.is_empty() { kernel.name() } else { format!("{}/{data}", kernel.name()) };
        let buffers = params.iter().map(|p| vec![POISON; p.bytes as usize + GUARD_BYTES]).collect();
        let arguments = (0..params.len()).collect();
        Self { name, kernel: Box::new(kernel), buffers, arguments, checks: Vec::new(), defect: None }
    }

    /// Parameter `param` starts with `bytes`, which have to be its whole extent.
    pub fn with_bytes(mut self, param: &str, bytes: &[u8]) -> Self {
        if let Some(index) = self.index(param) {
            let extent = self.extent(index);
            let buffer = self.arguments[index];
            if bytes.len() == extent {
                self.buffers[buffer][..extent].copy_from_slice(bytes);
            } else {
                self.fail(format!("{param} has {extent} bytes, the case gives {}", bytes.len()));
            }
        }
        self
    }

    /// [`with_bytes`](Self::with_bytes) for f32 values.
    pub fn with_f32(self, param: &str, values: &[f32]) -> Self {
        self.with_bytes(param, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    /// [`with_bytes`](Self::with_bytes) for u32 values.
    pub fn with_u32(self, param: &str, values: &[u32]) -> Self {
        self.with_bytes(param, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Parameter `param` points to the same buffer as `other`: the kernel runs in place. Only `other` is
    /// given data.
    pub fn with_alias(mut self, param: &str, other: &str) -> Self {
        if let (Some(index), Some(target)) = (self.index(param), self.index(other)) {
            if self.extent(index) == self.extent(target) {
                self.arguments[index] = self.arguments[target];
                self.name.push_str(&format!("/{param}_is_{other}"));
            } else {
                self.fail(format!("{param} and {other} differ in extent"));
            }
        }
        self
    }

    /// Afterwards `param` holds `bytes` from byte `offset` on.
    pub fn expect_bytes_at(self, param: &str, offset: usize, bytes: Vec<u8>) -> Self {
        self.expect(param, offset, Expect::Bytes(bytes))
    }

    /// Afterwards `param` holds `bytes`.
    pub fn expect_bytes(self, param: &str, bytes: Vec<u8>) -> Self {
        self.expect_bytes_at(param, 0, bytes)
    }

    /// Afterwards `param` holds exactly these u32 values.
    pub fn expect_u32(self, param: &str, values: &[u32]) -> Self {
        self.expect_bytes(param, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Afterwards `param` holds exactly these f32 values, bit for bit.
    pub fn expect_f32_bits(self, param: &str, values: &[f32]) -> Self {
        self.expect_bytes(param, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Afterwards `param` holds f32 rows of `cols` values, each within the relative L2 error `bound`.
    pub fn expect_f32(self, param: &str, values: Vec<f64>, cols: usize, bound: f64) -> Self {
        self.expect(param, 0, Expect::F32 { values, cols, bound })
    }

    /// Afterwards `param` meets `expect` from byte `offset` on.
    pub fn expect(mut self, param: &str, offset: usize, expect: Expect) -> Self {
        if let Some(index) = self.index(param) {
            let (bytes, extent) = (expect.bytes(), self.extent(index));
            if offset.checked_add(bytes).is_none_or(|end| end > extent) {
                self.fail(format!("{param} has {extent} bytes, a check covers {bytes} from {offset} on"));
            }
            if matches!(&expect, Expect::F32 { values, cols, .. } if *cols == 0 || values.len() % cols != 0) {
                self.fail(format!("{param}: the expected values are not whole rows"));
            }
            self.checks.push(Check { param: index, offset, expect });
        }
        self
    }

    /// Runs the case on `runner`.
    ///
    /// # Errors
    /// [`CaseFailure`]: the case is malformed, the launch failed, or a buffer does not hold what it should.
    pub fn run<R: PtxRunner>(&self, runner: &mut R) -> Result<CaseReport, CaseFailure> {
        let buffers = self.launch(runner)?;
        self.check(&buffers)
    }

    /// Compares what a launch left in `buffers` (as [`launch`](Self::launch) returns them) with what should be there.
    ///
    /// # Errors
    /// [`CaseFailure::Mismatch`] for the first difference.
    pub fn check(&self, buffers: &[Vec<u8>]) -> Result<CaseReport, CaseFailure> {
        let mut worst = 0.0f64;
        let mut covered: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); buffers.len()];
        let params = self.kernel.params();
        for check in &self.checks {
            let buffer = self.arguments[check.param];
            let end = check.offset + check.expect.bytes();
            covered[buffer].insert(check.offset, end);
            let got = &buffers[buffer][check.offset..end];
            let place = Place { case: &self.name, param: params[check.param].name, offset: check.offset };
            match &check.expect {
                Expect::Bytes(want) => place.same_bytes(got, want, "the expected value")?,
                Expect::F32 { values, cols, bound } => {
                    worst = worst.max(place.near(got, values, *cols, *bound)?);
                }
            }
        }
        for (index, covered) in covered.iter().enumerate() {
            let Some(first) = self.arguments.iter().position(|&b| b == index) else { continue };
            let (got, want) = (&buffers[index], &self.buffers[index]);
            let place = |offset| Place { case: &self.name, param: params[first].name, offset };
            let mut from = 0;
            for (&start, &end) in covered.iter().chain([(&got.len(), &got.len())]) {
                if start > from {
                    place(from).same_bytes(&got[from..start], &want[from..start], "untouched")?;
                }
                from = from.max(end);
            }
        }
        Ok(CaseReport { relative_error: worst })
    }

    /// Launches the kernel and returns the buffers as it left them, guards included, without checking them.
    ///
    /// # Errors
    /// [`CaseFailure::Malformed`] and [`CaseFailure::Launch`].
    pub fn launch<R: PtxRunner>(&self, runner: &mut R) -> Result<Vec<Vec<u8>>, CaseFailure> {
        if let Some(reason) = &self.defect {
            return Err(CaseFailure::Malformed { case: self.name.clone(), reason: reason.clone() });
        }
        let mut buffers = self.buffers.clone();
        let mut views: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
        runner
            .run(self.kernel.as_ref(), &mut views, &self.arguments)
            .map_err(|source| CaseFailure::Launch { case: self.name.clone(), source: Box::new(source) })?;
        Ok(buffers)
    }

    fn index(&mut self, param: &str) -> Option<usize> {
        let found = self.kernel.params().iter().position(|p| p.name == param);
        if found.is_none() {
            self.fail(format!("the kernel has no parameter {param}"));
        }
        found
    }

    fn extent(&self, index: usize) -> usize {
        self.buffers[self.arguments[index]].len() - GUARD_BYTES
    }

    fn fail(&mut self, reason: String) {
        self.defect.get_or_insert(reason);
    }
}

/// What a case that passed says about itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaseReport {
    /// The largest relative L2 error of any checked row; 0 if only bytes were compared.
    pub relative_error: f64,
}

/// Why a case failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseFailure {
    /// The case itself is wrong.
    #[error("{case}: malformed case: {reason}")]
    Malformed {
        /// The case.
        case: String,
        /// What does not fit.
        reason: String,
    },
    /// The runner could not run the kernel.
    #[error("{case}: the launch failed: {source}")]
    Launch {
        /// The case.
        case: String,
        /// What the runner said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A buffer does not hold what it should.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
}

/// The first difference between a buffer and its expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// The case.
    pub case: String,
    /// The parameter's name.
    pub param: String,
    /// The byte from the pointer on (guards come after the extent).
    pub byte: usize,
    /// What is there.
    pub got: String,
    /// What should be there.
    pub want: String,
    /// The rule that was broken.
    pub rule: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, param, byte, got, want, rule } = self;
        write!(f, "{case}: {param} at byte {byte} (element {}): got {got}, want {want}: {rule}", byte / 4)
    }
}

struct Place<'a> {
    case: &'a str,
    param: &'a str,
    offset: usize,
}

impl Place<'_> {
    fn mismatch(&self, byte: usize, got: String, want: String, rule: String) -> CaseFailure {
        let (case, param) = (self.case.to_owned(), self.param.to_owned());
        CaseFailure::Mismatch(Box::new(Mismatch { case, param, byte: self.offset + byte, got, want, rule }))
    }

    fn same_bytes(&self, got: &[u8], want: &[u8], rule: &str) -> Result<(), CaseFailure> {
        let Some(at) = got.iter().zip(want).position(|(g, w)| g != w) else { return Ok(()) };
        let word = at / 4 * 4;
        let show = |bytes: &[u8]| {
            let word = &bytes[word..bytes.len().min(word + 4)];
            let hex: String = word.iter().rev().map(|b| format!("{b:02x}")).collect();
            match <[u8; 4]>::try_from(word) {
                Ok(b) => format!("0x{hex} (u32 {}, f32 {:e})", u32::from_le_bytes(b), f32::from_le_bytes(b)),
                Err(_) => format!("0x{hex}"),
            }
        };
        Err(self.mismatch(at, show(got), show(want), rule.to_owned()))
    }

    fn near(&self, got: &[u8], want: &[f64], cols: usize, bound: f64) -> Result<f64, CaseFailure> {
        let got: Vec<f32> =
            got.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let mut worst = 0.0f64;
        for (row, (got, want)) in got.chunks(cols).zip(want.chunks(cols)).enumerate() {
            let (mut error, mut norm, mut largest) = (0.0f64, 0.0f64, (0.0f64, 0));
            for (col, (&g, &w)) in got.iter().zip(want).enumerate() {
                let byte = (row * cols + col) * 4;
                let difference = f64::from(g) - w;
                let written = g.to_bits() != u32::from_le_bytes([POISON; 4]);
                let special = if w.is_nan() { g.is_nan() && written } else { f64::from(g) == w };
                if (!w.is_finite() || !g.is_finite()) && !special {
                    let rule = format!("row {row}, column {col}");
                    return Err(self.mismatch(byte, format!("{g:e}"), format!("{w:e}"), rule));
                }
                if w.is_finite() && g.is_finite() {
                    error += difference * difference;
                    norm += w * w;
                    if difference.abs() > largest.0 {
                        largest = (difference.abs(), col);
                    }
                }
            }
            // An expectation of zeros leaves only equality.
            let relative = if error == 0.0 { 0.0 } else { (error / norm).sqrt() };
            if relative > bound {
                let col = largest.1;
                let rule = format!(
                    "relative L2 error {relative:.3e} of row {row} exceeds {bound:.1e}; largest at column {col}"
                );
                let byte = (row * cols + col) * 4;
                return Err(self.mismatch(byte, format!("{:e}", got[col]), format!("{:e}", want[col]), rule));
            }
            worst = worst.max(relative);
        }
        Ok(worst)
    }
}

/// Two cases of which parts have to come out bit for bit the same, such as one row of a batch and that row alone.
#[derive(Debug)]
pub struct Invariance {
    /// A unique name.
    pub name: String,
    /// One case.
    pub left: Case,
    /// The other.
    pub right: Case,
    /// The parameter that is compared.
    pub param: &'static str,
    /// The bytes of the parameter in the left case.
    pub left_bytes: Range<usize>,
    /// The bytes of the parameter in the right case; as many.
    pub right_bytes: Range<usize>,
}

impl Invariance {
    /// Runs both cases, with their own checks, and compares.
    ///
    /// # Errors
    /// [`CaseFailure`] of either case, or [`CaseFailure::Mismatch`] if the two differ.
    pub fn run<R: PtxRunner>(&self, runner: &mut R) -> Result<(), CaseFailure> {
        let part = |case: &Case, buffers: &[Vec<u8>], bytes: &Range<usize>| {
            let index = case.kernel.params().iter().position(|p| p.name == self.param);
            let buffer = index.map(|i| &buffers[case.arguments[i]]);
            let part = buffer.and_then(|b| b[..b.len() - GUARD_BYTES].get(bytes.clone())).map(<[u8]>::to_vec);
            part.ok_or_else(|| {
                let reason = format!("no bytes {bytes:?} of {} to compare", self.param);
                CaseFailure::Malformed { case: self.name.clone(), reason }
            })
        };
        let left = self.left.launch(runner)?;
        self.left.check(&left)?;
        let right = self.right.launch(runner)?;
        self.right.check(&right)?;
        let left = part(&self.left, &left, &self.left_bytes)?;
        let right = part(&self.right, &right, &self.right_bytes)?;
        if left.len() != right.len() {
            let reason = format!("{} bytes against {}", left.len(), right.len());
            return Err(CaseFailure::Malformed { case: self.name.clone(), reason });
        }
        Place { case: &self.name, param: self.param, offset: self.left_bytes.start }.same_bytes(
            &left,
            &right,
            "the same as in the other case",
        )
    }
}

/// The invariances whose name contains `filter` (all if it is empty).
pub fn invariances(filter: &str) -> impl Iterator<Item = Invariance> {
    let families: [fn() -> Vec<Invariance>; 2] =
        [crate::rms_norm::invariances, crate::attention::invariances];
    families.into_iter().flat_map(|family| family()).filter(move |pair| pair.name.contains(filter))
}

/// The conformance cases whose name contains `filter` (all if it is empty), built family by family as they are
/// asked for.
pub fn cases(filter: &str) -> impl Iterator<Item = Case> {
    let families: [fn() -> Vec<Case>; 11] = [
        crate::embed::cases,
        crate::rms_norm::cases,
        crate::gemv::cases,
        crate::quantize::cases,
        crate::elementwise::cases,
        crate::copy::cases,
        crate::rope::cases,
        crate::kv_scatter::cases,
        crate::attention::cases,
        crate::soft_max::cases,
        crate::argmax::cases,
    ];
    families.into_iter().flat_map(|family| family()).filter(move |case| case.name.contains(filter))
}
