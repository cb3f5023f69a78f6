//! Cache policies: `createpolicy.fractional`. Loads, stores and bulk copies take the result as a hint.

use super::{Arg, Form, Operand, Signature, Words, named};
use crate::ty::Ty;
use std::fmt;

named! {
    /// Eviction priority in L2.
    LevelTwoEviction {
        /// Last.
        Last = "L2::evict_last",
        /// The default order.
        Normal = "L2::evict_normal",
        /// First.
        First = "L2::evict_first",
        /// Do not change the order.
        Unchanged = "L2::evict_unchanged",
    }
}

/// `createpolicy.fractional.primary{.secondary}.b64 d{, fraction}`: the primary priority for a fraction of the
/// accesses (all if none is given), the secondary one for the rest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CreatePolicy {
    /// Of the fraction.
    pub primary: LevelTwoEviction,
    /// Of the rest: `evict_first` or `evict_unchanged`, which is also what none means.
    pub secondary: Option<LevelTwoEviction>,
}

impl CreatePolicy {
    pub(super) fn signature() -> Signature {
        Signature::new(&[Arg::def(Ty::U64), Arg::value(Ty::F32).form(Form::Optional)])
    }

    pub(super) fn problems(&self, operands: &[Operand], report: &mut dyn FnMut(String)) {
        use LevelTwoEviction::{Last, Normal};
        if matches!(self.secondary, Some(Last | Normal)) {
            report("the secondary priority is `evict_first` or `evict_unchanged`".to_owned());
        }
        if let Some(Operand::F32(bits)) = operands.get(1)
            && !(f32::from_bits(*bits) > 0.0 && f32::from_bits(*bits) <= 1.0)
        {
            report("the fraction of a cache policy is above 0 and at most 1".to_owned());
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        words.expect("fractional")?;
        let primary = words.need("an eviction priority", LevelTwoEviction::from_name)?;
        let secondary = words.take(LevelTwoEviction::from_name);
        words.expect("b64")?;
        Ok(Self { primary, secondary })
    }
}

impl fmt::Display for CreatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "createpolicy.fractional.{}", self.primary.name())?;
        if let Some(secondary) = self.secondary {
            write!(f, ".{}", secondary.name())?;
        }
        f.write_str(".b64")
    }
}
