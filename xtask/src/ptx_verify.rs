//! `cargo xtask ptx-verify`: ptxas over the catalogue for every supported target.

use std::fs;
use std::path::Path;
use std::process::Command;

use kernels::Kernel;
use ptx_builder::{PtxVersion, Target};
use rayon::prelude::*;

use crate::budgets::{Budget, Budgets};
use crate::error::{Error, Result};
use crate::tools;

#[derive(clap::Args, Default)]
pub struct Args {
    /// Only kernels whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Record the registers that were found as the new budgets, with a filter those of its kernels only.
    #[arg(long)]
    bless: bool,
}

/// The newest PTX that the ptxas of continuous integration reads.
const NEWEST: PtxVersion = PtxVersion::new(9, 0);

/// What `ptxas -v` reports of one kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of local memory of a thread: arrays that could not stay in registers.
    pub stack_bytes: u32,
    /// Bytes that a thread spills.
    pub spill_bytes: u32,
}

pub fn run(args: &Args) -> Result<()> {
    let ptxas = tools::cuda_tool("ptxas")?;
    let folder = tempfile::tempdir().map_err(Error::io("temporary folder"))?;
    let catalogue = selected(kernels::catalogue(), args.filter.as_deref());
    if catalogue.is_empty() {
        return Err(Error::Message("no kernel of the catalogue was selected".into()));
    }
    let results: Vec<Assembled> =
        catalogue.par_iter().map(|kernel| assemble_all(&ptxas, folder.path(), kernel.as_ref())).collect();

    let known = Budgets::load()?;
    let mut budgets = if args.bless && args.filter.is_none() { Budgets::default() } else { known.clone() };
    let mut problems = Vec::new();
    let mut assembled = 0;
    for Assembled { name, most, count, failures } in results {
        assembled += count;
        problems.extend(failures);
        let budget = known.0.get(&name).copied();
        let spills = budget.unwrap_or_default().spills;
        if most.spills > spills {
            problems.push(format!("{name}: {} bytes of spills, {spills} are accepted", most.spills));
        }
        if args.bless {
            budgets.0.insert(name, Budget { registers: most.registers, spills: most.spills.min(spills) });
            continue;
        }
        match budget {
            None => problems.push(format!("{name}: no budget recorded")),
            Some(budget) if most.registers > budget.registers => problems
                .push(format!("{name}: {} registers, the budget is {}", most.registers, budget.registers)),
            Some(_) => {}
        }
    }
    if args.filter.is_none() {
        let names: std::collections::BTreeSet<_> = catalogue.iter().map(|kernel| kernel.name()).collect();
        problems.extend(
            budgets
                .0
                .keys()
                .filter(|name| !names.contains(*name))
                .map(|name| format!("{name}: budget without kernel")),
        );
    }
    if !problems.is_empty() {
        return Err(Error::Message(format!("{} problems\n  {}", problems.len(), problems.join("\n  "))));
    }
    if args.bless {
        budgets.save()?;
    }
    for &target in Target::all() {
        let mut all = ptx_builder::all_ops_module(target);
        for block in all.functions.iter_mut().flat_map(|function| &mut function.blocks) {
            block.insts.retain(|inst| inst.requires().ptx <= NEWEST);
        }
        assemble_text(&ptxas, folder.path(), "all_ops", &ptx_builder::print(&all), target)?;
    }
    println!(
        "{} kernels, {assembled} assemblies, within the budgets of registers and spills",
        catalogue.len()
    );
    Ok(())
}

fn selected(catalogue: Vec<Box<dyn Kernel>>, filter: Option<&str>) -> Vec<Box<dyn Kernel>> {
    catalogue.into_iter().filter(|kernel| filter.is_none_or(|part| kernel.name().contains(part))).collect()
}

struct Assembled {
    name: String,
    /// On any target.
    most: Budget,
    count: usize,
    failures: Vec<String>,
}

/// Assembles a kernel for every target that can run it.
fn assemble_all(ptxas: &Path, folder: &Path, kernel: &dyn Kernel) -> Assembled {
    let name = kernel.name();
    let mut assembled =
        Assembled { name: name.clone(), most: Budget::default(), count: 0, failures: Vec::new() };
    for &target in Target::all().iter().filter(|&&target| kernel.runs_on(target)) {
        match assemble(ptxas, folder, kernel, target) {
            Ok(found) => {
                assembled.count += 1;
                let most = &mut assembled.most;
                most.registers = most.registers.max(found.registers);
                most.spills = most.spills.max(found.spill_bytes);
                // What is spilled is stored at least once; the rest are arrays that could not stay in registers.
                if found.stack_bytes > found.spill_bytes {
                    assembled
                        .failures
                        .push(format!("{name} for {target}: {} bytes of local memory", found.stack_bytes));
                }
            }
            Err(error) => assembled.failures.push(format!("{name} for {target}: {error}")),
        }
    }
    if assembled.count == 0 {
        assembled.failures.push(format!("{name}: no supported target"));
    }
    assembled
}

/// Assembles one kernel for one target and reads what ptxas says of it.
pub fn assemble(ptxas: &Path, folder: &Path, kernel: &dyn Kernel, target: Target) -> Result<Resources> {
    let text = ptx_builder::print(&kernel.emit(target)?);
    let report = assemble_text(ptxas, folder, &kernel.name(), &text, target)?;
    parse_report(&report).ok_or_else(|| Error::Message(format!("ptxas -v printed no resources: {report}")))
}

/// Assembles PTX to `NAME.TARGET.cubin` in `folder` and returns what ptxas says.
fn assemble_text(ptxas: &Path, folder: &Path, name: &str, text: &str, target: Target) -> Result<String> {
    let stem = folder.join(format!("{name}.{target}"));
    let (source, binary) = (stem.with_added_extension("ptx"), stem.with_added_extension("cubin"));
    fs::write(&source, text).map_err(Error::io(&source))?;
    let output = tools::capture(
        Command::new(ptxas).arg("-v").arg(format!("-arch={target}")).arg(&source).arg("-o").arg(&binary),
    )?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout))
}

/// Reads the registers, stack frame and spills out of `ptxas -v`.
fn parse_report(report: &str) -> Option<Resources> {
    let number_before = |what: &str| -> Option<u32> {
        let end = report.find(what)?;
        report[..end].trim_end().rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some(Resources {
        registers: number_before(" registers")?,
        stack_bytes: number_before(" bytes stack frame")?,
        spill_bytes: number_before(" bytes spill stores")? + number_before(" bytes spill loads")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_ptxas_is_read() {
        let report = "ptxas info    : 0 bytes gmem\nptxas info    : Compiling entry function 'k' for 'sm_90a'\n\
             ptxas info    : Function properties for k\n    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n\
             ptxas info    : Used 42 registers, used 1 barriers, 128 bytes smem\n";
        let found = parse_report(report).unwrap();
        assert_eq!(found, Resources { registers: 42, stack_bytes: 16, spill_bytes: 12 });
        assert_eq!(parse_report("nothing"), None);
    }
}
