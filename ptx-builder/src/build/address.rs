//! Addresses: what can be one, offsets, address arithmetic and conversion between spaces.

use super::value::Sealed;
use super::{ArrayRef, KernelBuilder, MemTy, Reg, S32, S64, U32, U64, Val, Var};
use crate::inst::{Address, Base, Operand};
use crate::ops::Op;
use crate::ty::Ty;
use std::marker::PhantomData;
use std::ops::Add;

/// An address: a register and a signed byte offset. Made by `reg + 16`.
#[derive(Debug)]
pub struct Addr<T> {
    address: Address,
    marker: PhantomData<fn() -> T>,
}

impl<T> Clone for Addr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Addr<T> {}

impl<T> Addr<T> {
    fn new(base: Base, offset: i32) -> Self {
        Self { address: Address { base, offset }, marker: PhantomData }
    }
}

/// What can be used as an address in any state space: a 64-bit register, with or without an offset.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an address",
    label = "expected a `Reg<U64>` or `Reg<U64> + offset`"
)]
pub trait IntoAddr: Sealed + Copy {
    #[doc(hidden)]
    fn address(self) -> Address;
}

/// What can be used as an address in shared memory: a 32-bit or 64-bit register, or an array, with or
/// without an offset.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an address in shared memory",
    label = "expected a `Reg<U32>`, a `Reg<U64>` or an array, or one of them `+ offset`"
)]
pub trait SharedAddr: Sealed + Copy {
    #[doc(hidden)]
    fn shared_address(self) -> Address;
}

impl<T> Sealed for Addr<T> {}
impl<T> Sealed for ArrayRef<T> {}

macro_rules! register_addresses {
    ($($handle:ident)*) => { $(
        impl IntoAddr for $handle<U64> {
            fn address(self) -> Address {
                Address { base: Base::Reg(self.id()), offset: 0 }
            }
        }

        impl SharedAddr for $handle<U64> {
            fn shared_address(self) -> Address {
                Address { base: Base::Reg(self.id()), offset: 0 }
            }
        }

        impl SharedAddr for $handle<U32> {
            fn shared_address(self) -> Address {
                Address { base: Base::Reg(self.id()), offset: 0 }
            }
        }

        impl Add<i32> for $handle<U64> {
            type Output = Addr<U64>;

            fn add(self, offset: i32) -> Addr<U64> {
                Addr::new(Base::Reg(self.id()), offset)
            }
        }

        impl Add<i32> for $handle<U32> {
            type Output = Addr<U32>;

            fn add(self, offset: i32) -> Addr<U32> {
                Addr::new(Base::Reg(self.id()), offset)
            }
        }
    )* };
}

register_addresses! { Reg Var }

/// The offset is in bytes, whatever the element type.
impl<T> Add<i32> for ArrayRef<T> {
    type Output = Addr<U32>;

    fn add(self, offset: i32) -> Addr<U32> {
        Addr::new(Base::Array(self.id()), offset)
    }
}

/// Offsets accumulate; beyond 31 bits they saturate, which the verifier reports as out of bounds where it
/// knows the array.
impl<T> Add<i32> for Addr<T> {
    type Output = Self;

    fn add(self, offset: i32) -> Self {
        Self::new(self.address.base, self.address.offset.saturating_add(offset))
    }
}

impl IntoAddr for Addr<U64> {
    fn address(self) -> Address {
        self.address
    }
}

impl<T> SharedAddr for Addr<T> {
    fn shared_address(self) -> Address {
        self.address
    }
}

impl<T> SharedAddr for ArrayRef<T> {
    fn shared_address(self) -> Address {
        Address { base: Base::Array(self.id()), offset: 0 }
    }
}

impl KernelBuilder {
    /// The address of a shared array in a register.
    pub fn shared_base<M: MemTy>(&mut self, array: ArrayRef<M>) -> Reg<U32> {
        self.mov_operand(Ty::U32, Operand::Symbol(Base::Array(array.id())))
    }

    /// The address of a local array in a register.
    pub fn local_base<M: MemTy>(&mut self, array: ArrayRef<M>) -> Reg<U64> {
        self.mov_operand(Ty::U64, Operand::Symbol(Base::Array(array.id())))
    }

    /// The address of element `index` of a shared array.
    pub fn shared_index<M: MemTy>(&mut self, array: ArrayRef<M>, index: impl Val<U32>) -> Reg<U32> {
        let base = self.shared_base(array);
        self.mad::<U32>(index, M::MEM.bytes(), base)
    }

    /// `base + index * bytes` with the product in 64 bits.
    pub fn ptr_index(&mut self, base: impl Val<U64>, index: impl Val<U32>, bytes: u32) -> Reg<U64> {
        self.mad_wide::<U32>(index, bytes, base)
    }

    /// `base + index * bytes` for a signed index.
    pub fn ptr_index_signed(&mut self, base: impl Val<U64>, index: impl Val<S32>, bytes: i32) -> Reg<U64> {
        let offset: Reg<S64> = self.mul_wide::<S32>(index, bytes);
        self.add::<U64>(base, offset.cast::<U64>())
    }

    /// A generic address from one in global memory.
    pub fn global_to_generic(&mut self, addr: Reg<U64>) -> Reg<U64> {
        self.regular(Op::CvtaGlobal, Ty::U64, [addr.operand()])
    }

    /// A generic address from a 64-bit one in shared memory.
    pub fn shared_to_generic(&mut self, addr: Reg<U64>) -> Reg<U64> {
        self.regular(Op::CvtaShared, Ty::U64, [addr.operand()])
    }

    /// An address in global memory from a generic one.
    pub fn generic_to_global(&mut self, addr: Reg<U64>) -> Reg<U64> {
        self.regular(Op::CvtaToGlobal, Ty::U64, [addr.operand()])
    }

    /// A 64-bit address in shared memory from a generic one.
    pub fn generic_to_shared(&mut self, addr: Reg<U64>) -> Reg<U64> {
        self.regular(Op::CvtaToShared, Ty::U64, [addr.operand()])
    }
}
