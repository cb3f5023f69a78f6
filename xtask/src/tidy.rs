//! `cargo xtask tidy`: rules of the source tree that no compiler checks.
//!
//! The rules run as a test, too; only the search for orphan snapshots needs the list of the snapshots that a test run
//! compared, which `cargo xtask ci` records.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::tools::workspace_root;

/// Lines from which on a source file is taken to hold more than one idea.
const LONGEST_FILE: usize = 800;

/// What may stand at the top level.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".git",
    ".gitattributes",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "docs",
    "gpu-driver",
    "graph",
    "kernels",
    "ptx-builder",
    "runtime",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
    "xtask",
];

#[derive(clap::Args)]
pub struct Args {
    /// The snapshots that a test run compared, one path a line: all others are orphans.
    #[arg(long, value_name = "FILE")]
    pub snapshot_references: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let tree = Tree::read()?;
    let mut problems = tree.problems();
    if let Some(file) = &args.snapshot_references {
        let used = fs::read_to_string(file).map_err(Error::io(file))?;
        problems.extend(tree.orphan_snapshots(&used));
    }
    if problems.is_empty() {
        println!("{} files are tidy", tree.files.len());
        return Ok(());
    }
    Err(Error::Message(format!("{} problems\n  {}", problems.len(), problems.join("\n  "))))
}

/// The text files of the workspace.
struct Tree {
    root: PathBuf,
    /// Paths relative to the root, with their texts.
    files: Vec<(PathBuf, String)>,
    top_level: Vec<String>,
}

impl Tree {
    fn read() -> Result<Self> {
        let root = workspace_root();
        let mut tree = Tree { files: Vec::new(), top_level: Vec::new(), root };
        let root = tree.root.clone();
        tree.walk(&root)?;
        tree.files.sort();
        Ok(tree)
    }

    fn walk(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
            let path = entry.map_err(Error::io(folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("target") && folder == self.root || name == ".git" {
                continue;
            }
            if folder == self.root {
                self.top_level.push(name.clone());
            }
            let text_file = ["rs", "md", "toml", "snap", "ptx"]
                .iter()
                .any(|extension| path.extension().is_some_and(|found| found == *extension));
            if path.is_dir() {
                self.walk(&path)?;
            } else if text_file {
                let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
                let relative = path.strip_prefix(&self.root).unwrap_or(&path).to_path_buf();
                self.files.push((relative, text));
            }
        }
        Ok(())
    }

    fn sources(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"))
            .map(|(path, text)| (path.as_path(), text.as_str()))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for name in &self.top_level {
            // Hidden folders of other tools are theirs.
            if !TOP_LEVEL.contains(&name.as_str()) && !name.starts_with('.') {
                problems.push(format!("{name}: not part of the top level"));
            }
        }
        for (path, text) in self.sources() {
            let shown = path.display();
            let lines = text.lines().count();
            let is_test = path.components().any(|part| part.as_os_str() == "tests");
            if lines > LONGEST_FILE && !is_test {
                problems.push(format!("{shown}: {lines} lines: one idea a file"));
            }
            if !text.starts_with("//!") && !shown.to_string().contains("/ui/") {
                problems.push(format!("{shown}: does not begin by saying what it is"));
            }
            if text.contains("#[ignore = \"needs a CUDA device\"]")
                && !is_gpu_test(path)
                && !path.starts_with("xtask")
            {
                problems
                    .push(format!("{shown}: GPU tests live in tests/gpu_*.rs, where gpu-test finds them"));
            }
            // The order of a hash map differs between processes; the text of a kernel must not.
            let emits = ["kernels/src", "ptx-builder/src/build", "ptx-builder/src/print"];
            let emits = emits.iter().any(|part| shown.to_string().starts_with(part));
            if emits && (text.contains("HashMap") || text.contains("HashSet")) {
                problems.push(format!("{shown}: hash order must not reach PTX text; use a BTreeMap"));
            }
        }
        problems.extend(self.undocumented_variables());
        problems
    }

    /// Environment variables that the table in README.md does not list.
    fn undocumented_variables(&self) -> Vec<String> {
        let readme = self.files.iter().find(|(path, _)| path == Path::new("README.md"));
        let documented = readme.map_or("", |(_, text)| text.as_str());
        let mut seen = BTreeSet::new();
        for (_, text) in self.sources() {
            for rest in text.split("\"WARPSMITH_").skip(1) {
                let name: String = rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
                seen.insert(format!("WARPSMITH_{name}"));
            }
        }
        seen.iter()
            .filter(|name| !documented.contains(&format!("`{name}`")) && name.as_str() != "WARPSMITH_")
            .map(|name| format!("{name}: not in README.md's table of environment variables"))
            .collect()
    }

    fn orphan_snapshots(&self, used: &str) -> Vec<String> {
        let used: BTreeSet<&Path> =
            used.lines().map(Path::new).map(|path| path.strip_prefix(&self.root).unwrap_or(path)).collect();
        self.files
            .iter()
            .map(|(path, _)| path.as_path())
            .filter(|path| {
                path.extension().is_some_and(|extension| extension == "snap") && !used.contains(path)
            })
            .map(|path| format!("{}: no test compares this snapshot", path.display()))
            .collect()
    }
}

fn is_gpu_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gpu_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let problems = Tree::read().unwrap().problems();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn each_rule_finds_what_breaks_it() {
        let file = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let tree = Tree {
            root: "/".into(),
            top_level: vec!["notes.txt".into()],
            files: vec![
                file("kernels/src/a.rs", "//! A.\nuse std::collections::HashMap;"),
                file("graph/src/b.rs", "struct Undescribed;"),
                file("graph/src/c.rs", &"//! C.\n".repeat(LONGEST_FILE + 1)),
                file("runtime/tests/d.rs", "//! D.\n#[ignore = \"needs a CUDA device\"]"),
                file("runtime/src/e.rs", &format!("//! E.\nconst X: &str = \"WARPSMITH_{}\";", "SECRET")),
                file("graph/src/snapshots/f.snap", ""),
            ],
        };
        let mut problems = tree.problems();
        problems.extend(tree.orphan_snapshots(""));
        for part in ["notes.txt", "a.rs", "b.rs", "c.rs", "d.rs", "_SECRET", "f.snap"] {
            assert_eq!(
                problems.iter().filter(|problem| problem.contains(part)).count(),
                1,
                "{part}: {problems:?}"
            );
        }
    }
}
