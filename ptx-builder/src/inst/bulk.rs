//! Bulk asynchronous copies: `cp.async.bulk`.

use super::space::Space;
use super::{Arg, Operand, Signature, What, Words};
use crate::target::Requires;
use crate::ty::Ty;
use std::fmt;

/// How threads learn that a bulk copy is complete.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BulkCompletion {
    /// Its bytes are taken from the transaction count of the barrier object at the fourth operand, which is in the
    /// block of the destination.
    Mbarrier,
    /// It belongs to the bulk group of the thread.
    Group,
}

/// `cp.async.bulk.dst.src.completion{.multicast::cluster}{.L2::cache_hint} [d], [s], bytes{, [mbar]}{, mask}{, policy}`.
///
/// Addresses and the number of bytes are multiples of 16.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BulkCopy {
    /// Where to: `shared`, `shared::cluster` or `global`.
    pub to: Space,
    /// Where from: `global` or `shared`.
    pub from: Space,
    /// How it completes.
    pub completion: BulkCompletion,
    /// To the blocks of the cluster whose bits are set in a mask of 16 bits, at the same offset in each.
    pub multicast: bool,
    /// With a cache policy.
    pub cache_hint: bool,
}

impl BulkCopy {
    pub(super) fn signature(&self) -> Signature {
        let mut signature = Signature::new(&[
            Arg::one(What::Address(self.to)),
            Arg::one(What::Address(self.from)),
            Arg::value(Ty::U32),
        ]);
        if self.completion == BulkCompletion::Mbarrier {
            signature.push(Arg::one(What::Address(self.to)));
        }
        if self.multicast {
            signature.push(Arg::one(What::Reg(Ty::B16)));
        }
        if self.cache_hint {
            signature.push(Arg::one(What::Reg(Ty::U64)));
        }
        signature
    }

    pub(super) fn requires(&self) -> Requires {
        if self.to == Space::Shared { Requires::new(8, 6, 90) } else { Requires::new(8, 0, 90) }
    }

    pub(super) fn problems(&self, operands: &[Operand], report: &mut dyn FnMut(String)) {
        use BulkCompletion::{Group, Mbarrier};
        let exists = matches!(
            (self.to, self.from, self.completion),
            (Space::SharedCluster | Space::Shared, Space::Global, Mbarrier)
                | (Space::SharedCluster, Space::Shared, Mbarrier)
                | (Space::Global, Space::Shared, Group)
        );
        if !exists {
            report(format!(
                "no bulk copy from {} to {} memory with this completion",
                self.from.name(),
                self.to.name()
            ));
        }
        if self.multicast && (self.to, self.from) != (Space::SharedCluster, Space::Global) {
            report("only copies from global memory to the cluster go to several blocks".to_owned());
        }
        if self.cache_hint && self.from != Space::Global && self.to != Space::Global {
            report("cache policies belong to global memory".to_owned());
        }
        if let Some(Operand::Int(bytes)) = operands.get(2) {
            size_problems(*bytes, report);
        }
    }

    /// Is the mnemonic that of a bulk copy, rather than of its groups or a prefetch?
    pub(super) fn begins(mnemonic: &str) -> bool {
        mnemonic
            .strip_prefix("cp.async.bulk.")
            .is_some_and(|rest| ["shared", "global", "tensor"].iter().any(|word| rest.starts_with(word)))
    }

    /// After `cp.async.bulk`.
    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        if words.peek() == Some("tensor") {
            return Err("tensor copies are not supported".to_owned());
        }
        let to = Space::parse(words);
        let from = Space::parse(words);
        let completion =
            words.need("`.mbarrier::complete_tx::bytes` or `.bulk_group`", |word| match word {
                "mbarrier::complete_tx::bytes" => Some(BulkCompletion::Mbarrier),
                "bulk_group" => Some(BulkCompletion::Group),
                _ => None,
            })?;
        let multicast = words.eat("multicast::cluster");
        let cache_hint = words.eat("L2::cache_hint");
        Ok(Self { to, from, completion, multicast, cache_hint })
    }
}

/// What is wrong with a literal number of bytes.
pub(super) fn size_problems(bytes: i64, report: &mut dyn FnMut(String)) {
    if !(0..1 << 20).contains(&bytes) || bytes % 16 != 0 {
        report("a bulk copy moves a multiple of 16 bytes, less than 1 MiB".to_owned());
    }
}

/// Spaces are written in full here: `.shared` alone is not taken.
fn dotted(space: Space) -> &'static str {
    if space == Space::Shared { ".shared::cta" } else { space.dotted() }
}

impl fmt::Display for BulkCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cp.async.bulk{}{}", dotted(self.to), dotted(self.from))?;
        f.write_str(match self.completion {
            BulkCompletion::Mbarrier => ".mbarrier::complete_tx::bytes",
            BulkCompletion::Group => ".bulk_group",
        })?;
        f.write_str(if self.multicast { ".multicast::cluster" } else { "" })?;
        f.write_str(if self.cache_hint { ".L2::cache_hint" } else { "" })
    }
}
