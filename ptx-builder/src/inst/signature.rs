//! Signatures: what each operand of an instruction must be, and how operands are grouped in the text.

use super::space::Space;
use crate::ty::Ty;

/// Is an operand assigned or read?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Assigned.
    Def,
    /// Read.
    Use,
}

/// What an operand must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A register that agrees with the type.
    Reg(Ty),
    /// A register that the type fits in: integers and bits may sit in wider ones.
    WideReg(Ty),
    /// A register that agrees with the type, or a literal of it.
    Value(Ty),
    /// A register that the type fits in, or a literal of it.
    WideValue(Ty),
    /// An untyped 32-bit register, or a literal of 32 bits.
    Word,
    /// A predicate register; with `true`, it may be negated.
    Pred(bool),
    /// An integer literal.
    Literal,
    /// An address in a state space.
    Address(Space),
    /// What `mov` copies: register, literal, special register, symbol.
    MovSource(Ty),
    /// `_`: a result that there is no register for.
    Sink,
    /// A jump target.
    Label,
    /// Any register (inline text).
    Any,
}

impl What {
    /// The type, if it is a value that has one.
    pub const fn ty(self) -> Option<Ty> {
        match self {
            Self::Reg(ty)
            | Self::WideReg(ty)
            | Self::Value(ty)
            | Self::WideValue(ty)
            | Self::MovSource(ty) => Some(ty),
            Self::Word => Some(Ty::B32),
            _ => None,
        }
    }
}

/// How an argument is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `a`: one operand.
    One,
    /// May be left out at the end of the list.
    Optional,
    /// `{a, b}`: that many operands.
    Vector(u8),
    /// `d|p`: two operands, the second a predicate that may be missing ([`super::Operand::None`]).
    Pair,
}

/// One argument of the list: an operand or a group of operands of the same kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arg {
    /// Assigned or read.
    pub role: Role,
    /// What each operand must be.
    pub what: What,
    /// How it is written.
    pub form: Form,
}

impl Arg {
    pub(crate) const fn def(ty: Ty) -> Self {
        Self { role: Role::Def, what: What::Reg(ty), form: Form::One }
    }

    pub(crate) const fn one(what: What) -> Self {
        Self { role: Role::Use, what, form: Form::One }
    }

    pub(crate) const fn value(ty: Ty) -> Self {
        Self::one(What::Value(ty))
    }

    pub(crate) const fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    pub(crate) const fn vector(self, n: u8) -> Self {
        self.form(Form::Vector(n))
    }

    /// How many operands it stands for.
    pub const fn operands(&self) -> usize {
        match self.form {
            Form::One | Form::Optional => 1,
            Form::Vector(n) => n as usize,
            Form::Pair => 2,
        }
    }
}

/// The arguments of an instruction, results first.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    args: [Arg; Self::MAX],
    len: u8,
}

impl Signature {
    const MAX: usize = 8;

    pub(crate) fn new(args: &[Arg]) -> Self {
        let mut signature = Self { args: [Arg::one(What::Any); Self::MAX], len: 0 };
        for arg in args {
            signature.push(*arg);
        }
        signature
    }

    pub(crate) fn push(&mut self, arg: Arg) {
        self.args[usize::from(self.len)] = arg;
        self.len += 1;
    }

    /// The arguments.
    pub fn args(&self) -> &[Arg] {
        &self.args[..usize::from(self.len)]
    }

    /// How many of the operands, from the front, are assigned.
    pub fn def_operands(&self) -> usize {
        self.args().iter().filter(|arg| arg.role == Role::Def).map(Arg::operands).sum()
    }
}
