//! Constant expressions of integers, as in `(4 + 2) * 8`.

use super::lexer::Token;
use super::operand::integer;
use super::{Parser, Result};

/// The deepest nesting of parentheses and signs.
const MAX_DEPTH: u32 = 32;

/// The binary operators that come after a given one in strength, weakest first; `|` separates operands.
const LEVELS: &[&[Operator]] = {
    use Operator::{Add, And, Div, Mul, Rem, Shl, Shr, Sub, Xor};
    &[&[Xor], &[And], &[Shl, Shr], &[Add, Sub], &[Mul, Div, Rem]]
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Xor,
    And,
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

impl Operator {
    /// Wrapping. A remainder takes both numbers as unsigned, a shift counts by the lowest six bits. `None` for a
    /// division by zero.
    fn apply(self, a: Value, b: Value) -> Option<Value> {
        let unsigned = match self {
            Self::Rem => true,
            Self::Shl | Self::Shr => a.unsigned,
            _ => a.unsigned || b.unsigned,
        };
        let (x, y) = (a.bits, b.bits);
        let bits = match self {
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
    /// Does an expression of several numbers start here, rather than one literal?
    pub(super) fn at_expression(&mut self) -> bool {
        let start = self.next;
        while matches!(self.peek(), Token::Punct('-' | '~')) {
            self.bump();
        }
        let several = match self.peek() {
            Token::Punct('(') => true,
            Token::Number(_) => {
                self.bump();
                self.operator().is_some()
            }
            _ => false,
        };
        let tilde = self.tokens.get(start).is_some_and(|(_, token)| *token == Token::Punct('~'));
        self.next = start;
        several || tilde
    }

    /// The operator that comes next and how many tokens it has.
    fn operator(&mut self) -> Option<(Operator, usize)> {
        let single = match self.peek() {
            Token::Punct('^') => Operator::Xor,
            Token::Punct('&') => Operator::And,
            Token::Punct('+') => Operator::Add,
            Token::Punct('-') => Operator::Sub,
            Token::Punct('*') => Operator::Mul,
            Token::Punct('/') => Operator::Div,
            Token::Punct(c @ ('<' | '>')) => {
                let twice =
                    self.tokens.get(self.next + 1).is_some_and(|(_, token)| *token == Token::Punct(c));
                let shift = if c == '<' { Operator::Shl } else { Operator::Shr };
                return twice.then_some((shift, 2));
            }
            // The lexer reads `%` as the start of a name.
            Token::Word("%") => Operator::Rem,
            _ => return None,
        };
        Some((single, 1))
    }

    pub(super) fn expression(&mut self) -> Result<i64> {
        Ok(self.binary(0, 0)?.bits.cast_signed())
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
        if self.eat('(') {
            let value = self.binary(0, depth + 1)?;
            self.expect(')')?;
            return Ok(value);
        }
        let text = self.digits()?;
        match integer(text) {
            Some(bits) => Ok(Value { bits, unsigned: text.ends_with('U') || i64::try_from(bits).is_err() }),
            None => self.fail("expected an integer before this"),
        }
    }
}
