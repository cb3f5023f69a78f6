//! A kernel, its memory before the launch, and what is checked after it.

use std::collections::BTreeMap;

use tensor_formats::ElementType;

use super::check::Place;
use super::{CaseFailure, Check, Expect, GUARD_BYTES, POISON, PtxRunner};
use crate::{Access, Kernel, Param};

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
    /// A case for `kernel` with every buffer poisoned and nothing checked yet but that nothing changes. Counters start
    /// as zeros, and must be zeros again; scratch may change. `data` distinguishes the case from others of the kernel;
    /// it may be empty.
    pub fn new(kernel: impl Kernel + 'static, data: &str) -> Self {
        let params = kernel.params();
        let name = if data.is_empty() { kernel.name() } else { format!("{}/{data}", kernel.name()) };
        let buffer = |p: &Param| {
            let mut buffer = vec![POISON; p.bytes as usize + GUARD_BYTES];
            if p.access == Access::Counter {
                buffer[..p.bytes as usize].fill(0);
            }
            buffer
        };
        let buffers = params.iter().map(buffer).collect();
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
        self.expect(param, 0, Expect::Near { element: ElementType::F32, values, cols, bound })
    }

    /// Afterwards `param` meets `expect` from byte `offset` on.
    pub fn expect(mut self, param: &str, offset: usize, expect: Expect) -> Self {
        if let Some(index) = self.index(param) {
            let (bytes, extent) = (expect.bytes(), self.extent(index));
            if offset.checked_add(bytes).is_none_or(|end| end > extent) {
                self.fail(format!("{param} has {extent} bytes, a check covers {bytes} from {offset} on"));
            }
            if matches!(&expect, Expect::Near { values, cols, .. } if *cols == 0 || values.len() % cols != 0)
            {
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
                Expect::Near { element, values, cols, bound } => {
                    worst = worst.max(place.near((*element, got), values, *cols, *bound)?);
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

    /// Launches the kernel and returns the buffers as it left them, guards included, without checking them. Scratch is
    /// returned as it was, since what it holds means nothing.
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
        for (param, &buffer) in self.kernel.params().iter().zip(&self.arguments) {
            if param.access == Access::Scratch {
                let extent = ..param.bytes as usize;
                buffers[buffer][extent].copy_from_slice(&self.buffers[buffer][extent]);
            }
        }
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
