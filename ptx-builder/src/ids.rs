//! Entity ids: `u32` newtypes whose `Display` is the textual form.
//!
//! References would tie the IR to one arena and one borrow; ids are `Copy`, hash cheaply, index side
//! tables, survive edits of neighbouring entities, and print as a reader of PTX expects.

use std::fmt;

/// The declared type of a register. Prefix and declared type are a bijection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum RegClass {
    /// `%p`, declared `.pred`.
    Pred = 0,
    /// `%rs`, declared `.b16`.
    B16 = 1,
    /// `%r`, declared `.b32`.
    B32 = 2,
    /// `%rd`, declared `.b64`.
    B64 = 3,
    /// `%f`, declared `.f32`.
    F32 = 4,
    /// `%fd`, declared `.f64`.
    F64 = 5,
}

impl RegClass {
    /// Every class, in declaration order.
    pub const ALL: [Self; 6] = [Self::Pred, Self::B16, Self::B32, Self::B64, Self::F32, Self::F64];

    /// The prefix of register names of this class, with the percent sign.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Pred => "%p",
            Self::B16 => "%rs",
            Self::B32 => "%r",
            Self::B64 => "%rd",
            Self::F32 => "%f",
            Self::F64 => "%fd",
        }
    }

    /// The type in the `.reg` declaration, with its dot.
    pub const fn declared(self) -> &'static str {
        match self {
            Self::Pred => ".pred",
            Self::B16 => ".b16",
            Self::B32 => ".b32",
            Self::B64 => ".b64",
            Self::F32 => ".f32",
            Self::F64 => ".f64",
        }
    }

    /// Width in bits; predicates have 1.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Pred => 1,
            Self::B16 => 16,
            Self::B32 | Self::F32 => 32,
            Self::B64 | Self::F64 => 64,
        }
    }

    /// The class of a register name: `("%rd12", ..)` gives the class and what follows the prefix.
    pub(crate) fn of_name(name: &str) -> Option<(Self, &str)> {
        // Longest prefix first, so that `%rd` is not read as `%r`.
        [Self::B16, Self::B64, Self::F64, Self::Pred, Self::B32, Self::F32].into_iter().find_map(|class| {
            let rest = name.strip_prefix(class.prefix())?;
            rest.starts_with(|c: char| c.is_ascii_digit()).then_some((class, rest))
        })
    }
}

/// A virtual register: a class and a number dense within that class.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegId(u32);

impl RegId {
    const CLASS_SHIFT: u32 = 29;
    /// One past the largest register number.
    pub const MAX_INDEX: u32 = 1 << Self::CLASS_SHIFT;

    /// The register number `index` of `class`.
    ///
    /// # Panics
    /// When `index` is not below [`RegId::MAX_INDEX`]: a function of half a billion registers.
    pub const fn new(class: RegClass, index: u32) -> Self {
        assert!(index < Self::MAX_INDEX, "register number out of range");
        Self((class as u32) << Self::CLASS_SHIFT | index)
    }

    /// The declared type.
    pub const fn class(self) -> RegClass {
        RegClass::ALL[(self.0 >> Self::CLASS_SHIFT) as usize]
    }

    /// The number within the class.
    pub const fn index(self) -> u32 {
        self.0 & (Self::MAX_INDEX - 1)
    }
}

impl fmt::Display for RegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.class().prefix(), self.index())
    }
}

impl fmt::Debug for RegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The index into the table that this id belongs to.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A basic block: its position in the function's layout. The label is this, or this and a name.
    BlockId, "L"
);
id!(
    /// A parameter (or a result) of a function, by position.
    ParamId, "param"
);
id!(
    /// A shared or local array of a function, by position.
    ArrayId, "array"
);

id!(
    /// A function of a module, by position.
    FuncId, "function"
);
id!(
    /// A variable of a module, by position.
    GlobalId, "global"
);
id!(
    /// A parameter variable of a function for the calls that it makes, by position.
    CallParamId, "call_param"
);
id!(
    /// The signature of an indirect call, by position in its function. The id is its label.
    PrototypeId, "prototype"
);
id!(
    /// A table of jump targets, by position in its function. The id is its label.
    TargetsId, "targets"
);

/// The place of an instruction: block and index within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InstId {
    /// The block.
    pub block: BlockId,
    /// The position within the block.
    pub index: u32,
}

impl fmt::Display for InstId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.block, self.index)
    }
}
