//! What names mean within a function.

use super::lexer::Pos;
use crate::ids::{BlockId, RegClass, RegId};
use crate::inst::Base;
use std::collections::HashMap;

/// What names mean within a function.
#[derive(Default)]
pub(super) struct Scope<'a> {
    /// Declared ranges `%r<10>`: prefix, count, class and first number.
    pub(super) ranges: HashMap<&'a str, (u32, RegClass, u32)>,
    pub(super) registers: HashMap<&'a str, RegId>,
    pub(super) symbols: HashMap<&'a str, Base>,
    /// Numbers of labels, in the order of their first mention, and where that was.
    pub(super) labels: HashMap<&'a str, (u32, Pos)>,
    /// The block of each label number.
    pub(super) placed: Vec<Option<BlockId>>,
}

impl<'a> Scope<'a> {
    pub(super) fn register(&self, name: &str) -> Option<RegId> {
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

    pub(super) fn label(&mut self, name: &'a str, pos: Pos) -> u32 {
        let next = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        let (number, _) = *self.labels.entry(name).or_insert((next, pos));
        if number == next {
            self.placed.push(None);
        }
        number
    }
}
