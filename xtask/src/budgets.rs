//! The recorded register budgets of the catalogue: `kernels/register-budgets.tsv`.
//!
//! One line a kernel: its name, a tab, and the most registers that ptxas may give a thread on any target. Spills
//! have no budget: they are never accepted.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::tools::workspace_root;

/// Registers a thread may use, by kernel name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Budgets(pub BTreeMap<String, u32>);

fn path() -> PathBuf {
    workspace_root().join("kernels/register-budgets.tsv")
}

impl Budgets {
    pub fn load() -> Result<Self> {
        Self::parse(&fs::read_to_string(path()).map_err(Error::io(path()))?)
    }

    pub fn save(&self) -> Result<()> {
        let text: String = self.0.iter().map(|(name, registers)| format!("{name}\t{registers}\n")).collect();
        fs::write(path(), text).map_err(Error::io(path()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut budgets = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let entry = line.split_once('\t').and_then(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
            let Some((name, registers)) = entry else {
                let place = format!("{}:{}", path().display(), number + 1);
                return Err(Error::Message(format!("{place}: not `name<TAB>registers`: {line:?}")));
            };
            budgets.insert(name, registers);
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
        assert_eq!(Budgets::parse("a\t10\n").unwrap().0["a"], 10);
    }
}
