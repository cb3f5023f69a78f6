//! Variables at module scope and their initial values.

use super::lexer::Token;
use super::module::Symbols;
use super::operand::{element_bits, integer};
use super::scope::DECLARED;
use super::{ParseError, Parser, Result};
use crate::inst::{Base, Space};
use crate::symbols::{Global, Linkage, Relocation, SymbolId};

impl<'a> Parser<'a> {
    /// `.global .align 8 .u64 table[2] = {7, generic(other)+4};`
    pub(super) fn variable(
        &mut self,
        space: Space,
        linkage: Linkage,
        symbols: &mut Symbols<'a>,
    ) -> Result<()> {
        self.bump();
        let mut align = None;
        loop {
            if self.eat_word(".align") {
                align = Some(self.number()?);
            } else if self.eat_word(".attribute") {
                // Managed memory, which host and device see: any global memory here.
                self.expect('(')?;
                let mut depth = 1usize;
                while depth > 0 {
                    match self.bump() {
                        Token::Punct('(') => depth += 1,
                        Token::Punct(')') => depth -= 1,
                        Token::End => return self.fail("expected `)`"),
                        _ => {}
                    }
                }
            } else {
                break;
            }
        }
        let vector = [(".v2", 2), (".v4", 4)].into_iter().find(|(word, _)| self.eat_word(word));
        let parts = vector.map_or(1, |(_, parts)| parts);
        let ty = self.stored_ty()?;
        loop {
            self.peek();
            let pos = self.pos();
            let name = self.name("the name of a variable")?;
            let (dims, len) = self.dimensions(parts)?;
            let align = align.unwrap_or_else(|| ty.bytes().saturating_mul(parts));
            if space == Space::Shared && linkage == Linkage::Extern {
                symbols.dynamic_shared(name, align);
            } else {
                let mut global = Global {
                    name: name.to_owned(),
                    linkage,
                    space,
                    ty,
                    len,
                    align,
                    init: Vec::new(),
                    relocations: Vec::new(),
                };
                if self.eat('=') {
                    if dims > 1 {
                        return self.fail("initial values of several dimensions are not supported");
                    }
                    self.initial_value(&mut global, parts, symbols)?;
                }
                if global.len == 0 && linkage != Linkage::Extern {
                    // `name[] = {...}`
                    let bytes = global.init.len().max(
                        global
                            .relocations
                            .last()
                            .map_or(0, |last| last.offset as usize + usize::from(last.bytes)),
                    );
                    global.len = u32::try_from(bytes / ty.bytes().max(1) as usize).unwrap_or(u32::MAX);
                }
                symbols.variable(name, global).map_err(|()| ParseError::new(pos, name, DECLARED))?;
            }
            if !self.eat(',') {
                return self.expect(';');
            }
        }
    }

    /// How many dimensions, and elements in all; `[]` has 0.
    pub(super) fn dimensions(&mut self, parts: u32) -> Result<(u32, u32)> {
        let mut len = parts;
        let mut dims = 0;
        while self.eat('[') {
            dims += 1;
            let n = if self.peek() == Token::Punct(']') { 0 } else { self.number()? };
            self.expect(']')?;
            len = match len.checked_mul(n) {
                Some(len) => len,
                None => return self.fail("the variable is too large"),
            };
        }
        Ok((dims, len))
    }

    /// A value, or a list of values, or of vectors of so many parts.
    fn initial_value(&mut self, global: &mut Global, parts: u32, symbols: &Symbols<'a>) -> Result<()> {
        if !self.eat('{') {
            self.element(global, 0, symbols)?;
        } else {
            let mut index = 0;
            while !self.eat('}') {
                if index > 0 {
                    self.expect(',')?;
                    // A comma may follow the last one.
                    if self.eat('}') {
                        break;
                    }
                }
                if parts == 1 || !self.eat('{') {
                    self.element(global, index, symbols)?;
                    index += 1;
                    continue;
                }
                for part in 0..parts {
                    if part > 0 {
                        self.expect(',')?;
                    }
                    self.element(global, index, symbols)?;
                    index += 1;
                }
                self.expect('}')?;
            }
        }
        // Zero is what the rest is anyway.
        let size = global.ty.bytes().max(1) as usize;
        let used = global.init.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        global.init.truncate(used.next_multiple_of(size));
        Ok(())
    }

    /// A number, or `name`, `name+4`, `generic(name)-8`, `0xFF00(name)`.
    fn element(&mut self, global: &mut Global, index: u32, symbols: &Symbols<'a>) -> Result<()> {
        let ty = global.ty;
        let offset = index.saturating_mul(ty.bytes());
        self.peek();
        let pos = self.pos();
        if matches!(self.peek(), Token::Word(word) if word != "WARP_SZ") {
            let bytes = ty.bytes().try_into().unwrap_or(8);
            let relocation = self.address(symbols)?;
            global.relocations.push(Relocation { offset, bytes, ..relocation });
            global.init.resize(global.init.len() + ty.bytes() as usize, 0);
            return Ok(());
        }
        if self.at_expression() {
            let value = self.expression()?;
            let Some(bits) = ty.truncated_literal(value) else {
                return Err(ParseError::new(pos, "expression", "this does not fit the type of the variable"));
            };
            global.init.extend_from_slice(&bits.to_le_bytes()[..(ty.bytes() as usize).min(8)]);
            return Ok(());
        }
        let negative = self.eat('-');
        let text = self.digits()?;
        if !negative && self.eat('(') {
            let relocation = self.address(symbols)?;
            self.expect(')')?;
            let bytes: u8 = ty.bytes().try_into().unwrap_or(8);
            let mask = integer(text).unwrap_or(0);
            let ones = if bytes >= 8 { u64::MAX } else { (1 << (8 * u32::from(bytes))) - 1 };
            let first = mask.trailing_zeros() / 8;
            if mask == 0 || mask != ones << (8 * first) {
                return Err(ParseError::new(pos, text, "this mask does not select the bytes of one element"));
            }
            let first = u8::try_from(first).unwrap_or(0);
            global.relocations.push(Relocation { offset, bytes, first, ..relocation });
            global.init.resize(global.init.len() + ty.bytes() as usize, 0);
            return Ok(());
        }
        let Some(bits) = element_bits(negative, text, ty) else {
            return Err(ParseError::new(pos, text, "this literal does not fit the type of the variable"));
        };
        global.init.extend_from_slice(&bits.to_le_bytes()[..(ty.bytes() as usize).min(8)]);
        Ok(())
    }

    /// `name`, `name+4`, `generic(name)-8`
    fn address(&mut self, symbols: &Symbols<'a>) -> Result<Relocation> {
        let mut generic = false;
        self.peek();
        let mut pos = self.pos();
        let mut name = self.name("a symbol")?;
        if name == "generic" && self.eat('(') {
            generic = true;
            self.peek();
            pos = self.pos();
            name = self.name("a symbol")?;
            self.expect(')')?;
        }
        let symbol = match symbols.get(name) {
            Some(Base::Global(id)) => SymbolId::Global(id),
            Some(Base::Function(id)) => SymbolId::Function(id),
            _ => return Err(ParseError::new(pos, name, "unknown symbol")),
        };
        let addend = self.addend()?;
        Ok(Relocation { offset: 0, symbol, addend, generic, bytes: 8, first: 0 })
    }
}
