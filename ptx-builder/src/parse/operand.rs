//! Operands: how they are written, then what they are for the instruction at hand.

use super::body::Body;
use super::lexer::{Pos, Token};
use super::{ParseError, Parser, Result};
use crate::ids::{BlockId, RegClass};
use crate::inst::{
    Address, Base, Form, Guard, Inst, Kind, Operand, Regular, Role, Setp, Shape, Space, SpecialReg, What,
};
use crate::ops::Op;
use crate::target::Requires;
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
    /// The value of a constant expression.
    Value(i64),
    /// `name + offset`, without brackets.
    Sum(&'a str, i64),
    /// `[name + offset]`.
    Address(&'a str, i64),
    /// `[offset]`.
    Absolute(i64),
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

    pub(super) fn operand(&mut self) -> Result<Raw<'a>> {
        if self.at_expression() {
            return self.expression().map(Raw::Value);
        }
        match self.peek() {
            Token::Word(word) => {
                self.bump();
                match self.peek() {
                    Token::Punct('+' | '-') => Ok(Raw::Sum(word, self.addend()?)),
                    _ => Ok(Raw::Name(word)),
                }
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
                let address = match self.peek() {
                    Token::Number(_) | Token::Punct('-' | '+' | '~' | '!' | '(') | Token::Word("WARP_SZ") => {
                        Raw::Absolute(self.expression()?)
                    }
                    _ => {
                        let base = self.name("a register or symbol")?;
                        Raw::Address(base, self.addend()?)
                    }
                };
                self.expect(']')?;
                Ok(address)
            }
            _ => self.fail("expected an operand"),
        }
    }

    /// `+4`, `-4`, `+-4`, `+4 * 2` or several of them, wrapping; 0 if there is none.
    pub(super) fn addend(&mut self) -> Result<i64> {
        let mut sum = 0i64;
        while let Token::Punct(sign @ ('+' | '-')) = self.peek() {
            self.bump();
            let whole = sign == '+' && self.at_expression();
            let term = if whole { self.expression()? } else { self.term()? };
            sum = if sign == '+' { sum.wrapping_add(term) } else { sum.wrapping_sub(term) };
        }
        Ok(sum)
    }

    /// A number with a sign.
    fn term(&mut self) -> Result<i64> {
        if self.peek() == Token::Punct('(') {
            return self.expression();
        }
        let negative = self.eat('-');
        let Some(value) = integer(self.digits()?) else {
            return self.fail("the offset is no integer of 64 bits");
        };
        let value = value.cast_signed();
        Ok(if negative { value.wrapping_neg() } else { value })
    }

    pub(super) fn digits(&mut self) -> Result<&'a str> {
        match self.peek() {
            Token::Number(text) => {
                self.bump();
                Ok(text)
            }
            _ => self.fail("expected a number"),
        }
    }
}

/// Finds what operands are. What an instruction of the IR does not take where the PTX ISA does (special registers
/// and symbols outside of `mov`, results that nobody wants) goes through a new register.
pub(super) struct Resolver<'r, 'b, 'a> {
    pub(super) body: &'r mut Body<'b, 'a>,
    pub(super) guard: Option<Guard>,
}

impl<'a> Resolver<'_, '_, 'a> {
    /// The operands that the instruction's signature asks for.
    pub(super) fn resolve(&mut self, kind: &Kind, args: Vec<RawArg<'a>>, pos: Pos) -> Result<Vec<Operand>> {
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
                // A vector of one is written with or without braces.
                (Form::Vector(1), RawForm::One) => true,
                (Form::One, RawForm::Vector) => arg.operands.len() == 1 && may_be_vector(kind, expected.what),
                _ => false,
            };
            if !fits {
                let message = "an operand is not grouped as it should be";
                return Err(ParseError::new(arg.pos, kind.to_string(), message));
            }
            for (i, raw) in arg.operands.iter().enumerate() {
                if let (Some(space), Raw::Name(name) | Raw::Sum(name, _)) = (converted(kind.op()), raw)
                    && self.space(name).is_some_and(|own| own != space)
                {
                    return Err(ParseError::new(arg.pos, *name, "this address is one in other memory"));
                }
                let second = expected.form == Form::Pair && i == 1;
                operands.push(match raw {
                    Raw::Name("_") if second => Operand::None,
                    raw if second => self.operand(*raw, What::Pred(false), expected.role, arg.pos)?,
                    raw => {
                        let operand = self.operand(*raw, expected.what, expected.role, arg.pos)?;
                        let negate = expected.role == Role::Use && takes_plain(expected.what);
                        if negate && kind.op() != Op::Selp { self.negated(operand) } else { operand }
                    }
                });
            }
            if expected.form == Form::Pair && arg.form == RawForm::One {
                operands.push(Operand::None);
            }
        }
        if args.next().is_some() {
            use Op::{BarRedAnd, BarRedOr, BarRedPopc, BarrierRedAnd, BarrierRedOr, BarrierRedPopc};
            return count(match kind.op() {
                BarRedAnd | BarRedOr | BarRedPopc | BarrierRedAnd | BarrierRedOr | BarrierRedPopc => {
                    "reductions over some threads of a block are not supported"
                }
                _ => "too many operands",
            });
        }
        if let (Op::Selp, [_, a, b, pred @ Operand::NotPred(_)]) = (kind.op(), &mut operands[..])
            && let Operand::NotPred(reg) = *pred
        {
            // The IR chooses by what holds.
            std::mem::swap(a, b);
            *pred = Operand::Reg(reg);
        }
        Ok(operands)
    }

    /// The operands of a minimum or maximum of three values, which the IR forms of two and one.
    pub(super) fn extreme_of_three(
        &mut self,
        kind: &Kind,
        mut args: Vec<RawArg<'a>>,
        pos: Pos,
    ) -> Result<Vec<Operand>> {
        let target = self.body.symbols.target;
        if !Requires::new(8, 8, 100).met_by(target) {
            let message =
                format!("a minimum or maximum of three values needs sm_100, the module targets {target}");
            return Err(ParseError::new(pos, kind.to_string(), message));
        }
        let third = args.split_off(3);
        let first = self.resolve(kind, args, pos)?;
        let ([dest, a, b], [RawArg { pos, form: RawForm::One, operands }]) = (&first[..], &third[..]) else {
            return Err(ParseError::new(pos, kind.to_string(), "an operand is not grouped as it should be"));
        };
        let c = self.operand(operands[0], What::Value(Ty::F32), Role::Use, *pos)?;
        let between = Operand::Reg(self.body.function.new_register(RegClass::F32));
        self.body.push(Inst::new(kind.clone(), vec![between, *a, *b]));
        Ok(vec![*dest, between, c])
    }

    pub(super) fn operand(&mut self, raw: Raw<'a>, what: What, role: Role, pos: Pos) -> Result<Operand> {
        let fail = |text: &str, message| Err(ParseError::new(pos, text, message));
        match raw {
            Raw::Name(name) if what == What::Label => {
                Ok(Operand::Label(BlockId(self.body.scope.label(name, pos))))
            }
            Raw::Name(name) => self.name(name, what, role, pos),
            Raw::Not(name) => match self.body.scope.register(name) {
                Some(reg) => Ok(Operand::NotPred(reg)),
                None => fail(name, "unknown register"),
            },
            Raw::Number(negative, text) => self
                .literal(what, role, |ty| literal(negative, text, ty))
                .or_else(|message| fail(text, message)),
            Raw::Value(value) => {
                let value = |ty: Ty| ty.truncated_literal(value).map(Operand::Int);
                self.literal(what, role, value).or_else(|message| fail("expression", message))
            }
            Raw::Sum(name, offset) => {
                let ty = match (what, role) {
                    (
                        What::Value(ty) | What::Reg(ty) | What::MovSource(ty) | What::WideValue(ty),
                        Role::Use,
                    ) if matches!(ty.bits(), 32 | 64) && !ty.is_float() => ty,
                    _ => return fail(name, "a sum cannot stand here"),
                };
                let unsigned = if ty.bits() == 64 { Ty::U64 } else { Ty::U32 };
                let Some(offset) = unsigned.canonical_literal(i128::from(offset)) else {
                    return fail(name, "this offset is too large");
                };
                let (sum, base) = match (self.body.scope.register(name), self.symbol(name)) {
                    (Some(reg), _) if reg.class() == ty.class() => {
                        (Operand::Reg(self.body.function.new_register(ty.class())), Operand::Reg(reg))
                    }
                    (Some(_), _) => return fail(name, "an offset belongs to a register of the same width"),
                    (None, Some(base)) => {
                        let sum = self.moved(ty, Operand::Symbol(base));
                        (sum, sum)
                    }
                    (None, None) => return fail(name, "unknown register or symbol"),
                };
                let add = Kind::Regular(Regular::new(Op::Add, Some(unsigned)));
                self.body.push(Inst::new(add, vec![sum, base, Operand::Int(offset)]));
                Ok(sum)
            }
            Raw::Address(name, offset) => {
                let base = match (self.body.scope.register(name), self.symbol(name)) {
                    (Some(reg), _) => Base::Reg(reg),
                    (None, Some(base)) => base,
                    (None, None) => return fail(name, "unknown register or symbol"),
                };
                if let Ok(offset) = i32::try_from(offset) {
                    return Ok(Operand::Addr(Address { base, offset }));
                }
                let (base, offset) = match base {
                    // Addresses of 32 bits wrap.
                    Base::Reg(reg) if reg.class() == RegClass::B32 && u32::try_from(offset).is_ok() => {
                        (base, offset as i32)
                    }
                    Base::Reg(reg) if reg.class() == RegClass::B64 => {
                        let sum = self.body.function.new_register(RegClass::B64);
                        let add = Kind::Regular(Regular::new(Op::Add, Some(Ty::U64)));
                        let operands = vec![Operand::Reg(sum), Operand::Reg(reg), Operand::Int(offset)];
                        self.body.push(Inst::new(add, operands));
                        (Base::Reg(sum), 0)
                    }
                    _ => return fail(name, "the offset of this address has more than 32 bits"),
                };
                Ok(Operand::Addr(Address { base, offset }))
            }
            Raw::Absolute(address) => {
                if !matches!(what, What::Address(space) if space != Space::Param) {
                    return fail("[", "an address cannot stand here");
                }
                let Operand::Reg(reg) = self.moved(Ty::B64, Operand::Int(address)) else {
                    return fail("[", "an address cannot stand here");
                };
                Ok(Operand::Addr(Address { base: Base::Reg(reg), offset: 0 }))
            }
        }
    }

    /// A literal, given what it is as a value of the type that is asked for.
    fn literal(
        &mut self,
        what: What,
        role: Role,
        of_type: impl FnOnce(Ty) -> Option<Operand>,
    ) -> std::result::Result<Operand, &'static str> {
        let ty = match what {
            What::Literal => Ty::S64,
            What::Pred(_) if role == Role::Use => Ty::Pred,
            _ if role == Role::Def => return Err("a literal cannot stand here"),
            what => what.ty().ok_or("a literal cannot stand here")?,
        };
        let operand = of_type(ty).ok_or("this literal does not fit the type of the operand")?;
        Ok(match what {
            What::Reg(_) | What::WideReg(_) | What::Pred(_) => self.moved(ty, operand),
            _ => operand,
        })
    }

    /// The memory that a symbol is in.
    fn space(&self, name: &str) -> Option<Space> {
        match self.symbol(name).filter(|_| self.body.scope.register(name).is_none())? {
            Base::Array(id) => self.body.function.array(id).map(|array| array.space),
            Base::Global(id) => self.body.symbols.globals.get(id.index()).map(|global| global.space),
            Base::Param(_) => Some(Space::Param),
            Base::DynamicShared => Some(Space::Shared),
            _ => None,
        }
    }

    fn symbol(&self, name: &str) -> Option<Base> {
        self.body.scope.symbol(name).or_else(|| self.body.symbols.get(name))
    }

    /// A name that is not a label.
    fn name(&mut self, name: &'a str, what: What, role: Role, pos: Pos) -> Result<Operand> {
        if let Some(reg) = self.body.scope.register(name) {
            return Ok(Operand::Reg(reg));
        }
        let unknown = |message: &str| Err(ParseError::new(pos, name, message));
        match (what, role) {
            (What::Sink, _) if name == "_" => return Ok(Operand::None),
            (_, Role::Def) if name == "_" => {
                let class = what.ty().map_or(RegClass::Pred, Ty::class);
                return Ok(Operand::Reg(self.body.function.new_register(class)));
            }
            (_, Role::Def) => return unknown("unknown register"),
            _ => {}
        }
        let Some(ty) = what.ty() else { return unknown("unknown register") };
        let direct = matches!(what, What::MovSource(_));
        if let Some(special) = SpecialReg::parse(name) {
            let source = Operand::Special(special);
            return Ok(if direct { source } else { self.moved(special.ty(), source) });
        }
        match self.symbol(name) {
            Some(base) if direct => Ok(Operand::Symbol(base)),
            Some(base) if matches!(ty.bits(), 32 | 64) && !ty.is_float() => {
                Ok(self.moved(ty, Operand::Symbol(base)))
            }
            Some(_) => unknown("a symbol cannot stand here"),
            None if super::refused::special(name) => unknown("this special register is not supported"),
            None if direct => unknown("unknown register or symbol"),
            None => unknown("unknown register"),
        }
    }

    /// `setp` of packed halves, which the IR compares one by one: the lower ones for the first result.
    pub(super) fn compare_halves(&mut self, setp: Setp, operands: &[Operand]) {
        let [first, second, a, b, combined @ ..] = operands else { return };
        let half = if setp.ty == Ty::F16x2 { Ty::F16 } else { Ty::BF16 };
        let [a, b] = [a, b].map(|pair| self.halves(*pair));
        let mut moves = Vec::with_capacity(2);
        for (i, to) in [*first, *second].into_iter().enumerate().filter(|(_, to)| *to != Operand::None) {
            let found = Operand::Reg(self.body.function.new_register(RegClass::Pred));
            let mut operands = vec![found, a[i], b[i]];
            operands.extend_from_slice(combined);
            self.body.push(Inst::new(Kind::Setp(Setp { ty: half, ..setp }), operands));
            moves.push((to, found));
        }
        // The guard may be a result, which is then assigned last.
        if self.guard.is_some_and(|guard| *first == Operand::Reg(guard.pred)) {
            moves.reverse();
        }
        for (to, from) in moves {
            let mov = Inst::new(Kind::Mov(Ty::Pred), vec![to, from]);
            self.body.push(Inst { guard: self.guard, ..mov });
        }
    }

    /// The halves of a pair, the lower one first.
    fn halves(&mut self, pair: Operand) -> [Operand; 2] {
        let pair = if let Operand::Reg(_) = pair { pair } else { self.moved(Ty::B32, pair) };
        let halves = [(); 2].map(|()| Operand::Reg(self.body.function.new_register(RegClass::B16)));
        let unpack = Kind::Unpack { ty: Ty::B32, parts: 2 };
        self.body.push(Inst::new(unpack, vec![halves[0], halves[1], pair]));
        halves
    }

    /// The operand; a predicate that is negated goes through a new register.
    fn negated(&mut self, operand: Operand) -> Operand {
        let Operand::NotPred(reg) = operand else { return operand };
        if reg.class() != RegClass::Pred {
            return operand;
        }
        let dest = Operand::Reg(self.body.function.new_register(RegClass::Pred));
        let not = Kind::Regular(Regular::new(Op::Not, Some(Ty::Pred)));
        self.body.push(Inst::new(not, vec![dest, Operand::Reg(reg)]));
        dest
    }

    /// A new register with the value.
    fn moved(&mut self, ty: Ty, source: Operand) -> Operand {
        let ty = ty.stored();
        let dest = Operand::Reg(self.body.function.new_register(ty.class()));
        self.body.push(Inst::new(Kind::Mov(ty), vec![dest, source]));
        dest
    }
}

/// Is it a predicate that the IR takes only as it is?
fn takes_plain(what: What) -> bool {
    matches!(
        what,
        What::Pred(false) | What::Reg(Ty::Pred) | What::Value(Ty::Pred) | What::MovSource(Ty::Pred)
    )
}

/// May the operand, which is a single one, stand between braces?
fn may_be_vector(kind: &Kind, what: What) -> bool {
    match kind {
        Kind::Ld(_) | Kind::St(_) => matches!(what, What::WideReg(_) | What::WideValue(_) | What::Value(_)),
        Kind::Mov(_) => true,
        _ => false,
    }
}

/// The memory whose addresses a conversion to generic addresses takes.
fn converted(op: Op) -> Option<Space> {
    match op {
        Op::CvtaGlobal => Some(Space::Global),
        Op::CvtaShared => Some(Space::Shared),
        Op::CvtaLocal => Some(Space::Local),
        Op::CvtaConst => Some(Space::Const),
        Op::CvtaParam => Some(Space::Param),
        _ => None,
    }
}

/// A literal in the form in which the IR stores it: signed types by value, others by bits.
fn literal(negative: bool, text: &str, ty: Ty) -> Option<Operand> {
    if ty == Ty::Pred {
        return integer(text).map(|value| Operand::Int(i64::from(value != 0)));
    }
    if let Some(float) = float_bits(text) {
        return match (float, ty) {
            (Operand::F32(bits), Ty::F32) if !negative => Some(Operand::F32(bits)),
            (Operand::F64(bits), Ty::F64) if !negative => Some(Operand::F64(bits)),
            // A double is rounded, as a decimal literal is.
            (Operand::F64(bits), Ty::F32) if !negative => Some(single(f64::from_bits(bits))),
            (Operand::F32(bits), Ty::B32) if !negative => Some(Operand::Int(i64::from(bits))),
            (Operand::F64(bits), Ty::B64) if !negative => Some(Operand::Int(bits.cast_signed())),
            _ => None,
        };
    }
    if matches!(ty, Ty::F32 | Ty::F64) {
        // Decimal literals are doubles, rounded to the type of the operand.
        let looks_decimal = text.contains(['.', 'e', 'E'])
            && text.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
        let value: f64 = text.parse().ok().filter(|value: &f64| looks_decimal && value.is_finite())?;
        let value = if negative { -value } else { value };
        return Some(if ty == Ty::F32 { single(value) } else { Operand::F64(value.to_bits()) });
    }
    let bits = integer(text)?;
    let bits = if negative { bits.wrapping_neg() } else { bits };
    ty.truncated_literal(bits.cast_signed()).map(Operand::Int)
}

/// A literal of single precision.
#[expect(clippy::cast_possible_truncation, reason = "the rounding that the PTX ISA defines")]
fn single(value: f64) -> Operand {
    Operand::F32((value as f32).to_bits())
}

/// The bits of an element of an initial value.
pub(super) fn element_bits(negative: bool, text: &str, ty: Ty) -> Option<u64> {
    match literal(negative, text, ty)? {
        Operand::Int(value) if ty != Ty::Pred => Some(value.cast_unsigned()),
        Operand::F32(bits) => Some(u64::from(bits)),
        Operand::F64(bits) => Some(bits),
        _ => None,
    }
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
