//! The body of a function: declarations, labels, instructions, nested braces.

use super::function::InRegisters;
use super::inline::inline;
use super::lexer::{Pos, Token};
use super::module::Symbols;
use super::operand::Resolver;
use super::scope::{MAX_DEPTH, Scope};
use super::{ParseError, Parser, Result};
use crate::ids::{ArrayId, BlockId, CallParamId, ParamId, RegClass, RegId};
use crate::inst::{Address, Base, Guard, Inst, Kind, Ld, Operand, Regular, Space, St};
use crate::module::{Array, Block, Function, MAX_REGISTERS, Param};
use crate::ops::Op;
use crate::print::{parse_register, targets};
use crate::ty::{Ty, TyKind};

/// A body in the making.
pub(super) struct Body<'b, 'a> {
    pub(super) function: &'b mut Function,
    pub(super) scope: &'b mut Scope<'a>,
    pub(super) symbols: &'b Symbols<'a>,
    in_registers: &'b InRegisters,
    comments: Option<String>,
    /// Blocks whose label is a number, which is their name until it is known whether it is needed.
    numbered: Vec<BlockId>,
    /// Does the next instruction start a block?
    ended: bool,
}

impl<'a> Body<'_, 'a> {
    /// A name for what is declared between braces: in the IR the whole function sees it.
    pub(super) fn unique(&mut self, name: &'a str) -> String {
        self.scope.unique(name, |name| self.symbols.get(name).is_some())
    }

    /// Appends an instruction; the pending comment goes above it.
    pub(super) fn push(&mut self, mut inst: Inst) {
        inst.comment = self.comments.take().map(String::into_boxed_str);
        if inst.op() == Op::Ret {
            for (id, reg) in &self.in_registers.returns {
                self.append(parameter_move(self.function, Base::Return(*id), *reg));
            }
        }
        self.append(inst);
    }

    fn append(&mut self, inst: Inst) {
        if std::mem::replace(&mut self.ended, inst.is_terminator()) {
            self.function.blocks.push(Block::default());
        }
        if let Some(block) = self.function.blocks.last_mut() {
            block.insts.push(inst);
        }
    }

    fn comment(&mut self, text: &str) {
        let line = text.strip_prefix(' ').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let comments = match &mut self.comments {
            Some(comments) => {
                comments.push('\n');
                comments
            }
            none => none.insert(String::new()),
        };
        // Comments of the IR are printable ASCII.
        comments.extend(line.chars().map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' }));
    }
}

/// A load from a parameter, or a store to a result.
fn parameter_move(function: &Function, base: Base, reg: RegId) -> Inst {
    let params = if matches!(base, Base::Return(_)) { &function.returns } else { &function.params };
    let id = match base {
        Base::Return(id) | Base::Param(id) => id,
        _ => ParamId(u32::MAX),
    };
    let ty = match params.get(id.index()).map(|param| param.ty) {
        Some(crate::module::ParamTy::Scalar(ty)) => ty,
        _ => Ty::B32,
    };
    let address = Operand::Addr(Address { base, offset: 0 });
    match base {
        Base::Return(_) => Inst::new(Kind::St(St::plain(Space::Param, ty)), vec![address, Operand::Reg(reg)]),
        _ => Inst::new(Kind::Ld(Ld::plain(Space::Param, ty)), vec![Operand::Reg(reg), address]),
    }
}

impl<'a> Parser<'a> {
    pub(super) fn body(
        &mut self,
        function: &mut Function,
        scope: &mut Scope<'a>,
        in_registers: &InRegisters,
        symbols: &Symbols<'a>,
    ) -> Result<()> {
        let mut body = Body {
            function,
            scope,
            symbols,
            in_registers,
            comments: None,
            numbered: Vec::new(),
            ended: true,
        };
        for (id, reg) in &in_registers.params {
            let load = parameter_move(body.function, Base::Param(*id), *reg);
            body.append(load);
        }
        while self.statement(&mut body)? {}
        // Control that runs off the end of the text returns.
        if body.function.blocks.last().is_none_or(|b| b.insts.last().is_none_or(Inst::falls_through)) {
            body.comments = None;
            body.push(Inst::new(Kind::Regular(Regular::new(Op::Ret, None)), vec![]));
        }
        let numbered = body.numbered;
        resolve_labels(function, scope)?;
        drop_names(function, &numbered);
        Ok(())
    }

    /// One statement; `false` at the brace that closes the function.
    fn statement(&mut self, body: &mut Body<'_, 'a>) -> Result<bool> {
        let pos = self.pos();
        match self.peek_raw() {
            Token::Comment(text) => {
                self.next += 1;
                body.comment(text);
            }
            Token::Punct('{') => {
                self.next += 1;
                if !body.scope.open() {
                    let message = format!("more than {MAX_DEPTH} nested braces are not supported");
                    return Err(ParseError::new(pos, "{", message));
                }
            }
            Token::Punct('}') => {
                self.next += 1;
                return Ok(body.scope.close());
            }
            Token::Punct(';') => self.next += 1,
            Token::Word(".reg") => self.registers(body.function, body.scope)?,
            Token::Word(".shared") => self.array(Space::Shared, body)?,
            Token::Word(".local") => self.array(Space::Local, body)?,
            Token::Word(".param") => self.call_param(body)?,
            Token::Word(".loc" | ".file") => self.skip_line(),
            Token::Word(".pragma") => self.pragma()?,
            Token::Inline { operands, body: text } => {
                self.next += 1;
                let inst = inline(body.function, body.scope, operands, text)
                    .map_err(|message| ParseError::new(pos, "// inline:", message))?;
                body.push(inst);
            }
            Token::Word(name)
                if self.tokens.get(self.next + 1).is_some_and(|(_, t)| *t == Token::Punct(':')) =>
            {
                self.next += 2;
                match self.peek_raw() {
                    Token::Word(".callprototype") => self.prototype(name, body)?,
                    Token::Word(".calltargets") => self.call_targets(name, body)?,
                    Token::Word(".branchtargets") => self.branch_targets(name, body)?,
                    _ => {
                        let label = body.scope.label(name, pos);
                        let block = BlockId(u32::try_from(body.function.blocks.len()).unwrap_or(u32::MAX));
                        let own = block_name(name);
                        if own.is_none() {
                            body.numbered.push(block);
                        }
                        let name_of_block = own.unwrap_or_else(|| name.to_owned());
                        body.function.blocks.push(Block { name: Some(name_of_block), insts: Vec::new() });
                        body.ended = false;
                        if !body.scope.place(label, block) {
                            return Err(ParseError::new(pos, name, "this label is already defined"));
                        }
                    }
                }
            }
            Token::Word(directive) if directive.starts_with('.') => {
                return self.fail("this declaration or directive is not supported in a body");
            }
            Token::Word(_) | Token::Punct('@') => self.instruction(body)?,
            _ => return self.fail("expected an instruction, a label, a declaration or `}`"),
        }
        Ok(true)
    }

    /// `.reg .b32 %r<11>, %r0_rows;`
    fn registers(&mut self, function: &mut Function, scope: &mut Scope<'a>) -> Result<()> {
        self.bump();
        if let Token::Word(".v2" | ".v4") = self.peek() {
            return self.fail("vector registers are not supported");
        }
        let ty = self.ty()?;
        if ty.bits() == 8 {
            return self.fail("registers have 16, 32 or 64 bits");
        }
        if ty.kind() == TyKind::SmallFloat && !matches!(ty, Ty::F16 | Ty::F16x2) {
            return self.fail("registers do not have this type, only instructions do");
        }
        let class = ty.class();
        let mut ranges = Vec::new();
        loop {
            self.peek();
            let pos = self.pos();
            let name = self.name("a register name")?;
            let declared = function.registers[class as usize];
            let count = if self.eat('<') {
                let count = self.number()?;
                self.expect('>')?;
                scope.declare_range((pos, name), count, class, declared)?;
                ranges.push(name);
                count
            } else {
                register((pos, name), class, !ranges.is_empty(), function, scope)?
            };
            let total = declared.checked_add(count).filter(|total| *total <= MAX_REGISTERS);
            let Some(total) = total else { return Err(ParseError::new(pos, name, "too many registers")) };
            function.registers[class as usize] = total;
            if !self.eat(',') {
                break;
            }
        }
        self.expect(';')
    }

    /// `.shared .align 16 .f32 tile[256];`
    fn array(&mut self, space: Space, body: &mut Body<'_, 'a>) -> Result<()> {
        self.bump();
        let align = if self.eat_word(".align") { Some(self.number()?) } else { None };
        let parts = [(".v2", 2), (".v4", 4)].into_iter().find(|(word, _)| self.eat_word(word));
        let parts = parts.map_or(1, |(_, parts)| parts);
        let ty = self.stored_ty()?;
        loop {
            self.peek();
            let pos = self.pos();
            let name = self.name("a name")?;
            let (_, len) = self.dimensions(parts)?;
            let id = ArrayId(u32::try_from(body.function.arrays.len()).unwrap_or(u32::MAX));
            let align = align.unwrap_or_else(|| ty.bytes().saturating_mul(parts));
            body.scope.declare_symbol((pos, name), Base::Array(id))?;
            let name = body.unique(name);
            body.function.arrays.push(Array { name, space, ty, len, align });
            if !self.eat(',') {
                return self.expect(';');
            }
        }
    }

    /// `.param .b64 param0;`: a variable for an argument or a result.
    fn call_param(&mut self, body: &mut Body<'_, 'a>) -> Result<()> {
        let pos = self.pos();
        let (name, ty) = self.param()?;
        let id = CallParamId(u32::try_from(body.function.call_params.len()).unwrap_or(u32::MAX));
        body.scope.declare_symbol((pos, name), Base::CallParam(id))?;
        let name = body.unique(name);
        body.function.call_params.push(Param { name, ty });
        self.expect(';')
    }

    fn instruction(&mut self, body: &mut Body<'_, 'a>) -> Result<()> {
        let guard = if self.eat('@') {
            let negated = self.eat('!');
            self.peek();
            let pos = self.pos();
            let name = self.name("a predicate")?;
            let Some(pred) = body.scope.register(name) else {
                return Err(ParseError::new(pos, name, "unknown register"));
            };
            Some(Guard { pred, negated })
        } else {
            None
        };
        self.peek();
        let pos = self.pos();
        let mnemonic = self.word("an instruction")?;
        if let Some(message) = super::refused::instruction(mnemonic) {
            return Err(ParseError::new(pos, mnemonic, message));
        }
        match mnemonic {
            "call" | "call.uni" => return self.call(mnemonic == "call.uni", guard, pos, body),
            "brx.idx" | "brx.idx.uni" => return self.jump_by_index(mnemonic == "brx.idx.uni", guard, body),
            _ => {}
        }
        let unknown = |message| ParseError::new(pos, mnemonic, message);
        let args = match self.arguments() {
            Ok(args) => args,
            // An instruction that is not known may have operands that are not, either.
            Err(error) => return Err(Kind::parse(mnemonic, &[]).err().map_or(error, unknown)),
        };
        let shapes: Vec<_> = args.iter().map(super::operand::RawArg::shape).collect();
        let kind = Kind::parse(mnemonic, &shapes)
            .or_else(|message| Kind::parse(&in_usual_order(mnemonic), &shapes).map_err(|_| message))
            .map_err(unknown)?;
        let mut resolver = Resolver { body, guard };
        let operands = if args.len() == 4 && is_extreme(&kind) {
            resolver.extreme_of_three(&kind, args, pos)?
        } else {
            resolver.resolve(&kind, args, pos)?
        };
        if let Kind::Setp(setp) = kind
            && matches!(setp.ty, Ty::F16x2 | Ty::BF16x2)
        {
            resolver.compare_halves(setp, &operands);
            return Ok(());
        }
        body.push(Inst { guard, kind, operands, comment: None });
        Ok(())
    }
}

/// A mnemonic with its modifiers where they usually stand, which assemblers do not ask for: types last, in their own
/// order. What assemblers want before the type stays there.
fn in_usual_order(mnemonic: &str) -> String {
    let mut words: Vec<&str> = mnemonic.split('.').collect();
    words[1..].sort_by_key(|word| match *word {
        "sync" => 0,
        "and" | "or" | "xor" => 2,
        "ftz" => 3,
        "NaN" | "v2" | "v4" | "v8" => 4,
        "lo" | "hi" | "wide" | "to" | "l" | "r" => 5,
        word if Ty::parse(word).is_some() => 5,
        _ => 1,
    });
    words.join(".")
}

/// Is it a minimum or maximum that may have three operands?
fn is_extreme(kind: &Kind) -> bool {
    use Op::{FMax, FMaxFtzNan, FMaxNan, FMin, FMinFtzNan, FMinNan};
    matches!(kind.op(), FMin | FMax | FMinNan | FMaxNan | FMinFtzNan | FMaxFtzNan)
}

/// A register with a name of its own; gives the number of new registers. After a range in the same declaration,
/// `%r3_acc` is a name for `%r3`; everything else is a new register.
fn register<'a>(
    (pos, name): (Pos, &'a str),
    class: RegClass,
    after_range: bool,
    function: &mut Function,
    scope: &mut Scope<'a>,
) -> Result<u32> {
    if after_range
        && let Some((number, suffix)) = name.split_once('_')
        && let Some(reg) = parse_register(number).and(scope.register(number))
        && reg.class() == class
        && !suffix.is_empty()
    {
        function.names.insert(reg, suffix.to_owned());
        return scope.declare_register((pos, name), reg).map(|()| 0);
    }
    let reg = RegId::new(class, function.registers[class as usize].min(RegId::MAX_INDEX - 1));
    scope.declare_register((pos, name), reg)?;
    let visible: String = name.chars().filter(|c| *c != '%').collect();
    if !visible.is_empty() {
        function.names.insert(reg, visible);
    }
    Ok(1)
}

/// What follows the number in `L3_loop`; a label of another form is a name as a whole.
fn block_name(label: &str) -> Option<String> {
    if let Some(rest) = label.strip_prefix('L') {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && digits == rest.len() {
            return None;
        }
        if digits > 0
            && let Some(name) = rest[digits..].strip_prefix('_')
            && !name.is_empty()
        {
            return Some(name.to_owned());
        }
    }
    Some(label.chars().filter(|c| *c != '%').collect())
}

/// A block that is jumped to, or that has instructions and follows a jump, is one without a name, too.
fn drop_names(function: &mut Function, numbered: &[BlockId]) {
    let targets = targets(function);
    for id in numbered {
        let before = id.index().checked_sub(1).and_then(|before| function.blocks.get(before));
        let apart = before.is_none_or(|block| block.insts.last().is_some_and(Inst::is_terminator));
        if let Some(block) = function.blocks.get_mut(id.index())
            && (targets[id.index()] || apart && !block.insts.is_empty())
        {
            block.name = None;
        }
    }
}

/// Replaces label numbers by blocks.
fn resolve_labels(function: &mut Function, scope: &Scope<'_>) -> Result<()> {
    if let Some((name, pos)) = scope.missing_label() {
        return Err(ParseError::new(pos, name, "unknown label"));
    }
    let jumps = function.blocks.iter_mut().filter_map(|block| block.insts.last_mut());
    for operand in jumps.flat_map(|inst| &mut inst.operands) {
        if let Operand::Label(label) = operand
            && let Some(block) = scope.block(label.0)
        {
            *label = block;
        }
    }
    for label in function.branch_targets.iter_mut().flatten() {
        if let Some(block) = scope.block(label.0) {
            *label = block;
        }
    }
    Ok(())
}
