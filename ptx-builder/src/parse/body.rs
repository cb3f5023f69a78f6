//! The body of a function: declarations, labels, instructions.

use super::inline::inline;
use super::lexer::Token;
use super::scope::Scope;
use super::{ParseError, Parser, Result, operand};
use crate::ids::{ArrayId, BlockId, RegClass, RegId};
use crate::inst::{Base, Guard, Inst, Kind, Operand, Space};
use crate::module::{Array, Block, Function, MAX_REGISTERS};
use crate::print::parse_register;

impl<'a> Parser<'a> {
    pub(super) fn body(&mut self, function: &mut Function, scope: &mut Scope<'a>) -> Result<()> {
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
