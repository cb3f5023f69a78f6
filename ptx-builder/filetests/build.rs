//! Lists the files, so that they are a part of the programs that run them: those move to machines without the sources.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let mut list = String::from("&[\n");
    for origin in ["hand", "llvm", "nvcc", "triton"] {
        let folder = Path::new(&root).join(origin);
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut paths =
            fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "ptx"));
        paths.sort();
        for path in paths {
            let stem = path.file_stem().ok_or("a file without a name")?.to_string_lossy();
            writeln!(list, "    File {{ name: \"{origin}/{stem}\", text: include_str!({path:?}) }},")?;
        }
    }
    list.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("files.rs"), list)?;
    Ok(())
}
