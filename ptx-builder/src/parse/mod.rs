//! PTX text to the IR.
//!
//! Reads everything that the printer writes, and gives back an equal module. Beyond that it reads what compilers
//! print for CUDA C++: registers and labels of any name and type, nested braces, literals in any radix, comments
//! anywhere, functions declared before they are defined. Some of it has no place in the IR and is written in other
//! words, with the same meaning:
//! - Names in nested braces become names of the function, made different where they are not.
//! - Special registers, symbols and sums outside of `mov`, and predicates that are literals, are moved to a new
//!   register first, sums of a register and a number anywhere; `_` in the place of a result becomes a register that
//!   nobody reads.
//! - Integer literals lose the bits that their operand does not have; doubles are rounded to single precision.
//! - A comparison of packed halves is one of each half.
//! - A choice by a predicate that is negated has its operands exchanged; modifiers stand in any order.
//! - Parameters, arguments and results in `.reg` registers go through `.param` variables, which have no guard.
//! - A variable of `.f16` is one of bits, and a parameter with an alignment of its own is one of bytes.
//! - Every `.extern .shared` array is the dynamic shared memory; an alias is what it stands for; `.calltargets` is
//!   the prototype of its first function.
//! - Managed memory is global memory; a vector variable is an array of its elements.
//! - Control that runs off the end of a function returns.
//!
//! Debug information, pragmas and comments at the ends of lines are skipped. An instruction or directive that the
//! IR does not have is an error that names it. No input makes it panic, and no input makes it allocate more than a
//! small multiple of its length.

mod body;
mod call;
mod expression;
mod function;
mod inline;
mod lexer;
mod module;
mod operand;
mod refused;
mod scope;
mod variable;

pub(crate) use lexer::{INLINE_CLOSE, INLINE_OPEN};

use crate::module::Module;
use crate::ty::Ty;
use lexer::{Lexer, Pos, Token};

/// Why a text is not a module.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {message} at `{text}`")]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The text that is wrong.
    pub text: String,
    /// What is wrong with it.
    pub message: String,
}

impl ParseError {
    fn new(pos: Pos, text: impl Into<String>, message: impl Into<String>) -> Self {
        Self { line: pos.line, column: pos.column, text: text.into(), message: message.into() }
    }
}

type Result<T> = std::result::Result<T, ParseError>;

/// Reads a module. It is not verified: see [`Module::verify`].
///
/// # Errors
/// [`ParseError`] with line, column and text of the first thing that is not understood.
pub fn parse(text: &str) -> Result<Module> {
    let tokens = Lexer::tokens(text)?;
    Parser { tokens, next: 0 }.module()
}

struct Parser<'a> {
    tokens: Vec<(Pos, Token<'a>)>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Token<'a> {
        while let Some((_, Token::Comment(_))) = self.tokens.get(self.next) {
            self.next += 1;
        }
        self.peek_raw()
    }

    /// The next token, comments included.
    fn peek_raw(&self) -> Token<'a> {
        self.tokens.get(self.next).map_or(Token::End, |(_, token)| *token)
    }

    fn pos(&self) -> Pos {
        let index = self.next.min(self.tokens.len().saturating_sub(1));
        self.tokens.get(index).map_or(Pos { line: 1, column: 1 }, |(pos, _)| *pos)
    }

    fn bump(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += usize::from(token != Token::End);
        token
    }

    fn fail<T>(&mut self, message: impl Into<String>) -> Result<T> {
        let token = self.peek();
        Err(ParseError::new(self.pos(), token.text(), message))
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Token::Punct(c);
        self.next += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Token::Word(word);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, c: char) -> Result<()> {
        if self.eat(c) { Ok(()) } else { self.fail(format!("expected `{c}`")) }
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.eat_word(word) { Ok(()) } else { self.fail(format!("expected `{word}`")) }
    }

    fn word(&mut self, what: &str) -> Result<&'a str> {
        match self.peek() {
            Token::Word(word) => {
                self.bump();
                Ok(word)
            }
            _ => self.fail(format!("expected {what}")),
        }
    }

    /// The name of a symbol, register or label.
    fn name(&mut self, what: &str) -> Result<&'a str> {
        match self.peek() {
            Token::Word(word) if !word.contains(['.', ':']) => {
                self.bump();
                Ok(word)
            }
            _ => self.fail(format!("expected {what}")),
        }
    }

    fn number(&mut self) -> Result<u32> {
        if let Token::Number(text) = self.peek()
            && let Some(value) = operand::integer(text).and_then(|v| u32::try_from(v).ok())
        {
            self.bump();
            return Ok(value);
        }
        self.fail("expected a number of 32 bits")
    }

    /// The type of a variable: a half is 16 bits.
    fn stored_ty(&mut self) -> Result<Ty> {
        let ty = self.ty()?;
        Ok(if matches!(ty, Ty::F16 | Ty::F16x2) { ty.stored() } else { ty })
    }

    fn ty(&mut self) -> Result<Ty> {
        if let Token::Word(word) = self.peek()
            && let Some(ty) = word.strip_prefix('.').and_then(Ty::parse)
        {
            self.bump();
            return Ok(ty);
        }
        match self.peek() {
            Token::Word(".v2" | ".v4" | ".v8") => self.fail("vector registers are not supported"),
            Token::Word(".b128") => self.fail("128-bit types are not supported"),
            Token::Word(".texref" | ".surfref" | ".samplerref") => {
                self.fail("textures, surfaces and samplers are not supported")
            }
            _ => self.fail("expected a type"),
        }
    }
}
