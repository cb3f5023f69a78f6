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

impl Operator {
    /// In 64 bits, wrapping. `None` for a division by zero.
    fn apply(self, a: i64, b: i64) -> Option<i64> {
        let by = u32::try_from(b.clamp(0, 64)).unwrap_or(64);
        Some(match self {
            Self::Xor => a ^ b,
            Self::And => a & b,
            Self::Shl => a.checked_shl(by).unwrap_or(0),
            Self::Shr => a.checked_shr(by).unwrap_or(if a < 0 { -1 } else { 0 }),
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Div if b == 0 => return None,
            Self::Div => a.wrapping_div(b),
            Self::Rem if b == 0 => return None,
            Self::Rem => a.wrapping_rem(b),
        })
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
        self.binary(0, 0)
    }

    fn binary(&mut self, level: usize, depth: u32) -> Result<i64> {
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

    fn unary(&mut self, depth: u32) -> Result<i64> {
        if depth > MAX_DEPTH {
            return self.fail("this expression is nested too deeply");
        }
        if self.eat('-') {
            return Ok(self.unary(depth + 1)?.wrapping_neg());
        }
        if self.eat('~') {
            return Ok(!self.unary(depth + 1)?);
        }
        if self.eat('(') {
            let value = self.binary(0, depth + 1)?;
            self.expect(')')?;
            return Ok(value);
        }
        let text = self.digits()?;
        match integer(text) {
            Some(value) => Ok(value.cast_signed()),
            None => self.fail("expected an integer before this"),
        }
    }
}
