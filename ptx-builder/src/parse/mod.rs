//! PTX text to the IR.
//!
//! Reads everything that the printer writes, and gives back an equal module. Beyond that it reads registers
//! and labels of any name, omitted `.rn`-style modifiers where the PTX ISA has them, literals in any radix,
//! and comments anywhere. An instruction or directive that the IR does not have is an error that names it.
//! No input makes it panic, and no input makes it allocate more than a small multiple of its length.

mod lexer;
mod operand;

pub(crate) use lexer::{INLINE_CLOSE, INLINE_OPEN};

use crate::ids::{ArrayId, BlockId, ParamId, RegClass, RegId};
use crate::inst::{Base, Guard, Inst, Kind, Operand, Space};
use crate::module::{Array, Block, Function, MAX_REGISTERS, Module, Param, ParamTy};
use crate::print::{parse_register, register_token};
use crate::target::Target;
use crate::ty::Ty;
use lexer::{Lexer, Pos, Token};
use std::collections::HashMap;

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

/// What names mean within a function.
#[derive(Default)]
struct Scope<'a> {
    /// Declared ranges `%r<10>`: prefix, count, class and first number.
    ranges: HashMap<&'a str, (u32, RegClass, u32)>,
    registers: HashMap<&'a str, RegId>,
    symbols: HashMap<&'a str, Base>,
    /// Numbers of labels, in the order of their first mention, and where that was.
    labels: HashMap<&'a str, (u32, Pos)>,
    /// The block of each label number.
    placed: Vec<Option<BlockId>>,
}

impl<'a> Scope<'a> {
    fn register(&self, name: &str) -> Option<RegId> {
        if let Some(reg) = self.registers.get(name) {
            return Some(*reg);
        }
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, number) = name.split_at(digits);
        let (count, class, first) = self.ranges.get(prefix)?;
        let index: u32 = number.parse().ok()?;
        let canonical = number.len() == 1 || !number.starts_with('0');
        (canonical && index < *count).then(|| RegId::new(*class, first + index))
    }

    fn label(&mut self, name: &'a str, pos: Pos) -> u32 {
        let next = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        let (number, _) = *self.labels.entry(name).or_insert((next, pos));
        if number == next {
            self.placed.push(None);
        }
        number
    }
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

    fn body(&mut self, function: &mut Function, scope: &mut Scope<'a>) -> Result<()> {
        let mut comments: Option<String> = None;
        let mut ended = true;
        loop {
            let pos = self.pos();
            match self.peek_raw() {
                Token::Comment(text) => {
                    self.next += 1;
                    let line = text.strip_prefix(' ').unwrap_or(text);
                    match &mut comments {
                        Some(comments) => {
                            comments.push('\n');
                            comments.push_str(line);
                        }
                        None => comments = Some(line.to_owned()),
                    }
                    continue;
                }
                Token::Punct('}') => {
                    self.next += 1;
                    break;
                }
                Token::Word(".reg") => self.registers(function, scope)?,
                Token::Word(".shared") => self.array(Space::Shared, function, scope)?,
                Token::Word(".local") => self.array(Space::Local, function, scope)?,
                Token::Word(name)
                    if self.tokens.get(self.next + 1).is_some_and(|(_, t)| *t == Token::Punct(':')) =>
                {
                    self.next += 2;
                    let label = scope.label(name, pos);
                    let block = BlockId(u32::try_from(function.blocks.len()).unwrap_or(u32::MAX));
                    function.blocks.push(Block { name: block_name(name), insts: Vec::new() });
                    ended = false;
                    let slot = &mut scope.placed[label as usize];
                    if slot.replace(block).is_some() {
                        return Err(ParseError::new(pos, name, "this label is already defined"));
                    }
                }
                token @ (Token::Word(_) | Token::Punct('@') | Token::Inline { .. }) => {
                    let mut inst = match token {
                        Token::Inline { operands, body } => {
                            self.next += 1;
                            inline(function, scope, operands, body)
                                .map_err(|message| ParseError::new(pos, "// inline:", message))?
                        }
                        _ => self.instruction(scope)?,
                    };
                    inst.comment = comments.take().map(String::into_boxed_str);
                    if std::mem::replace(&mut ended, inst.is_terminator()) {
                        function.blocks.push(Block::default());
                    }
                    if let Some(block) = function.blocks.last_mut() {
                        block.insts.push(inst);
                    }
                }
                _ => return self.fail("expected an instruction, a label, a declaration or `}`"),
            }
        }
        resolve_labels(function, scope)
    }

    /// `.reg .b32 %r<11>, %r0_rows;`
    fn registers(&mut self, function: &mut Function, scope: &mut Scope<'a>) -> Result<()> {
        self.bump();
        let ty = self.ty()?;
        if ty.bits() == 8 {
            return self.fail("registers have 16, 32 or 64 bits");
        }
        let class = ty.class();
        loop {
            let pos = self.pos();
            let name = self.name("a register name")?;
            let declared = function.registers[class as usize];
            let count = if self.eat('<') {
                let count = self.number()?;
                self.expect('>')?;
                scope.ranges.insert(name, (count, class, declared));
                count
            } else {
                self.register(name, class, function, scope)
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

    /// A register with a name of its own; gives the number of new registers. `%r3_acc` is a name for `%r3`
    /// if that is declared, everything else is a new register.
    fn register(
        &self,
        name: &'a str,
        class: RegClass,
        function: &mut Function,
        scope: &mut Scope<'a>,
    ) -> u32 {
        if let Some((number, suffix)) = name.split_once('_')
            && let Some(reg) = parse_register(number).and(scope.register(number))
            && reg.class() == class
            && !suffix.is_empty()
        {
            scope.registers.insert(name, reg);
            function.names.insert(reg, suffix.to_owned());
            return 0;
        }
        let reg = RegId::new(class, function.registers[class as usize]);
        scope.registers.insert(name, reg);
        let visible: String = name.chars().filter(|c| *c != '%').collect();
        if !visible.is_empty() {
            function.names.insert(reg, visible);
        }
        1
    }

    /// `.shared .align 16 .f32 tile[256];`
    fn array(&mut self, space: Space, function: &mut Function, scope: &mut Scope<'a>) -> Result<()> {
        self.bump();
        let align = if self.eat_word(".align") { Some(self.number()?) } else { None };
        let ty = self.ty()?;
        let name = self.name("a name")?;
        let len = if self.eat('[') {
            let len = self.number()?;
            self.expect(']')?;
            len
        } else {
            1
        };
        self.expect(';')?;
        let id = ArrayId(u32::try_from(function.arrays.len()).unwrap_or(u32::MAX));
        let align = align.unwrap_or(ty.bytes());
        scope.symbols.insert(name, Base::Array(id));
        function.arrays.push(Array { name: name.to_owned(), space, ty, len, align });
        Ok(())
    }

    fn instruction(&mut self, scope: &mut Scope<'a>) -> Result<Inst> {
        let guard = if self.eat('@') {
            let negated = self.eat('!');
            let pos = self.pos();
            let name = self.name("a predicate")?;
            let Some(pred) = scope.register(name) else {
                return Err(ParseError::new(pos, name, "unknown register"));
            };
            Some(Guard { pred, negated })
        } else {
            None
        };
        let pos = self.pos();
        let mnemonic = self.word("an instruction")?;
        let args = self.arguments()?;
        let shapes: Vec<_> = args.iter().map(|arg| arg.shape()).collect();
        let kind =
            Kind::parse(mnemonic, &shapes).map_err(|message| ParseError::new(pos, mnemonic, message))?;
        let operands = operand::resolve(&kind, args, scope, pos)?;
        Ok(Inst { guard, kind, operands, comment: None })
    }
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

/// Replaces label numbers by blocks.
fn resolve_labels(function: &mut Function, scope: &Scope<'_>) -> Result<()> {
    for (name, (number, pos)) in &scope.labels {
        if scope.placed.get(*number as usize).copied().flatten().is_none() {
            return Err(ParseError::new(*pos, *name, "unknown label"));
        }
    }
    for inst in function.blocks.iter_mut().filter_map(|block| block.insts.last_mut()) {
        for operand in &mut inst.operands {
            if let Operand::Label(label) = operand
                && let Some(block) = scope.placed.get(label.index()).copied().flatten()
            {
                *label = block;
            }
        }
    }
    Ok(())
}

/// Inline text from the list in its marker, `[@!%p0] defs <- uses`, and its lines.
fn inline(
    function: &Function,
    scope: &Scope<'_>,
    operands: &str,
    body: &str,
) -> std::result::Result<Inst, String> {
    let (defs, uses) = operands.split_once("<-").ok_or("expected `<-` between results and inputs")?;
    let register = |name: &str| scope.register(name).ok_or_else(|| format!("unknown register `{name}`"));
    let mut results = defs.split_whitespace().peekable();
    let guard = match results.next_if(|word| word.starts_with('@')) {
        Some(word) => {
            let negated = word.starts_with("@!");
            let pred = register(&word[1 + usize::from(negated)..])?;
            Some(Guard { pred, negated })
        }
        None => None,
    };
    let results =
        results.map(|name| register(name).map(Operand::Reg)).collect::<std::result::Result<Vec<_>, _>>()?;
    let count = u8::try_from(results.len()).map_err(|_| "too many results")?;
    let mut operands = results;
    for name in uses.split_whitespace() {
        operands.push(Operand::Reg(register(name)?));
    }
    let lines: Vec<&str> = body.strip_suffix('\n').unwrap_or(body).split('\n').collect();
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        let mut line = line.strip_prefix('\t').unwrap_or(line);
        if i == 0 && guard.is_some() {
            let (_, after) = line.split_once(' ').ok_or("expected a guard and an instruction")?;
            line = after;
        }
        push_numbered(&mut text, function, scope, line);
    }
    let kind = Kind::Inline { text: text.into_boxed_str(), defs: count };
    Ok(Inst { guard, kind, operands, comment: None })
}

/// A line of inline text with the printed names of registers replaced by their numbers.
fn push_numbered(text: &mut String, function: &Function, scope: &Scope<'_>, line: &str) {
    let mut rest = line;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let token = register_token(&rest[at..]);
        match scope.register(token).filter(|reg| function.names.contains_key(reg)) {
            Some(reg) => text.push_str(&reg.to_string()),
            None => text.push_str(token),
        }
        rest = &rest[at + token.len()..];
    }
    text.push_str(rest);
}
