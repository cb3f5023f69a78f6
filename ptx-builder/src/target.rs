//! Targets (`sm_90a`) and PTX ISA versions, and which version introduced which target.

use std::fmt;
use std::str::FromStr;

/// A PTX ISA version, as in `.version 8.0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PtxVersion {
    /// Before the dot.
    pub major: u8,
    /// After the dot.
    pub minor: u8,
}

impl PtxVersion {
    /// `major.minor`.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for PtxVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A GPU target of the PTX `.target` directive.
///
/// Ordered by architecture number, with the architecture-specific (`a`) target after the plain one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Target {
    sm: u16,
    specific: bool,
}

/// A target name that is neither one of [`Target::all`] nor one that other compilers' text has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "unknown target `{0}`, kernels are generated for sm_75, sm_80, sm_86, sm_89, sm_90, sm_90a, sm_100a and sm_120a"
)]
pub struct UnknownTarget(pub String);

impl Target {
    /// Turing.
    pub const SM_75: Self = Self { sm: 75, specific: false };
    /// Ampere, data centre.
    pub const SM_80: Self = Self { sm: 80, specific: false };
    /// Ampere, consumer.
    pub const SM_86: Self = Self { sm: 86, specific: false };
    /// Ada.
    pub const SM_89: Self = Self { sm: 89, specific: false };
    /// Hopper, forward compatible subset.
    pub const SM_90: Self = Self { sm: 90, specific: false };
    /// Hopper with wgmma and setmaxnreg; runs on 9.0 only.
    pub const SM_90A: Self = Self { sm: 90, specific: true };
    /// Blackwell, data centre; runs on 10.0 only.
    pub const SM_100A: Self = Self { sm: 100, specific: true };
    /// Blackwell, consumer; runs on 12.0 only.
    pub const SM_120A: Self = Self { sm: 120, specific: true };

    /// Every target that kernels are generated for, ascending.
    pub const fn all() -> &'static [Self] {
        &[
            Self::SM_75,
            Self::SM_80,
            Self::SM_86,
            Self::SM_89,
            Self::SM_90,
            Self::SM_90A,
            Self::SM_100A,
            Self::SM_120A,
        ]
    }

    /// Targets that text may have and that nothing is generated for.
    const FOREIGN: &[Self] = &[
        Self { sm: 70, specific: false },
        Self { sm: 72, specific: false },
        Self { sm: 87, specific: false },
        Self { sm: 88, specific: false },
        Self { sm: 100, specific: false },
        Self { sm: 103, specific: false },
        Self { sm: 103, specific: true },
        Self { sm: 110, specific: false },
        Self { sm: 110, specific: true },
        Self { sm: 120, specific: false },
        Self { sm: 121, specific: false },
        Self { sm: 121, specific: true },
    ];

    /// The architecture number: 90 for `sm_90a`.
    pub const fn sm(self) -> u32 {
        self.sm as u32
    }

    /// Does it have the architecture-specific features, which no other architecture runs?
    pub const fn is_specific(self) -> bool {
        self.specific
    }

    /// The PTX ISA version that introduced the target.
    pub const fn ptx_version(self) -> PtxVersion {
        match (self.sm, self.specific) {
            (70, _) => PtxVersion::new(6, 0),
            (72, _) => PtxVersion::new(6, 1),
            (75, _) => PtxVersion::new(6, 3),
            (80, _) => PtxVersion::new(7, 0),
            (86, _) => PtxVersion::new(7, 1),
            (87, _) => PtxVersion::new(7, 4),
            (89, _) | (90, false) => PtxVersion::new(7, 8),
            (90, true) => PtxVersion::new(8, 0),
            (100, _) => PtxVersion::new(8, 6),
            (120, _) => PtxVersion::new(8, 7),
            (103 | 121, _) => PtxVersion::new(8, 8),
            _ => PtxVersion::new(9, 0),
        }
    }

    /// The best known target for a device of this compute capability: its own, architecture-specific if
    /// there is one, otherwise the newest plain target that it can run. `None` below 7.5.
    pub fn for_capability(major: u32, minor: u32) -> Option<Self> {
        let capability = major.checked_mul(10)?.checked_add(minor)?;
        Self::all().iter().rev().copied().find(|target| {
            if target.specific { target.sm() == capability } else { target.sm() <= capability }
        })
    }

    /// Can a device of this compute capability run code for this target?
    pub fn runs_on(self, major: u32, minor: u32) -> bool {
        let capability = major.saturating_mul(10).saturating_add(minor);
        if self.specific { self.sm() == capability } else { self.sm() <= capability }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}{}", self.sm, if self.specific { "a" } else { "" })
    }
}

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, UnknownTarget> {
        let parse = || {
            let digits = text.strip_prefix("sm_")?;
            let (digits, specific) = match digits.strip_suffix('a') {
                Some(digits) => (digits, true),
                None => (digits, false),
            };
            let sm = digits.parse().ok()?;
            Self::all()
                .iter()
                .chain(Self::FOREIGN)
                .copied()
                .find(|t| *t == Self { sm, specific } && t.to_string() == text)
        };
        parse().ok_or_else(|| UnknownTarget(text.to_owned()))
    }
}

/// What an instruction needs in order to exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Requires {
    /// The PTX ISA version that introduced it.
    pub ptx: PtxVersion,
    /// The first architecture that has it.
    pub sm: u32,
    /// Only architecture-specific targets have it: those from that architecture to this one.
    pub specific_until: Option<u32>,
}

impl Requires {
    /// Available everywhere this crate targets.
    pub const BASE: Self = Self::new(1, 0, 50);

    /// PTX ISA `major.minor`, `sm_<sm>` and later.
    pub const fn new(major: u8, minor: u8, sm: u32) -> Self {
        Self { ptx: PtxVersion::new(major, minor), sm, specific_until: None }
    }

    /// PTX ISA `major.minor`, architecture-specific targets from `sm_<sm>a` to `sm_<last>a`.
    pub const fn specific(major: u8, minor: u8, sm: u32, last: u32) -> Self {
        Self { ptx: PtxVersion::new(major, minor), sm, specific_until: Some(last) }
    }

    /// Does `target` meet it?
    pub const fn met_by(self, target: Target) -> bool {
        let known = match self.specific_until {
            None => true,
            Some(last) => target.specific && target.sm() <= last,
        };
        known && target.sm() >= self.sm
    }

    /// Both requirements together.
    pub(crate) fn and(self, other: Self) -> Self {
        let ptx = self.ptx.max(other.ptx);
        let stronger = match (self.specific_until, other.specific_until) {
            (Some(_), None) => self,
            (None, Some(_)) => other,
            _ if self.sm >= other.sm => self,
            _ => other,
        };
        Self { ptx, ..stronger }
    }

    /// The target's name as an error message gives it.
    pub(crate) fn target_name(self) -> String {
        format!("sm_{}{}", self.sm, if self.specific_until.is_some() { "a" } else { "" })
    }
}
