//! Calls, call prototypes and jump tables.

use super::body::Body;
use super::lexer::{Pos, Token};
use super::operand::{Raw, Resolver};
use super::{ParseError, Parser, Result};
use crate::ids::{BlockId, CallParamId, PrototypeId, RegId, TargetsId};
use crate::inst::{Address, Base, Call, Callee, Guard, Inst, Kind, Ld, Operand, Role, Space, St, What};
use crate::module::{Param, ParamTy};
use crate::symbols::Prototype;
use crate::ty::Ty;

impl<'a> Parser<'a> {
    /// After `call`: `(r), f, (a, b);`, `f, (a);`, `f;`, `(r), %rd1, (a), prototype;`
    pub(super) fn call(
        &mut self,
        uni: bool,
        guard: Option<Guard>,
        pos: Pos,
        body: &mut Body<'_, 'a>,
    ) -> Result<()> {
        let mut returns = Vec::new();
        if self.peek() == Token::Punct('(') {
            returns = self.list()?;
            self.expect(',')?;
        }
        self.peek();
        let at = self.pos();
        let name = self.name("a function or a register")?;
        let mut args = Vec::new();
        if self.eat(',') {
            args = self.list()?;
        }
        let register = body.scope.register(name);
        let (callee, operands) = match (register, body.symbols.get(name)) {
            (Some(reg), _) => {
                self.expect(',')?;
                self.peek();
                let at = self.pos();
                let name = self.name("a prototype")?;
                let Some(id) = body.scope.prototype(name) else {
                    return Err(ParseError::new(at, name, "unknown prototype"));
                };
                (Callee::Pointer(id), vec![Operand::Reg(reg)])
            }
            (None, Some(Base::Function(id))) => (Callee::Function(id), Vec::new()),
            _ => return Err(ParseError::new(at, name, "unknown function")),
        };
        self.expect(';')?;
        let Some(signature) = signature(callee, body) else {
            return Err(ParseError::new(at, name, "unknown function"));
        };
        let lengths = (signature.returns.len(), signature.params.len());
        if lengths != (returns.len(), args.len()) {
            let (expected_returns, expected_args) = lengths;
            let message = format!("this call needs {expected_args} arguments and {expected_returns} results");
            return Err(ParseError::new(pos, name, message));
        }
        // Arguments in registers and literals go through variables, as the IR has no others.
        let mut resolver = Resolver { body, guard };
        let mut variables = Vec::with_capacity(args.len());
        for ((raw, pos), ty) in args.into_iter().zip(signature.params) {
            variables.push(match resolver.variable(raw) {
                Some(id) => id,
                None => resolver.argument(raw, ty, pos)?,
            });
        }
        let mut results = Vec::with_capacity(returns.len());
        let mut loads = Vec::new();
        for ((raw, pos), ty) in returns.into_iter().zip(signature.returns) {
            results.push(match resolver.variable(raw) {
                Some(id) => id,
                None => {
                    let (id, load) = resolver.result(raw, ty, pos)?;
                    loads.extend(load);
                    id
                }
            });
        }
        let kind = Kind::Call(Call { uni, callee, returns: results, args: variables });
        body.push(Inst { guard, kind, operands, comment: None });
        for load in loads {
            body.push(load);
        }
        Ok(())
    }

    /// `(a, b)`
    fn list(&mut self) -> Result<Vec<(Raw<'a>, Pos)>> {
        let mut list = Vec::new();
        self.expect('(')?;
        while !self.eat(')') {
            if !list.is_empty() {
                self.expect(',')?;
            }
            self.peek();
            let pos = self.pos();
            list.push((self.operand()?, pos));
        }
        Ok(list)
    }

    /// After `brx.idx`: `%r1, table;`
    pub(super) fn jump_by_index(
        &mut self,
        uni: bool,
        guard: Option<Guard>,
        body: &mut Body<'_, 'a>,
    ) -> Result<()> {
        self.peek();
        let pos = self.pos();
        let index = self.operand()?;
        let operand = Resolver { body, guard }.operand(index, What::Reg(Ty::U32), Role::Use, pos)?;
        self.expect(',')?;
        self.peek();
        let pos = self.pos();
        let name = self.name("a table of jump targets")?;
        let Some(targets) = body.scope.targets(name) else {
            return Err(ParseError::new(pos, name, "unknown table of jump targets"));
        };
        self.expect(';')?;
        body.push(Inst {
            guard,
            kind: Kind::BrxIdx { uni, targets },
            operands: vec![operand],
            comment: None,
        });
        Ok(())
    }

    /// `.branchtargets a, b;`
    pub(super) fn branch_targets(&mut self, name: &'a str, body: &mut Body<'_, 'a>) -> Result<()> {
        self.bump();
        let mut targets = Vec::new();
        loop {
            self.peek();
            let pos = self.pos();
            let label = self.name("a label")?;
            targets.push(BlockId(body.scope.label(label, pos)));
            if !self.eat(',') {
                break;
            }
        }
        let tables = &mut body.function.branch_targets;
        let id = TargetsId(u32::try_from(tables.len()).unwrap_or(u32::MAX));
        tables.push(targets);
        body.scope.declare_targets(name, id);
        self.expect(';')
    }

    /// `.callprototype (.param .b32 _) _ (.param .b64 _) .noreturn;`
    pub(super) fn prototype(&mut self, name: &'a str, body: &mut Body<'_, 'a>) -> Result<()> {
        self.bump();
        let mut prototype = Prototype { returns: Vec::new(), params: Vec::new(), noreturn: false };
        if self.peek() == Token::Punct('(') {
            prototype.returns = self.types()?;
        }
        self.name("`_`")?;
        if self.peek() == Token::Punct('(') {
            prototype.params = self.types()?;
        }
        while !self.eat(';') {
            if self.eat_word(".noreturn") {
                prototype.noreturn = true;
            } else {
                return self.fail("expected `;`");
            }
        }
        declare(name, prototype, body);
        Ok(())
    }

    /// `.calltargets f, g;`: all have the signature of the first.
    pub(super) fn call_targets(&mut self, name: &'a str, body: &mut Body<'_, 'a>) -> Result<()> {
        self.bump();
        let mut prototype = None;
        loop {
            self.peek();
            let pos = self.pos();
            let target = self.name("a function")?;
            let Some(Base::Function(id)) = body.symbols.get(target) else {
                return Err(ParseError::new(pos, target, "unknown function"));
            };
            if prototype.is_none() {
                prototype = signature(Callee::Function(id), body);
            }
            if !self.eat(',') {
                break;
            }
        }
        if let Some(prototype) = prototype {
            declare(name, prototype, body);
        }
        self.expect(';')
    }

    /// `(.param .b32 _, .param .align 8 .b8 _[16])`
    fn types(&mut self) -> Result<Vec<ParamTy>> {
        let mut types = Vec::new();
        self.expect('(')?;
        while !self.eat(')') {
            if !types.is_empty() {
                self.expect(',')?;
            }
            if self.eat_word(".reg") {
                types.push(ParamTy::Scalar(self.ty()?.stored()));
                self.name("`_`")?;
            } else {
                types.push(self.param()?.1);
            }
        }
        Ok(types)
    }
}

fn declare<'a>(name: &'a str, prototype: Prototype, body: &mut Body<'_, 'a>) {
    let prototypes = &mut body.function.prototypes;
    // Compilers write the same one before each call.
    let known = prototypes.iter().take(64).position(|known| *known == prototype);
    let index = known.unwrap_or_else(|| {
        prototypes.push(prototype);
        prototypes.len() - 1
    });
    body.scope.declare_prototype(name, PrototypeId(u32::try_from(index).unwrap_or(u32::MAX)));
}

fn signature(callee: Callee, body: &Body<'_, '_>) -> Option<Prototype> {
    let types = |params: &[Param]| params.iter().map(|param| param.ty).collect();
    match callee {
        Callee::Pointer(id) => body.function.prototype(id).cloned(),
        Callee::Function(id) => {
            let function = body.symbols.function(id)?;
            let (returns, params) = (types(&function.returns), types(&function.params));
            Some(Prototype { returns, params, noreturn: function.noreturn })
        }
    }
}

impl<'a> Resolver<'_, '_, 'a> {
    fn variable(&self, raw: Raw<'a>) -> Option<CallParamId> {
        match raw {
            Raw::Name(name) => match self.body.scope.symbol(name) {
                Some(Base::CallParam(id)) => Some(id),
                _ => None,
            },
            _ => None,
        }
    }

    fn new_variable(&mut self, ty: ParamTy) -> CallParamId {
        let name = self.body.unique("call_param");
        let variables = &mut self.body.function.call_params;
        variables.push(Param { name, ty });
        CallParamId(u32::try_from(variables.len() - 1).unwrap_or(u32::MAX))
    }

    fn scalar(ty: ParamTy, pos: Pos) -> Result<Ty> {
        match ty {
            ParamTy::Scalar(ty) => Ok(ty),
            ParamTy::Pointer { .. } => Ok(Ty::U64),
            ParamTy::Bytes { .. } => {
                Err(ParseError::new(pos, "call", "a structure is passed in a `.param` variable"))
            }
        }
    }

    /// An argument that is not in a variable is stored to one before the call.
    fn argument(&mut self, raw: Raw<'a>, ty: ParamTy, pos: Pos) -> Result<CallParamId> {
        let scalar = Self::scalar(ty, pos)?;
        let value = self.operand(raw, What::Value(scalar), Role::Use, pos)?;
        let id = self.new_variable(ParamTy::Scalar(scalar));
        let address = Operand::Addr(Address { base: Base::CallParam(id), offset: 0 });
        let kind = Kind::St(St::plain(Space::Param, scalar));
        self.body.push(Inst::new(kind, vec![address, value]));
        Ok(id)
    }

    /// A result that is not in a variable is loaded from one after the call. The load has no guard, so that of the
    /// call goes to a move.
    fn result(&mut self, raw: Raw<'a>, ty: ParamTy, pos: Pos) -> Result<(CallParamId, Vec<Inst>)> {
        let scalar = Self::scalar(ty, pos)?;
        let dest = self.operand(raw, What::Reg(scalar), Role::Def, pos)?;
        let id = self.new_variable(ParamTy::Scalar(scalar));
        let address = Operand::Addr(Address { base: Base::CallParam(id), offset: 0 });
        let kind = Kind::Ld(Ld::plain(Space::Param, scalar));
        let Some((class, guard)) = dest.register().map(RegId::class).zip(self.guard) else {
            return Ok((id, vec![Inst::new(kind, vec![dest, address])]));
        };
        let loaded = Operand::Reg(self.body.function.new_register(class));
        let declared = Ty::parse(&class.declared()[1..]).unwrap_or(scalar);
        let mov = Inst::new(Kind::Mov(declared), vec![dest, loaded]);
        Ok((id, vec![Inst::new(kind, vec![loaded, address]), Inst { guard: Some(guard), ..mov }]))
    }
}
