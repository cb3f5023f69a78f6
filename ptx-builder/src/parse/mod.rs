//! PTX text to the IR.
//!
//! Reads everything that the printer writes, and gives back an equal module. Beyond that it reads registers
//! and labels of any name, omitted `.rn`-style modifiers where the PTX ISA has them, literals in any radix,
//! and comments anywhere. An instruction or directive that the IR does not have is an error that names it.
//! No input makes it panic, and no input makes it allocate more than a small multiple of its length.

mod body;
mod inline;
mod lexer;
mod operand;
mod scope;

pub(crate) use lexer::{INLINE_CLOSE, INLINE_OPEN};

use crate::ids::ParamId;
use crate::inst::Base;
use crate::module::{Function, Module, Param, ParamTy};
use crate::target::Target;
use crate::ty::Ty;
use lexer::{Lexer, Pos, Token};
use scope::Scope;

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

    fn ty(&mut self) -> Result<Ty> {
        if let Token::Word(word) = self.peek()
            && let Some(ty) = word.strip_prefix('.').and_then(Ty::parse)
        {
            self.bump();
            return Ok(ty);
        }
        self.fail("expected a type")
    }

    fn module(mut self) -> Result<Module> {
        self.expect_word(".version")?;
        match self.bump() {
            Token::Number(version) if version.split('.').all(|part| part.parse::<u8>().is_ok()) => {}
            _ => return self.fail("expected a version"),
        }
        self.expect_word(".target")?;
        let pos = self.pos();
        let name = self.word("a target")?;
        let target: Target = name
            .parse()
            .map_err(|error: crate::UnknownTarget| ParseError::new(pos, name, error.to_string()))?;
        self.expect_word(".address_size")?;
        if self.number()? != 64 {
            return self.fail("addresses have 64 bits");
        }
        let mut module = Module::new(target);
        // Names of the dynamic shared memory, as far as the text has declared it.
        let mut externs = Vec::new();
        while self.peek() != Token::End {
            if self.eat_word(".extern") {
                let (name, align) = self.extern_shared()?;
                externs.push(name);
                module.dynamic_shared = module.dynamic_shared.max(Some(align));
            } else {
                self.eat_word(".visible");
                if !self.eat_word(".entry") {
                    return self.fail("expected `.entry` or `.extern .shared`");
                }
                module.functions.push(self.function(&externs)?);
            }
        }
        Ok(module)
    }

    /// `.shared .align 16 .b8 name[];`
    fn extern_shared(&mut self) -> Result<(&'a str, u32)> {
        self.expect_word(".shared")?;
        let align = if self.eat_word(".align") { Some(self.number()?) } else { None };
        let ty = self.ty()?;
        let name = self.name("a name")?;
        self.expect('[')?;
        self.expect(']')?;
        self.expect(';')?;
        Ok((name, align.unwrap_or(ty.bytes())))
    }

    fn function(&mut self, externs: &[&'a str]) -> Result<Function> {
        let mut function = Function::new(self.name("the kernel's name")?);
        let mut scope = Scope::default();
        scope.symbols.extend(externs.iter().map(|name| (*name, Base::DynamicShared)));
        self.expect('(')?;
        while !self.eat(')') {
            if !function.params.is_empty() {
                self.expect(',')?;
            }
            let (name, ty) = self.param()?;
            let id = ParamId(u32::try_from(function.params.len()).unwrap_or(u32::MAX));
            scope.symbols.insert(name, Base::Param(id));
            function.params.push(Param { name: name.to_owned(), ty });
        }
        while !self.eat('{') {
            match self.peek() {
                Token::Word(".reqntid") => function.reqntid = Some(self.block_size()?),
                Token::Word(".maxntid") => function.maxntid = Some(self.block_size()?),
                Token::Word(".minnctapersm") => function.minnctapersm = Some(self.directive_number()?),
                Token::Word(".maxnreg") => function.maxnreg = Some(self.directive_number()?),
                _ => return self.fail("expected a performance directive or `{`"),
            }
        }
        self.body(&mut function, &mut scope)?;
        Ok(function)
    }

    fn param(&mut self) -> Result<(&'a str, ParamTy)> {
        self.expect_word(".param")?;
        let align = if self.eat_word(".align") { Some(self.number()?) } else { None };
        let ty = self.ty()?;
        if self.eat_word(".ptr") {
            self.expect_word(".global")?;
            let align = if self.eat_word(".align") { self.number()? } else { 1 };
            return Ok((self.name("a parameter name")?, ParamTy::Pointer { align }));
        }
        let name = self.name("a parameter name")?;
        if self.eat('[') {
            let len = self.number()?;
            self.expect(']')?;
            let Some(len) = len.checked_mul(ty.bytes()) else {
                return self.fail("the parameter is too large");
            };
            return Ok((name, ParamTy::Bytes { len, align: align.unwrap_or(ty.bytes()) }));
        }
        Ok((name, ParamTy::Scalar(ty)))
    }

    fn directive_number(&mut self) -> Result<u32> {
        self.bump();
        self.number()
    }

    fn block_size(&mut self) -> Result<[u32; 3]> {
        let mut size = [self.directive_number()?, 1, 1];
        for dim in &mut size[1..] {
            if !self.eat(',') {
                break;
            }
            *dim = self.number()?;
        }
        Ok(size)
    }
}
