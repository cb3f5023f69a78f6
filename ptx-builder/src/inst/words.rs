//! Reading mnemonics: dot-separated words, and the names of fieldless enums in them.

use crate::ty::Ty;

/// How one argument of an operand list is written, which is all that decoding a mnemonic needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// `a`, `[a]` or `a|b`.
    One,
    /// `{a, b}` with that many elements.
    Vector(usize),
}

/// The dot-separated words of a mnemonic, read from the left.
pub(crate) struct Words<'a> {
    words: Vec<&'a str>,
    next: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(words: Vec<&'a str>) -> Self {
        Self { words, next: 0 }
    }

    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).copied()
    }

    /// Takes the next word if it is `word`.
    pub(crate) fn eat(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.next += usize::from(found);
        found
    }

    /// Takes the next word if the lookup knows it.
    pub(crate) fn take<T>(&mut self, lookup: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let found = lookup(self.peek()?)?;
        self.next += 1;
        Some(found)
    }

    /// Takes a qualifier for a place that has none yet; whether it did.
    pub(crate) fn once<T>(
        &mut self,
        place: &mut Option<T>,
        take: impl FnOnce(&mut Self) -> Result<Option<T>, String>,
    ) -> Result<bool, String> {
        if place.is_some() {
            return Ok(false);
        }
        *place = take(self)?;
        Ok(place.is_some())
    }

    /// The same for a qualifier `word` that is there or not.
    pub(crate) fn mark(&mut self, place: &mut bool, word: &str) -> bool {
        let found = !*place && self.eat(word);
        *place |= found;
        found
    }

    /// Takes the next word, which must be what the lookup knows.
    pub(crate) fn need<T>(
        &mut self,
        what: &str,
        lookup: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, String> {
        let word = self.peek();
        self.take(lookup).ok_or_else(|| match word {
            Some(word) => format!("expected {what}, found `.{word}`"),
            None => format!("expected {what} at the end of the mnemonic"),
        })
    }

    pub(crate) fn expect(&mut self, word: &str) -> Result<(), String> {
        self.need(&format!("`.{word}`"), |w| (w == word).then_some(()))
    }

    pub(crate) fn ty(&mut self) -> Result<Ty, String> {
        self.need("a type", Ty::parse)
    }

    pub(super) fn finish(&self) -> Result<(), String> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(format!("unexpected `.{word}`")),
        }
    }
}

/// A fieldless enum whose variants have names in mnemonics.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident = $text:literal, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $( $(#[$vdoc])* $variant, )* }

        impl $name {
            /// Every variant.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in PTX text, without its dot.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The variant of that name.
            pub fn from_name(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}
pub(crate) use named;
