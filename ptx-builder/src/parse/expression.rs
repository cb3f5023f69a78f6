//! Constant expressions of integers, as in `(4 + 2) * 8`: all operators of the PTX ISA, with the results of ptxas.

use super::lexer::Token;
use super::operand::integer;
use super::{Parser, Result};

/// The deepest nesting of parentheses, signs and choices.
const MAX_DEPTH: u32 = 32;

/// The binary operators by strength, weakest first.
const LEVELS: &[&[Operator]] = {
    use Operator::{Add, And, Both, Div, Either, Eq, Ge, Gt, Le, Lt, Mul, Ne, Or, Rem, Shl, Shr, Sub, Xor};
    &[
        &[Either],
        &[Both],
        &[Or],
        &[Xor],
        &[And],
        &[Eq, Ne],
        &[Lt, Le, Gt, Ge],
        &[Shl, Shr],
        &[Add, Sub],
        &[Mul, Div, Rem],
    ]
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Either,
    Both,
    Or,
    Xor,
    And,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Shl,
    Shr,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// A number of 64 bits, and whether it is unsigned: written with a `U`, above what signed ones hold, or made of such.
#[derive(Clone, Copy)]
struct Value {
    bits: u64,
    unsigned: bool,
}

impl Value {
    fn truth(holds: bool) -> Self {
        Self { bits: u64::from(holds), unsigned: false }
    }
}

impl Operator {
    /// Wrapping. A remainder takes both numbers as unsigned, a shift counts by the lowest six bits, what is true is a
    /// signed 1. `None` for a division by zero.
    fn apply(self, a: Value, b: Value) -> Option<Value> {
        let unsigned = match self {
            Self::Rem => true,
            Self::Shl | Self::Shr => a.unsigned,
            _ => a.unsigned || b.unsigned,
        };
        let (x, y) = (a.bits, b.bits);
        // With their signs flipped, signed numbers are in the order of unsigned ones.
        let flip = if unsigned { 0 } else { 1 << 63 };
        let order = (x ^ flip).cmp(&(y ^ flip));
        let bits = match self {
            Self::Either => return Some(Value::truth(x != 0 || y != 0)),
            Self::Both => return Some(Value::truth(x != 0 && y != 0)),
            Self::Eq => return Some(Value::truth(order.is_eq())),
            Self::Ne => return Some(Value::truth(order.is_ne())),
            Self::Lt => return Some(Value::truth(order.is_lt())),
            Self::Le => return Some(Value::truth(order.is_le())),
            Self::Gt => return Some(Value::truth(order.is_gt())),
            Self::Ge => return Some(Value::truth(order.is_ge())),
            Self::Or => x | y,
            Self::Xor => x ^ y,
            Self::And => x & y,
            Self::Shl => x.wrapping_shl(y as u32),
            Self::Shr if unsigned => x.wrapping_shr(y as u32),
            Self::Shr => x.cast_signed().wrapping_shr(y as u32).cast_unsigned(),
            Self::Add => x.wrapping_add(y),
            Self::Sub => x.wrapping_sub(y),
            Self::Mul => x.wrapping_mul(y),
            Self::Div | Self::Rem if y == 0 => return None,
            Self::Div if unsigned => x / y,
            Self::Div => x.cast_signed().wrapping_div(y.cast_signed()).cast_unsigned(),
            Self::Rem => x % y,
        };
        Some(Value { bits, unsigned })
    }
}

impl Parser<'_> {
    /// Does an expression start here, rather than one literal with or without a minus?
    pub(super) fn at_expression(&mut self) -> bool {
        let start = self.next;
        let mut prefixes = 0;
        let mut other = false;
        while let Token::Punct(c @ ('-' | '~' | '+' | '!')) = self.peek() {
            prefixes += 1;
            other |= c != '-';
            self.bump();
        }
        let found = match self.peek() {
            Token::Punct('(') => true,
            Token::Word("WARP_SZ") => true,
            Token::Number(_) => {
                self.bump();
                other || prefixes > 1 || self.peek() == Token::Punct('?') || self.operator().is_some()
            }
            _ => false,
        };
        self.next = start;
        found
    }

    /// The operator that comes next and how many tokens it has.
    fn operator(&mut self) -> Option<(Operator, usize)> {
        let first = match self.peek() {
            Token::Punct(c) => c,
            // The lexer reads `%` as the start of a name.
            Token::Word("%") => return Some((Operator::Rem, 1)),
            _ => return None,
        };
        let second = match self.tokens.get(self.next + 1) {
            Some((_, Token::Punct(c))) => *c,
            _ => ' ',
        };
        Some(match (first, second) {
            ('|', '|') => (Operator::Either, 2),
            ('&', '&') => (Operator::Both, 2),
            ('=', '=') => (Operator::Eq, 2),
            ('!', '=') => (Operator::Ne, 2),
            ('<', '<') => (Operator::Shl, 2),
            ('>', '>') => (Operator::Shr, 2),
            ('<', '=') => (Operator::Le, 2),
            ('>', '=') => (Operator::Ge, 2),
            ('<', _) => (Operator::Lt, 1),
            ('>', _) => (Operator::Gt, 1),
            ('|', _) => (Operator::Or, 1),
            ('^', _) => (Operator::Xor, 1),
            ('&', _) => (Operator::And, 1),
            ('+', _) => (Operator::Add, 1),
            ('-', _) => (Operator::Sub, 1),
            ('*', _) => (Operator::Mul, 1),
            ('/', _) => (Operator::Div, 1),
            _ => return None,
        })
    }

    pub(super) fn expression(&mut self) -> Result<i64> {
        Ok(self.choice(0)?.bits.cast_signed())
    }

    /// `a ? b : c`, which is signed or not as the one of the two that it is.
    fn choice(&mut self, depth: u32) -> Result<Value> {
        let value = self.binary(0, depth)?;
        if !self.eat('?') {
            return Ok(value);
        }
        let first = self.choice(depth + 1)?;
        self.expect(':')?;
        let second = self.choice(depth + 1)?;
        Ok(if value.bits != 0 { first } else { second })
    }

    fn binary(&mut self, level: usize, depth: u32) -> Result<Value> {
        let Some(operators) = LEVELS.get(level) else { return self.unary(depth) };
        let mut value = self.binary(level + 1, depth)?;
        while let Some((operator, tokens)) = self.operator().filter(|(found, _)| operators.contains(found)) {
            for _ in 0..tokens {
                self.bump();
            }
            let right = self.binary(level + 1, depth)?;
            value = match operator.apply(value, right) {
                Some(value) => value,
                None => return self.fail("this expression divides by zero"),
            };
        }
        Ok(value)
    }

    fn unary(&mut self, depth: u32) -> Result<Value> {
        if depth > MAX_DEPTH {
            return self.fail("this expression is nested too deeply");
        }
        if self.eat('-') {
            let value = self.unary(depth + 1)?;
            return Ok(Value { bits: value.bits.wrapping_neg(), ..value });
        }
        if self.eat('~') {
            return Ok(Value { bits: !self.unary(depth + 1)?.bits, unsigned: true });
        }
        if self.eat('+') {
            return self.unary(depth + 1);
        }
        if self.eat('!') {
            return Ok(Value::truth(self.unary(depth + 1)?.bits == 0));
        }
        if self.eat('(') {
            if let Token::Word(ty @ (".s64" | ".u64")) = self.peek() {
                self.bump();
                self.expect(')')?;
                return Ok(Value { unsigned: ty == ".u64", ..self.unary(depth + 1)? });
            }
            let value = self.choice(depth + 1)?;
            self.expect(')')?;
            return Ok(value);
        }
        if self.eat_word("WARP_SZ") {
            return Ok(Value { bits: 32, unsigned: false });
        }
        let text = self.digits()?;
        match integer(text) {
            Some(bits) => Ok(Value { bits, unsigned: text.ends_with('U') || i64::try_from(bits).is_err() }),
            None => self.fail("expected an integer before this"),
        }
    }
}
