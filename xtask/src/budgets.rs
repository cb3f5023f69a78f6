//! The recorded register budgets of the catalogue: `kernels/register-budgets.tsv`.
//!
//! One line a kernel: its name, a tab, and the most registers that ptxas may give a thread on any target. A kernel that
//! spills has a third column, the most bytes of it, stores and loads together: what is stored once before a loop and loaded
//! once in it may cost less than what would keep it in registers. Blessing does not add that column.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::tools::workspace_root;

/// What a thread may use, by kernel name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Budgets(pub BTreeMap<String, Budget>);

/// What a thread may use.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub registers: u32,
    /// Bytes, stored and loaded.
    pub spills: u32,
}

fn path() -> PathBuf {
    workspace_root().join("kernels/register-budgets.tsv")
}

impl Budgets {
    pub fn load() -> Result<Self> {
        Self::parse(&fs::read_to_string(path()).map_err(Error::io(path()))?)
    }

    pub fn save(&self) -> Result<()> {
        let line = |(name, budget): (&String, &Budget)| match budget {
            Budget { registers, spills: 0 } => format!("{name}\t{registers}\n"),
            Budget { registers, spills } => format!("{name}\t{registers}\t{spills}\n"),
        };
        let text: String = self.0.iter().map(line).collect();
        fs::write(path(), text).map_err(Error::io(path()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut budgets = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let mut columns = line.split('\t');
            let name = columns.next().unwrap_or_default();
            let numbers: Vec<Option<u32>> = columns.map(|number| number.parse().ok()).collect();
            let budget = match *numbers {
                [Some(registers)] => Budget { registers, spills: 0 },
                [Some(registers), Some(spills)] => Budget { registers, spills },
                _ => {
                    let place = format!("{}:{}", path().display(), number + 1);
                    let form = "`name<TAB>registers` or `name<TAB>registers<TAB>spills`";
                    return Err(Error::Message(format!("{place}: not {form}: {line:?}")));
                }
            };
            budgets.insert(name.to_owned(), budget);
        }
        Ok(Budgets(budgets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_line_is_an_error_that_names_it() {
        let error = Budgets::parse("a\t10\nb 12\n").unwrap_err().to_string();
        assert!(error.contains(":2: ") && error.contains("b 12"), "{error}");
        for damaged in ["a\t10\t-1", "a\t10\t1\t2", "a\t", "a"] {
            assert!(Budgets::parse(damaged).is_err(), "{damaged:?}");
        }
        let budgets = Budgets::parse("a\t10\nb\t12\t8\n").unwrap();
        assert_eq!(budgets.0["a"], Budget { registers: 10, spills: 0 });
        assert_eq!(budgets.0["b"], Budget { registers: 12, spills: 8 });
    }
}
