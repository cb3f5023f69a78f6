//! Module scope: functions and variables by name, aliases, debug information.

use super::lexer::{Pos, Token};
use super::{ParseError, Parser, Result};
use crate::ids::{FuncId, GlobalId};
use crate::inst::{Base, Callee, Kind, Operand, Space};
use crate::module::{Function, FunctionKind, Module};
use crate::symbols::{Global, Linkage, SymbolId};
use crate::target::Target;
use std::collections::{HashMap, HashSet};

/// What the text has declared so far.
pub(super) struct Symbols<'a> {
    /// What the module is for.
    pub(super) target: Target,
    names: HashMap<&'a str, Base>,
    pub(super) globals: Vec<Global>,
    functions: Vec<Entry>,
    aliases: Vec<(FuncId, FuncId)>,
    pub(super) dynamic_shared: Option<u32>,
    /// Counts declarations and definitions.
    clock: u32,
}

/// A function whose place in the module is that of its definition, or of its last declaration.
struct Entry {
    function: Function,
    at: u32,
    defined: bool,
}

impl<'a> Symbols<'a> {
    fn new(target: Target) -> Self {
        Self {
            target,
            names: HashMap::new(),
            globals: Vec::new(),
            functions: Vec::new(),
            aliases: Vec::new(),
            dynamic_shared: None,
            clock: 0,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Base> {
        self.names.get(name).copied()
    }

    /// The head of a function, without its number of registers and blocks.
    pub(super) fn function(&self, id: FuncId) -> Option<&Function> {
        self.functions.get(id.index()).map(|entry| &entry.function)
    }

    fn entry(&mut self, name: &str) -> Option<&mut Entry> {
        match self.names.get(name) {
            Some(Base::Function(id)) => self.functions.get_mut(id.index()),
            _ => None,
        }
    }

    /// A declaration; an error if the name means something else.
    pub(super) fn declare(&mut self, name: &'a str, function: Function) -> std::result::Result<(), ()> {
        self.clock += 1;
        let at = self.clock;
        if let Some(entry) = self.entry(name) {
            if entry.function.kind != function.kind {
                return Err(());
            }
            if !entry.defined {
                *entry = Entry { function, at, defined: false };
            }
            return Ok(());
        }
        if self.names.contains_key(name) {
            return Err(());
        }
        let id = FuncId(u32::try_from(self.functions.len()).unwrap_or(u32::MAX));
        self.names.insert(name, Base::Function(id));
        self.functions.push(Entry { function, at, defined: false });
        Ok(())
    }

    /// The definition of a function that is declared; an error if there is one already.
    pub(super) fn define(&mut self, name: &'a str, function: Function) -> std::result::Result<(), ()> {
        self.clock += 1;
        let at = self.clock;
        match self.entry(name) {
            Some(entry) if !entry.defined => {
                *entry = Entry { function, at, defined: true };
                Ok(())
            }
            _ => Err(()),
        }
    }

    /// A variable: a definition replaces the declaration of the same name.
    pub(super) fn variable(&mut self, name: &'a str, global: Global) -> std::result::Result<(), ()> {
        match self.names.get(name) {
            None => {
                let id = GlobalId(u32::try_from(self.globals.len()).unwrap_or(u32::MAX));
                self.names.insert(name, Base::Global(id));
                self.globals.push(global);
                Ok(())
            }
            Some(Base::Global(id)) => match self.globals.get_mut(id.index()) {
                Some(known) if known.linkage == Linkage::Extern => {
                    *known = global;
                    Ok(())
                }
                Some(_) if global.linkage == Linkage::Extern => Ok(()),
                _ => Err(()),
            },
            Some(_) => Err(()),
        }
    }

    pub(super) fn dynamic_shared(&mut self, name: &'a str, align: u32) {
        self.names.insert(name, Base::DynamicShared);
        self.dynamic_shared = self.dynamic_shared.max(Some(align));
    }

    /// Functions in the order of their definitions, aliases replaced by what they stand for.
    fn finish(self, target: Target) -> Module {
        let count = self.functions.len();
        let mut meant: Vec<FuncId> =
            (0..count).map(|i| FuncId(u32::try_from(i).unwrap_or(u32::MAX))).collect();
        let mut dropped = vec![false; count];
        for (alias, aliasee) in &self.aliases {
            let target = meant[aliasee.index()];
            if target != *alias && !dropped[target.index()] {
                meant[alias.index()] = target;
                dropped[alias.index()] = true;
            }
        }
        let mut order: Vec<usize> = (0..count).filter(|i| !dropped[*i]).collect();
        order.sort_by_key(|i| self.functions[*i].at);
        let mut place = vec![FuncId(u32::MAX); count];
        for (to, from) in (0..).zip(&order) {
            place[*from] = FuncId(to);
        }
        let renumber = |id: FuncId| {
            // An alias may stand for another one that came later.
            let mut id = id;
            for _ in 0..=count.min(64) {
                if !dropped[id.index()] {
                    break;
                }
                id = meant[id.index()];
            }
            place[id.index()]
        };
        let mut slots: Vec<Option<Function>> =
            self.functions.into_iter().map(|entry| Some(entry.function)).collect();
        let mut functions: Vec<Function> = order.iter().filter_map(|i| slots[*i].take()).collect();
        functions.iter_mut().for_each(|function| rename_hiding(function, &self.names));
        for inst in functions.iter_mut().flat_map(|f| &mut f.blocks).flat_map(|block| &mut block.insts) {
            if let Kind::Call(call) = &mut inst.kind
                && let Callee::Function(id) = &mut call.callee
            {
                *id = renumber(*id);
            }
            for operand in &mut inst.operands {
                if let Operand::Symbol(Base::Function(id)) = operand {
                    *id = renumber(*id);
                }
            }
        }
        let mut globals = self.globals;
        for relocation in globals.iter_mut().flat_map(|global| &mut global.relocations) {
            if let SymbolId::Function(id) = &mut relocation.symbol {
                *id = renumber(*id);
            }
        }
        Module { target, dynamic_shared: self.dynamic_shared, globals, functions }
    }
}

/// Renames what a body declares like a symbol that the text declares further down.
fn rename_hiding(function: &mut Function, symbols: &HashMap<&str, Base>) {
    let lists = [&function.params, &function.returns, &function.call_params];
    let params = lists.into_iter().flatten().map(|param| &param.name);
    let names = params.chain(function.arrays.iter().map(|array| &array.name));
    let (mut taken, mut hiding) = (HashSet::new(), false);
    for name in names {
        hiding |= symbols.contains_key(&name[..]);
        taken.insert(name.clone());
    }
    if !hiding {
        return;
    }
    let arrays = function.arrays.iter_mut().map(|array| &mut array.name);
    for name in arrays.chain(function.call_params.iter_mut().map(|param| &mut param.name)) {
        let mut suffix = 0;
        let old = name.clone();
        while symbols.contains_key(&name[..]) || (suffix > 0 && !taken.insert(name.clone())) {
            suffix += 1;
            *name = format!("{old}_{suffix}");
        }
    }
}

impl<'a> Parser<'a> {
    pub(super) fn module(mut self) -> Result<Module> {
        let target = self.header()?;
        let mut symbols = Symbols::new(target);
        let mut kernels: Vec<(&'a str, Pos)> = Vec::new();
        loop {
            let linkage = match self.peek() {
                Token::Word(".visible") => Linkage::Visible,
                Token::Word(".extern") => Linkage::Extern,
                Token::Word(".weak") => Linkage::Weak,
                Token::Word(".common") => Linkage::Common,
                _ => Linkage::Internal,
            };
            if linkage != Linkage::Internal {
                self.bump();
            }
            let pos = self.pos();
            match self.peek() {
                Token::End if linkage == Linkage::Internal => break,
                Token::Word(".entry") => {
                    self.bump();
                    if let Token::Word(name) = self.peek() {
                        kernels.push((name, pos));
                    }
                    self.function(FunctionKind::Kernel, linkage, &mut symbols)?;
                }
                Token::Word(".func") => {
                    self.bump();
                    self.function(FunctionKind::Device, linkage, &mut symbols)?;
                }
                Token::Word(".global") => self.variable(Space::Global, linkage, &mut symbols)?,
                Token::Word(".const") => self.variable(Space::Const, linkage, &mut symbols)?,
                Token::Word(".shared") => self.variable(Space::Shared, linkage, &mut symbols)?,
                _ if linkage != Linkage::Internal => {
                    return self.fail("expected `.entry`, `.func` or a variable");
                }
                Token::Word(".alias") => self.alias(&mut symbols)?,
                Token::Word(".pragma") => self.pragma()?,
                Token::Word(".file" | ".loc") => self.skip_line(),
                Token::Word(".section") => self.skip_section()?,
                Token::Punct('@') => self.skip_line(),
                Token::Word(".tex" | ".texref" | ".surfref" | ".samplerref") => {
                    return self.fail("textures, surfaces and samplers are not supported");
                }
                _ => return self.fail("expected `.entry`, `.func`, a variable or a debug directive"),
            }
        }
        for (name, pos) in kernels {
            if symbols.entry(name).is_some_and(|entry| !entry.defined) {
                return Err(ParseError::new(pos, name, "this kernel is declared but not defined"));
            }
        }
        Ok(symbols.finish(target))
    }

    fn header(&mut self) -> Result<Target> {
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
        while self.eat(',') {
            match self.peek() {
                Token::Word("debug" | "texmode_independent" | "texmode_unified") => _ = self.bump(),
                _ => return self.fail("expected `debug` or a texture mode"),
            }
        }
        if self.eat_word(".address_size") && self.number()? != 64 {
            return self.fail("addresses have 64 bits");
        }
        Ok(target)
    }

    /// `.alias name, function;`: both are functions, and the first has no body.
    fn alias(&mut self, symbols: &mut Symbols<'a>) -> Result<()> {
        self.bump();
        let mut ids = [FuncId(0); 2];
        for (i, id) in ids.iter_mut().enumerate() {
            if i > 0 {
                self.expect(',')?;
            }
            self.peek();
            let pos = self.pos();
            let name = self.name("the name of a function")?;
            *id = match symbols.get(name) {
                Some(Base::Function(id)) => id,
                _ => return Err(ParseError::new(pos, name, "unknown function")),
            };
        }
        symbols.aliases.push((ids[0], ids[1]));
        self.expect(';')
    }

    /// `.pragma "nounroll";`: advice that the meaning does not depend on.
    pub(super) fn pragma(&mut self) -> Result<()> {
        self.bump();
        while matches!(self.peek(), Token::Text(_)) {
            self.bump();
            self.eat(',');
        }
        self.expect(';')
    }

    /// Debug directives end with their line.
    pub(super) fn skip_line(&mut self) {
        let line = self.pos().line;
        while self.peek() != Token::End && self.pos().line == line {
            self.bump();
        }
    }

    /// `.section .debug_info { ... }`
    fn skip_section(&mut self) -> Result<()> {
        self.bump();
        while !matches!(self.peek(), Token::Punct('{') | Token::End) {
            self.bump();
        }
        self.expect('{')?;
        let mut depth = 1usize;
        while depth > 0 {
            match self.bump() {
                Token::Punct('{') => depth += 1,
                Token::Punct('}') => depth -= 1,
                Token::End => return self.fail("this section never ends"),
                _ => {}
            }
        }
        Ok(())
    }
}
