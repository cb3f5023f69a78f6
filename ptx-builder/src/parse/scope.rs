//! What names mean within a function: levels of declarations, one for each open brace.

use super::lexer::Pos;
use super::{ParseError, Result};
use crate::ids::{BlockId, PrototypeId, RegClass, RegId, TargetsId};
use crate::inst::Base;
use std::collections::{HashMap, HashSet};

/// The deepest nesting of braces. Lookups walk the levels, so it bounds their cost.
pub(super) const MAX_DEPTH: usize = 64;

/// What is wrong with a name that is declared twice between the same braces.
pub(super) const DECLARED: &str = "this name is already declared";

/// The declarations between a pair of braces.
#[derive(Default)]
struct Level<'a> {
    /// Declared ranges `%r<10>`: prefix, count, class and first number.
    ranges: HashMap<&'a str, (u32, RegClass, u32)>,
    registers: HashMap<&'a str, RegId>,
    symbols: HashMap<&'a str, Base>,
    prototypes: HashMap<&'a str, PrototypeId>,
    targets: HashMap<&'a str, TargetsId>,
    /// Numbers of labels, and where each is first mentioned.
    labels: HashMap<&'a str, (u32, Pos)>,
}

impl Level<'_> {
    fn register(&self, name: &str) -> Option<RegId> {
        if let Some(reg) = self.registers.get(name) {
            return Some(*reg);
        }
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, number) = name.split_at(digits);
        let canonical = number.len() == 1 || !number.starts_with('0');
        let (count, class, first) = self.ranges.get(prefix)?;
        let index = number.parse::<u32>().ok().filter(|index| canonical && index < count)?;
        Some(RegId::new(*class, first + index))
    }

    /// Is it a register or an address?
    fn has(&self, name: &str) -> bool {
        self.symbols.contains_key(name) || self.register(name).is_some()
    }
}

/// Where a label is.
#[derive(Clone, Copy)]
enum Placement {
    /// Not seen yet.
    Nowhere,
    /// At the start of a block.
    Block(BlockId),
    /// It is the label of that number of an outer level.
    Outer(u32),
}

/// What names mean within a function.
pub(super) struct Scope<'a> {
    levels: Vec<Level<'a>>,
    labels: Vec<Placement>,
    /// Names of parameters, arrays and variables of calls so far, which differ in the IR.
    taken: HashSet<String>,
    suffixes: HashMap<&'a str, u32>,
}

impl<'a> Scope<'a> {
    pub(super) fn new() -> Self {
        Self {
            levels: vec![Level::default()],
            labels: Vec::new(),
            taken: HashSet::new(),
            suffixes: HashMap::new(),
        }
    }

    /// A brace opens; `false` if there are too many.
    pub(super) fn open(&mut self) -> bool {
        self.levels.push(Level::default());
        self.levels.len() <= MAX_DEPTH
    }

    /// A brace closes; `false` if it is that of the function.
    pub(super) fn close(&mut self) -> bool {
        if self.levels.len() < 2 {
            return false;
        }
        if let (Some(inner), Some(outer)) = (self.levels.pop(), self.levels.last_mut()) {
            // A label that is not here is looked for outside.
            for (name, (number, pos)) in inner.labels {
                if matches!(self.labels[number as usize], Placement::Nowhere) {
                    let (outside, _) = *outer.labels.entry(name).or_insert((number, pos));
                    if outside != number {
                        self.labels[number as usize] = Placement::Outer(outside);
                    }
                }
            }
        }
        true
    }

    fn innermost(&mut self) -> &mut Level<'a> {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn find<T>(&self, get: impl FnMut(&Level<'a>) -> Option<T>) -> Option<T> {
        self.levels.iter().rev().find_map(get)
    }

    /// Declares a name between the innermost braces.
    ///
    /// # Errors
    /// They have it already.
    fn declare(&mut self, (pos, name): (Pos, &'a str), insert: impl FnOnce(&mut Level<'a>)) -> Result<()> {
        let level = self.innermost();
        let taken = level.has(name);
        insert(level);
        if taken { Err(ParseError::new(pos, name, DECLARED)) } else { Ok(()) }
    }

    pub(super) fn declare_range(
        &mut self,
        (pos, prefix): (Pos, &'a str),
        count: u32,
        class: RegClass,
        first: u32,
    ) -> Result<()> {
        match self.innermost().ranges.insert(prefix, (count, class, first)) {
            Some(_) => Err(ParseError::new(pos, prefix, DECLARED)),
            None => Ok(()),
        }
    }

    pub(super) fn declare_register(&mut self, name: (Pos, &'a str), reg: RegId) -> Result<()> {
        self.declare(name, |level| _ = level.registers.insert(name.1, reg))
    }

    pub(super) fn declare_symbol(&mut self, name: (Pos, &'a str), base: Base) -> Result<()> {
        self.declare(name, |level| _ = level.symbols.insert(name.1, base))
    }

    pub(super) fn declare_prototype(&mut self, name: &'a str, id: PrototypeId) {
        self.innermost().prototypes.insert(name, id);
    }

    pub(super) fn declare_targets(&mut self, name: &'a str, id: TargetsId) {
        self.innermost().targets.insert(name, id);
    }

    /// A name like this one that nothing else in the function has, nor anything that is `outside`.
    pub(super) fn unique(&mut self, name: &'a str, outside: impl Fn(&str) -> bool) -> String {
        if !outside(name) && self.taken.insert(name.to_owned()) {
            return name.to_owned();
        }
        let suffix = self.suffixes.entry(name).or_insert(0);
        loop {
            *suffix += 1;
            let candidate = format!("{name}_{suffix}");
            if !outside(&candidate) && self.taken.insert(candidate.clone()) {
                return candidate;
            }
        }
    }

    pub(super) fn symbol(&self, name: &str) -> Option<Base> {
        self.find(|level| level.symbols.get(name).copied())
    }

    pub(super) fn prototype(&self, name: &str) -> Option<PrototypeId> {
        self.find(|level| level.prototypes.get(name).copied())
    }

    pub(super) fn targets(&self, name: &str) -> Option<TargetsId> {
        self.find(|level| level.targets.get(name).copied())
    }

    pub(super) fn register(&self, name: &str) -> Option<RegId> {
        self.find(|level| level.register(name))
    }

    /// The number of a label that is mentioned or placed at the present level.
    pub(super) fn label(&mut self, name: &'a str, pos: Pos) -> u32 {
        let next = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        let (number, _) = *self.innermost().labels.entry(name).or_insert((next, pos));
        if number == next {
            self.labels.push(Placement::Nowhere);
        }
        number
    }

    /// Places a label at a block; `false` if it is somewhere already.
    pub(super) fn place(&mut self, label: u32, block: BlockId) -> bool {
        let slot = &mut self.labels[label as usize];
        matches!(std::mem::replace(slot, Placement::Block(block)), Placement::Nowhere)
    }

    /// The block of a label number.
    pub(super) fn block(&self, mut label: u32) -> Option<BlockId> {
        // Each step leads out of a level.
        for _ in 0..=MAX_DEPTH {
            match self.labels.get(label as usize)? {
                Placement::Nowhere => return None,
                Placement::Block(block) => return Some(*block),
                Placement::Outer(outer) => label = *outer,
            }
        }
        None
    }

    /// The label of the function's own level that was mentioned first without being placed.
    pub(super) fn missing_label(&self) -> Option<(&'a str, Pos)> {
        let labels = self.levels.iter().flat_map(|level| &level.labels);
        let missing = labels.filter(|(_, (number, _))| self.block(*number).is_none());
        missing.map(|(name, (_, pos))| (*name, *pos)).min_by_key(|(_, pos)| (pos.line, pos.column))
    }
}
