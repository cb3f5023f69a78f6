//! Launches whose results must not differ.

use std::ops::Range;

use super::check::Place;
use super::{Case, CaseFailure, GUARD_BYTES, PtxRunner};

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
