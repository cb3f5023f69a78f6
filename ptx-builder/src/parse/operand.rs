//! Operands: how they are written, then what they are for the instruction at hand.

use super::lexer::{Pos, Token};
use super::scope::Scope;
use super::{ParseError, Parser, Result};
use crate::ids::BlockId;
use crate::inst::{Address, Base, Form, Kind, Operand, Shape, SpecialReg, What};
use crate::ty::Ty;

/// An operand as written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    /// A register, symbol, label, special register, or `_`.
    Name(&'a str),
    /// `!name`.
    Not(&'a str),
    /// A number, negative if the flag says so.
    Number(bool, &'a str),
    /// `[name + offset]`.
    Address(&'a str, i64),
}

/// An argument as written: one operand, `{a, b}` or `a|b`.
#[derive(Debug)]
pub(super) struct RawArg<'a> {
    pos: Pos,
    form: RawForm,
    operands: Vec<Raw<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RawForm {
    One,
    Vector,
    Pair,
}

impl RawArg<'_> {
    pub(super) fn shape(&self) -> Shape {
        match self.form {
            RawForm::Vector => Shape::Vector(self.operands.len()),
            RawForm::One | RawForm::Pair => Shape::One,
        }
    }
}

impl<'a> Parser<'a> {
    /// Everything up to the semicolon.
    pub(super) fn arguments(&mut self) -> Result<Vec<RawArg<'a>>> {
        let mut args = Vec::new();
        if self.eat(';') {
            return Ok(args);
        }
        loop {
            self.peek();
            let pos = self.pos();
            let arg = if self.eat('{') {
                let mut operands = vec![self.operand()?];
                while self.eat(',') {
                    operands.push(self.operand()?);
                }
                self.expect('}')?;
                RawArg { pos, form: RawForm::Vector, operands }
            } else {
                let first = self.operand()?;
                if self.eat('|') {
                    RawArg { pos, form: RawForm::Pair, operands: vec![first, self.operand()?] }
                } else {
                    RawArg { pos, form: RawForm::One, operands: vec![first] }
                }
            };
            args.push(arg);
            if self.eat(';') {
                return Ok(args);
            }
            if !self.eat(',') {
                return self.fail("expected `,` or `;`");
            }
        }
    }

    fn operand(&mut self) -> Result<Raw<'a>> {
        match self.peek() {
            Token::Word(word) => {
                self.bump();
                Ok(Raw::Name(word))
            }
            Token::Punct('!') => {
                self.bump();
                Ok(Raw::Not(self.name("a predicate")?))
            }
            Token::Punct('-') => {
                self.bump();
                Ok(Raw::Number(true, self.digits()?))
            }
            Token::Number(text) => {
                self.bump();
                Ok(Raw::Number(false, text))
            }
            Token::Punct('[') => {
                self.bump();
                let base = self.name("a register or symbol")?;
                let mut offset = 0;
                if let Token::Punct(sign @ ('+' | '-')) = self.peek() {
                    self.bump();
                    // Other compilers write `+-4`.
                    let negative = if sign == '+' { self.eat('-') } else { true };
                    let value = integer(self.digits()?).and_then(|v| i64::try_from(v).ok());
                    let Some(value) = value else { return self.fail("the offset has more than 63 bits") };
                    offset = if negative { -value } else { value };
                }
                self.expect(']')?;
                Ok(Raw::Address(base, offset))
            }
            _ => self.fail("expected an operand"),
        }
    }

    fn digits(&mut self) -> Result<&'a str> {
        match self.peek() {
            Token::Number(text) => {
                self.bump();
                Ok(text)
            }
            _ => self.fail("expected a number"),
        }
    }
}

/// The operands that the instruction's signature asks for.
pub(super) fn resolve<'a>(
    kind: &Kind,
    args: Vec<RawArg<'a>>,
    scope: &mut Scope<'a>,
    pos: Pos,
) -> Result<Vec<Operand>> {
    let signature = kind.signature(&[]);
    let mut operands = Vec::with_capacity(args.iter().map(|arg| arg.operands.len()).sum());
    let count = |message| Err(ParseError::new(pos, kind.to_string(), message));
    let mut args = args.into_iter();
    for expected in signature.args() {
        let Some(arg) = args.next() else {
            if expected.form == Form::Optional {
                continue;
            }
            return count("operands are missing");
        };
        let fits = match (expected.form, arg.form) {
            (Form::One | Form::Optional, RawForm::One) => true,
            (Form::Vector(n), RawForm::Vector) => usize::from(n) == arg.operands.len(),
            (Form::Pair, RawForm::One | RawForm::Pair) => true,
            _ => false,
        };
        if !fits {
            return Err(ParseError::new(
                arg.pos,
                kind.to_string(),
                "an operand is not grouped as it should be",
            ));
        }
        for (i, raw) in arg.operands.iter().enumerate() {
            let second = expected.form == Form::Pair && i == 1;
            let what = if second { What::Pred(false) } else { expected.what };
            let operand = resolve_one(*raw, what, scope, arg.pos)
                .map_err(|(text, message)| ParseError::new(arg.pos, text, message))?;
            operands.push(operand);
        }
        if expected.form == Form::Pair && arg.form == RawForm::One {
            operands.push(Operand::None);
        }
    }
    match args.next() {
        Some(_) => count("too many operands"),
        None => Ok(operands),
    }
}

fn resolve_one<'a>(
    raw: Raw<'a>,
    what: What,
    scope: &mut Scope<'a>,
    pos: Pos,
) -> std::result::Result<Operand, (String, &'static str)> {
    let unknown = |name: &str, message| Err((name.to_owned(), message));
    match raw {
        Raw::Name(name) if what == What::Label => Ok(Operand::Label(BlockId(scope.label(name, pos)))),
        Raw::Name(name) => {
            if let Some(reg) = scope.register(name) {
                return Ok(Operand::Reg(reg));
            }
            match what {
                What::Pred(_) if name == "_" => Ok(Operand::None),
                What::MovSource(_) => {
                    if let Some(special) = SpecialReg::parse(name) {
                        return Ok(Operand::Special(special));
                    }
                    if let Some(base) = scope.symbols.get(name) {
                        return Ok(Operand::Symbol(*base));
                    }
                    unknown(name, "unknown register or symbol")
                }
                _ => unknown(name, "unknown register"),
            }
        }
        Raw::Not(name) => match scope.register(name) {
            Some(reg) => Ok(Operand::NotPred(reg)),
            None => unknown(name, "unknown register"),
        },
        Raw::Number(negative, text) => {
            let ty = match what {
                What::Value(ty) | What::WideValue(ty) | What::MovSource(ty) => ty,
                What::Literal => Ty::S64,
                _ => return unknown(text, "a literal cannot stand here"),
            };
            match literal(negative, text, ty) {
                Some(operand) => Ok(operand),
                None => unknown(text, "this literal does not fit the type of the operand"),
            }
        }
        Raw::Address(name, offset) => {
            let Ok(offset) = i32::try_from(offset) else {
                return unknown(name, "the offset of this address has more than 32 bits");
            };
            let base = match (scope.register(name), scope.symbols.get(name)) {
                (Some(reg), _) => Base::Reg(reg),
                (None, Some(base)) => *base,
                (None, None) => return unknown(name, "unknown register or symbol"),
            };
            Ok(Operand::Addr(Address { base, offset }))
        }
    }
}

/// A literal in the form in which the IR stores it: signed types by value, others by bits.
fn literal(negative: bool, text: &str, ty: Ty) -> Option<Operand> {
    if let Some(float) = float_bits(text) {
        return match (float, ty) {
            (Operand::F32(bits), Ty::F32) if !negative => Some(Operand::F32(bits)),
            (Operand::F64(bits), Ty::F64) if !negative => Some(Operand::F64(bits)),
            (Operand::F32(bits), Ty::B32) if !negative => Some(Operand::Int(i64::from(bits))),
            (Operand::F64(bits), Ty::B64) if !negative => Some(Operand::Int(bits.cast_signed())),
            _ => None,
        };
    }
    if matches!(ty, Ty::F32 | Ty::F64) {
        // Decimal literals are doubles, rounded to the type of the operand.
        let looks_decimal =
            text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b".eE".contains(&b));
        let value: f64 = text.parse().ok().filter(|_| looks_decimal)?;
        let value = if negative { -value } else { value };
        #[expect(clippy::cast_possible_truncation, reason = "the rounding that the PTX ISA defines")]
        return Some(match ty {
            Ty::F32 => Operand::F32((value as f32).to_bits()),
            _ => Operand::F64(value.to_bits()),
        });
    }
    let magnitude = i128::from(integer(text)?);
    ty.canonical_literal(if negative { -magnitude } else { magnitude }).map(Operand::Int)
}

/// `0f3F800000` and `0d3FF0000000000000`.
fn float_bits(text: &str) -> Option<Operand> {
    let hex = |digits: &str, n: usize| {
        (digits.len() == n && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u64::from_str_radix(digits, 16).ok())
            .flatten()
    };
    let rest = text.strip_prefix('0')?;
    if let Some(digits) = rest.strip_prefix(['f', 'F']) {
        return hex(digits, 8).and_then(|bits| u32::try_from(bits).ok()).map(Operand::F32);
    }
    hex(rest.strip_prefix(['d', 'D'])?, 16).map(Operand::F64)
}

/// An unsigned integer: decimal, `0x`, `0b` or octal with a leading 0; `U` may follow.
pub(super) fn integer(text: &str) -> Option<u64> {
    let text = text.strip_suffix('U').unwrap_or(text);
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    valid.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}
