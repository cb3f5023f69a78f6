//! The head of a function: linkage, parameters, directives.

use super::lexer::{Pos, Token};
use super::module::Symbols;
use super::scope::Scope;
use super::{ParseError, Parser, Result};
use crate::ids::{ParamId, RegId};
use crate::inst::Base;
use crate::module::{Function, FunctionKind, Param, ParamTy};
use crate::symbols::Linkage;

/// A parameter or result that the text keeps in a register, which the IR does not: parameters are loaded at the start,
/// results stored before each return.
#[derive(Default)]
pub(super) struct InRegisters {
    pub(super) params: Vec<(ParamId, RegId)>,
    pub(super) returns: Vec<(ParamId, RegId)>,
}

/// A parameter: where it is, its name, its type, and its register, if it has one.
type Declared<'a> = (Pos, &'a str, ParamTy, Option<RegId>);

impl<'a> Parser<'a> {
    /// A kernel or device function, after `.entry` or `.func`.
    pub(super) fn function(
        &mut self,
        kind: FunctionKind,
        linkage: Linkage,
        symbols: &mut Symbols<'a>,
    ) -> Result<()> {
        let mut function = Function { kind, linkage, ..Function::new("") };
        let mut scope = Scope::new();
        let mut in_registers = InRegisters::default();
        if self.peek() == Token::Punct('(') {
            let params = self.params(&mut function, &mut scope)?;
            for (i, (pos, name, ty, reg)) in (0..).zip(params) {
                match reg {
                    Some(reg) => in_registers.returns.push((ParamId(i), reg)),
                    None => scope.declare_symbol((pos, name), Base::Return(ParamId(i)))?,
                }
                function.returns.push(Param { name: scope.unique(name, |_| false), ty });
            }
        }
        self.peek();
        let pos = self.pos();
        let name = self.name("the name of a function")?;
        name.clone_into(&mut function.name);
        if self.peek() == Token::Punct('(') {
            let params = self.params(&mut function, &mut scope)?;
            for (i, (pos, name, ty, reg)) in (0..).zip(params) {
                match reg {
                    Some(reg) => in_registers.params.push((ParamId(i), reg)),
                    None => scope.declare_symbol((pos, name), Base::Param(ParamId(i)))?,
                }
                function.params.push(Param { name: scope.unique(name, |_| false), ty });
            }
        }
        self.directives(&mut function)?;
        let message = "a function of this name is already defined";
        // The semicolon may be missing.
        if self.eat(';') || matches!(self.peek(), Token::Word(_) | Token::End) {
            // Those of parameters, which only a body loads.
            function.registers = Default::default();
            return symbols.declare(name, function).map_err(|()| ParseError::new(pos, name, message));
        }
        if !self.eat('{') {
            return self.fail("expected a performance directive, `;` or `{`");
        }
        // Declared first, so that it can call itself.
        let head = Function { blocks: Vec::new(), ..function.clone() };
        symbols.declare(name, head).map_err(|()| ParseError::new(pos, name, message))?;
        self.body(&mut function, &mut scope, &in_registers, symbols)?;
        symbols.define(name, function).map_err(|()| ParseError::new(pos, name, message))
    }

    /// `.reqntid 128, 1, 1` and what else stands between parameters and body.
    fn directives(&mut self, function: &mut Function) -> Result<()> {
        loop {
            match self.peek() {
                Token::Word(".reqntid") => function.reqntid = Some(self.block_size()?),
                Token::Word(".maxntid") => function.maxntid = Some(self.block_size()?),
                Token::Word(".minnctapersm") => function.minnctapersm = Some(self.directive_number()?),
                Token::Word(".maxnreg") => function.maxnreg = Some(self.directive_number()?),
                Token::Word(".maxclusterrank") => function.maxclusterrank = Some(self.directive_number()?),
                Token::Word(".reqnctapercluster") => function.reqnctapercluster = Some(self.block_size()?),
                Token::Word(".explicitcluster") => {
                    self.bump();
                    function.explicitcluster = true;
                }
                Token::Word(".noreturn") => {
                    self.bump();
                    function.noreturn = true;
                }
                Token::Word(".maxnctapersm") => _ = self.directive_number()?,
                Token::Word(".pragma") => self.pragma()?,
                Token::Word(
                    ".attribute" | ".abi_preserve" | ".abi_preserve_control" | ".blocksareclusters",
                ) => {
                    return self.fail("this directive is not supported");
                }
                _ => return Ok(()),
            }
        }
    }

    /// `( .param .u32 n, .reg .b32 x )`
    fn params(&mut self, function: &mut Function, scope: &mut Scope<'a>) -> Result<Vec<Declared<'a>>> {
        let mut params = Vec::new();
        self.expect('(')?;
        while !self.eat(')') {
            if !params.is_empty() {
                self.expect(',')?;
            }
            self.peek();
            let pos = self.pos();
            if function.kind == FunctionKind::Device && self.eat_word(".reg") {
                let ty = self.ty()?;
                if ty.bits() < 16 {
                    return self.fail("a parameter in a register has 16, 32 or 64 bits");
                }
                let name = self.name("a parameter name")?;
                let reg = function.new_register(ty.class());
                scope.declare_register((pos, name), reg)?;
                params.push((pos, name, ParamTy::Scalar(ty.stored()), Some(reg)));
            } else {
                let (name, ty) = self.param()?;
                params.push((pos, name, ty, None));
            }
        }
        Ok(params)
    }

    /// `.param .u64 .ptr .global .align 16 x` or `.param .align 8 .b8 x[16]`.
    pub(super) fn param(&mut self) -> Result<(&'a str, ParamTy)> {
        self.expect_word(".param")?;
        let align = if self.eat_word(".align") { Some(self.number()?) } else { None };
        let ty = self.stored_ty()?;
        if self.eat_word(".ptr") {
            let global = self.eat_word(".global");
            let other = !global && [".shared", ".const", ".local"].iter().any(|space| self.eat_word(space));
            let align = if self.eat_word(".align") { self.number()? } else { 1 };
            let name = self.name("a parameter name")?;
            let ty = if global && !other { ParamTy::Pointer { align } } else { ParamTy::Scalar(ty) };
            return Ok((name, ty));
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
        Ok(match align {
            Some(align) if align != ty.bytes() => (name, ParamTy::Bytes { len: ty.bytes(), align }),
            _ => (name, ParamTy::Scalar(ty)),
        })
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
