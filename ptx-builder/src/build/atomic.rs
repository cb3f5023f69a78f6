//! Atomic operations.

use super::{AtomTy, KernelBuilder, Reg, SharedAddr, Val};
use crate::inst::{Atom, AtomOp, AtomOrder, Kind, Operand, Red, Scope, Space};
use crate::ty::Ty;

/// Where and how an atomic operation happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Atomic {
    space: Space,
    order: Option<AtomOrder>,
    scope: Option<Scope>,
}

impl Atomic {
    /// Global memory, relaxed, among the threads of the device.
    pub const GLOBAL: Self = Self { space: Space::Global, order: None, scope: None };
    /// Shared memory, relaxed.
    pub const SHARED: Self = Self { space: Space::Shared, order: None, scope: None };
    /// A generic address, relaxed.
    pub const GENERIC: Self = Self { space: Space::Generic, order: None, scope: None };

    /// With an order and the scope that it holds in.
    pub const fn order(self, order: AtomOrder, scope: Scope) -> Self {
        Self { order: Some(order), scope: Some(scope), ..self }
    }
}

/// Bitwise operations, exchanges and comparisons are of untyped bits.
fn atomic_ty<T: AtomTy>(op: AtomOp) -> Ty {
    match (op, T::TY.bits()) {
        (AtomOp::And | AtomOp::Or | AtomOp::Xor | AtomOp::Exch | AtomOp::Cas, 32) => Ty::B32,
        (AtomOp::And | AtomOp::Or | AtomOp::Xor | AtomOp::Exch | AtomOp::Cas, 64) => Ty::B64,
        (AtomOp::Cas, 16) => Ty::B16,
        // Two's complement addition has no sign.
        (AtomOp::Add, 64) if T::TY == Ty::S64 => Ty::U64,
        _ => T::TY,
    }
}

impl KernelBuilder {
    /// An atomic operation; gives the old value.
    pub fn atom<T: AtomTy>(
        &mut self,
        how: Atomic,
        op: AtomOp,
        addr: impl SharedAddr,
        value: impl Val<T>,
    ) -> Reg<T> {
        let Atomic { space, order, scope } = how;
        let dest = self.fresh::<T>();
        let atom = Atom { space, order, scope, op, ty: atomic_ty::<T>(op) };
        let operands = vec![dest.operand(), Operand::Addr(addr.shared_address()), value.operand()];
        self.push(Kind::Atom(atom), operands);
        dest
    }

    /// Stores `new` if the old value equals `expected`; gives the old value.
    pub fn atom_cas<T: AtomTy>(
        &mut self,
        how: Atomic,
        addr: impl SharedAddr,
        expected: impl Val<T>,
        new: impl Val<T>,
    ) -> Reg<T> {
        let Atomic { space, order, scope } = how;
        let dest = self.fresh::<T>();
        let atom = Atom { space, order, scope, op: AtomOp::Cas, ty: atomic_ty::<T>(AtomOp::Cas) };
        let address = Operand::Addr(addr.shared_address());
        self.push(Kind::Atom(atom), vec![dest.operand(), address, expected.operand(), new.operand()]);
        dest
    }

    /// An atomic operation without a result.
    pub fn red<T: AtomTy>(&mut self, how: Atomic, op: AtomOp, addr: impl SharedAddr, value: impl Val<T>) {
        let Atomic { space, order, scope } = how;
        let red = Red { space, order, scope, op, ty: atomic_ty::<T>(op) };
        self.push(Kind::Red(red), vec![Operand::Addr(addr.shared_address()), value.operand()]);
    }
}
