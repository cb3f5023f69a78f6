//! Barrier objects in shared memory: `mbarrier`.
//!
//! The object is 64 bits, aligned to 8. A phase completes when the pending arrivals and the pending transaction
//! bytes are both zero; an arrival returns the state that `test_wait` and `try_wait` take, the `parity` forms take
//! the low bit of the number of completed phases instead.

use super::space::{Scope, Space};
use super::{Arg, AtomOrder, Form, Operand, Role, Shape, Signature, What, Words, named};
use crate::ops::Effects;
use crate::target::Requires;
use crate::ty::Ty;
use std::fmt;

named! {
    /// What is done to the barrier object.
    MbarrierOp {
        /// Makes it, with a number of expected arrivals.
        Init = "init",
        /// Ends its use; the memory may hold something else then.
        Inval = "inval",
        /// Adds to the transaction bytes that the phase waits for.
        ExpectTx = "expect_tx",
        /// Takes from the transaction bytes that the phase waits for.
        CompleteTx = "complete_tx",
        /// Arrives, by 1 or a count.
        Arrive = "arrive",
        /// Adds to the expected transaction bytes, then arrives by 1.
        ArriveExpectTx = "arrive.expect_tx",
        /// Arrives by a count that does not complete the phase.
        ArriveNoComplete = "arrive.noComplete",
        /// Arrives, and lowers the number of arrivals that later phases expect.
        ArriveDrop = "arrive_drop",
        /// Adds to the expected transaction bytes, then does what `arrive_drop` does.
        ArriveDropExpectTx = "arrive_drop.expect_tx",
        /// What `arrive_drop` does, without completing the phase.
        ArriveDropNoComplete = "arrive_drop.noComplete",
        /// Is the phase of this state complete?
        TestWait = "test_wait",
        /// Is the phase of this parity complete?
        TestWaitParity = "test_wait.parity",
        /// Like `test_wait`, but waits for some time.
        TryWait = "try_wait",
        /// Like `test_wait.parity`, but waits for some time.
        TryWaitParity = "try_wait.parity",
        /// The pending arrivals in a state.
        PendingCount = "pending_count",
    }
}

impl MbarrierOp {
    /// Does it arrive, and give back the state from before?
    pub const fn arrives(self) -> bool {
        matches!(
            self,
            Self::Arrive
                | Self::ArriveExpectTx
                | Self::ArriveNoComplete
                | Self::ArriveDrop
                | Self::ArriveDropExpectTx
                | Self::ArriveDropNoComplete
        )
    }

    /// Does it ask whether a phase is complete?
    pub const fn waits(self) -> bool {
        matches!(self, Self::TestWait | Self::TestWaitParity | Self::TryWait | Self::TryWaitParity)
    }
}

/// `mbarrier.op{.order.scope}{.space}.b64 operands`.
///
/// Operands, by operation: `[a], count` (init), `[a]` (inval), `[a], bytes` (expect_tx, complete_tx),
/// `state, [a]{, count}` (arrive, arrive_drop), `state, [a], count or bytes` (their `noComplete` and `expect_tx`),
/// `p, [a], state or parity` (test_wait), the same and an optional time in nanoseconds (try_wait), `d, state`
/// (pending_count). An arrival in the memory of another block has `_` for its state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mbarrier {
    /// What is done.
    pub op: MbarrierOp,
    /// `shared`, `shared::cluster` or generic; generic for [`MbarrierOp::PendingCount`], which has no address.
    pub space: Space,
    /// Order and scope, if they are written: otherwise arrivals release and waits acquire in the block.
    pub order: Option<(AtomOrder, Scope)>,
    /// Do `arrive` and `arrive_drop` have a count, rather than 1?
    pub count: bool,
}

impl Mbarrier {
    pub(super) fn signature(&self) -> Signature {
        use MbarrierOp as M;
        let address = Arg::one(What::Address(self.space));
        let word = Arg::value(Ty::U32);
        let optional = word.form(Form::Optional);
        let state = Arg::one(What::Reg(Ty::U64));
        let sink = Arg { role: Role::Def, ..Arg::one(What::Sink) };
        let old = if self.space == Space::SharedCluster { sink } else { Arg::def(Ty::U64) };
        let complete = Arg { role: Role::Def, ..Arg::one(What::Pred(false)) };
        match self.op {
            M::Init | M::ExpectTx | M::CompleteTx => Signature::new(&[address, word]),
            M::Inval => Signature::new(&[address]),
            M::Arrive | M::ArriveDrop if !self.count => Signature::new(&[old, address]),
            M::Arrive | M::ArriveDrop => Signature::new(&[old, address, word]),
            M::ArriveExpectTx | M::ArriveNoComplete | M::ArriveDropExpectTx | M::ArriveDropNoComplete => {
                Signature::new(&[old, address, word])
            }
            M::TestWait => Signature::new(&[complete, address, state]),
            M::TestWaitParity => Signature::new(&[complete, address, word]),
            M::TryWait => Signature::new(&[complete, address, state, optional]),
            M::TryWaitParity => Signature::new(&[complete, address, word, optional]),
            M::PendingCount => Signature::new(&[Arg::def(Ty::U32), state]),
        }
    }

    pub(super) fn requires(&self) -> Requires {
        use MbarrierOp as M;
        let op = match self.op {
            M::ExpectTx | M::CompleteTx | M::ArriveExpectTx | M::ArriveDropExpectTx => {
                Requires::new(8, 0, 90)
            }
            M::TryWait | M::TryWaitParity => Requires::new(7, 8, 90),
            _ if self.count => Requires::new(7, 8, 90),
            M::TestWaitParity => Requires::new(7, 1, 80),
            _ => Requires::new(7, 0, 80),
        };
        let space = self.space.requires().and(op);
        match self.order {
            None => space,
            Some((AtomOrder::Relaxed, _)) if self.op.arrives() || self.op.waits() => {
                space.and(Requires::new(8, 6, 90))
            }
            Some((AtomOrder::Relaxed, _)) => space.and(Requires::new(8, 0, 90)),
            Some((_, Scope::Cluster)) => space.and(Requires::new(8, 0, 90)),
            Some(_) => space.and(Requires::new(8, 0, 80)),
        }
    }

    pub(super) fn effects(&self) -> Effects {
        match self.op {
            MbarrierOp::PendingCount => Effects::PURE,
            MbarrierOp::Init | MbarrierOp::Inval => Effects { writes: true, ..Effects::SYNC },
            op if op.waits() => Effects { reads: true, ..Effects::EXCHANGE },
            _ => Effects::ATOMIC,
        }
    }

    pub(super) fn problems(&self, operands: &[Operand], report: &mut dyn FnMut(String)) {
        use MbarrierOp as M;
        let name = self.op.name();
        if self.count && !matches!(self.op, M::Arrive | M::ArriveDrop) {
            report(format!("mbarrier.{name} has no optional count"));
        }
        let remote = matches!(
            self.op,
            M::ExpectTx
                | M::CompleteTx
                | M::Arrive
                | M::ArriveExpectTx
                | M::ArriveDrop
                | M::ArriveDropExpectTx
        );
        let spaces = match self.space {
            Space::Shared => self.op != M::PendingCount,
            Space::SharedCluster => remote,
            Space::Generic => true,
            _ => false,
        };
        if !spaces {
            report(format!("no mbarrier.{name} in {} memory", self.space.name()));
        }
        let ordered = self.order.is_none_or(|(order, scope)| {
            let near = matches!(scope, Scope::Cta | Scope::Cluster);
            let fits = match self.op {
                M::ExpectTx | M::CompleteTx => order == AtomOrder::Relaxed,
                M::ArriveNoComplete | M::ArriveDropNoComplete => {
                    (order, scope) == (AtomOrder::Release, Scope::Cta)
                }
                op if op.arrives() => matches!(order, AtomOrder::Release | AtomOrder::Relaxed),
                op if op.waits() => matches!(order, AtomOrder::Acquire | AtomOrder::Relaxed),
                _ => false,
            };
            near && fits
        });
        if !ordered {
            report(format!("mbarrier.{name} does not take this order and scope"));
        }
        let counts = self.count || matches!(self.op, M::ArriveNoComplete | M::ArriveDropNoComplete);
        match operands.get(2) {
            Some(Operand::Int(0)) if counts => report(format!("mbarrier.{name} counts at least one arrival")),
            Some(Operand::Int(parity))
                if matches!(self.op, M::TestWaitParity | M::TryWaitParity) && !(0..=1).contains(parity) =>
            {
                report(format!("the parity of mbarrier.{name} is 0 or 1"));
            }
            _ => {}
        }
    }

    pub(super) fn parse(words: &mut Words<'_>, shapes: &[Shape]) -> Result<Self, String> {
        let first = words.take(|word| Some(word.to_owned())).unwrap_or_default();
        let two = words.peek().map(|second| format!("{first}.{second}"));
        let op = match two.as_deref().and_then(MbarrierOp::from_name) {
            Some(op) => {
                words.take(|_| Some(()));
                op
            }
            None => MbarrierOp::from_name(&first)
                .ok_or_else(|| format!("unknown operation `mbarrier.{first}`"))?,
        };
        let order = match words.take(AtomOrder::from_name) {
            Some(order) => Some((order, words.need("a scope", Scope::from_name)?)),
            None => None,
        };
        let space = Space::parse(words);
        words.expect("b64")?;
        let count = shapes.len() == 3 && matches!(op, MbarrierOp::Arrive | MbarrierOp::ArriveDrop);
        Ok(Self { op, space, order, count })
    }
}

impl fmt::Display for Mbarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mbarrier.{}", self.op.name())?;
        if let Some((order, scope)) = self.order {
            write!(f, ".{}.{}", order.name(), scope.name())?;
        }
        write!(f, "{}.b64", self.space.dotted())
    }
}
