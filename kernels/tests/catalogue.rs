//! What holds for every kernel of the catalogue.

use std::collections::HashSet;

use kernels::{KernelError, catalogue, shared_memory};
use ptx_builder::Target;

#[test]
fn names_are_distinct_identifiers() {
    let mut names = HashSet::new();
    for kernel in catalogue() {
        let name = kernel.name();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{name}");
        assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()), "{name}");
        assert!(names.insert(name.clone()), "{name} is there twice");
    }
}

#[test]
fn every_kernel_emits_the_same_verified_text_twice_for_every_target() {
    for kernel in catalogue() {
        let name = kernel.name();
        for &target in Target::all().iter().filter(|&&target| kernel.runs_on(target)) {
            let text = match kernel.emit(target) {
                Ok(module) => ptx_builder::print(&module),
                Err(error) => panic!("{name} for {target}: {error}"),
            };
            let again = kernel.emit(target).expect("it emitted before");
            assert_eq!(text, ptx_builder::print(&again), "{name}");
            assert!(text.contains(&format!(".target {target}\n")), "{name}");
            let [x, y, z] = kernel.geometry().block;
            let contract = text.split(".reqntid ").nth(1).and_then(|rest| rest.lines().next());
            let numbers =
                contract.map(|c| c.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()));
            let mut numbers: Vec<u32> = numbers.into_iter().flatten().collect();
            numbers.resize(3, 1);
            assert_eq!(numbers, [x, y, z], "{name}: {contract:?}");
        }
    }
}

/// Attention when its first keys and values are on their way, every other kernel before it waits.
#[test]
fn every_kernel_lets_the_next_one_begin() {
    for kernel in catalogue() {
        let name = kernel.name();
        let module = kernel.emit(Target::SM_90A).expect("every kernel runs on Hopper");
        let text = ptx_builder::print(&module);
        let (waits, lets) = (text.find("griddepcontrol.wait"), text.find("griddepcontrol.launch_dependents"));
        let (Some(waits), Some(lets)) = (waits, lets) else { panic!("{name}: {waits:?}, {lets:?}") };
        let attends = name.starts_with("attention_") && !name.starts_with("attention_input");
        assert_eq!(lets > waits, attends, "{name}");
        if attends {
            let (_, before) = text[..lets].rsplit_once("griddepcontrol.wait").expect("it waits");
            assert_eq!(before.contains("cp.async.cg"), name.contains("_ring"), "{name}");
        }
    }
}

#[test]
fn what_is_emitted_fits_the_shared_memory_of_its_target() {
    let mut refused = 0;
    for (kernel, &target) in
        catalogue().iter().flat_map(|kernel| Target::all().iter().map(move |target| (kernel, target)))
    {
        let dynamic = u64::from(kernel.geometry().dynamic_shared);
        match kernel.emit(target) {
            Ok(module) => {
                let declared: u64 =
                    module.functions.iter().map(ptx_builder::Function::static_shared_bytes).sum();
                let most = u64::from(shared_memory(target));
                assert!(declared + dynamic <= most, "{} for {target}: {declared} + {dynamic}", kernel.name());
            }
            // What one target alone has, later ones do not have either.
            Err(KernelError::Target { needs, .. }) => {
                assert!(target < needs || needs == Target::SM_90A && target != needs, "{}", kernel.name());
            }
            Err(error @ KernelError::SharedMemory { .. }) => {
                assert!(target >= kernel.min_target() && !kernel.runs_on(target), "{error}");
                assert!(error.to_string().contains("`on`"), "{error}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0);
    assert_eq!(shared_memory(Target::SM_75), 64 << 10);
}

#[test]
fn parameters_are_the_signature() {
    for kernel in catalogue() {
        let module = kernel.emit(Target::SM_90A).expect("every kernel runs on Hopper");
        let text = ptx_builder::print(&module);
        let head =
            text.split(&format!(".entry {}", kernel.name())).nth(1).and_then(|rest| rest.split(')').next());
        let head = head.unwrap_or_else(|| panic!("{} is not its own entry", kernel.name()));
        assert_eq!(head.matches(".param").count(), kernel.params().len(), "{}", kernel.name());
        assert_eq!(head.matches(".u64").count(), kernel.params().len(), "{}", kernel.name());
        for param in kernel.params() {
            assert!(param.bytes > 0 && param.align.is_power_of_two(), "{}: {param:?}", kernel.name());
            assert!(head.contains(param.name), "{}: {param:?}", kernel.name());
        }
    }
}

#[test]
fn launches_are_within_the_limits_of_every_device() {
    for kernel in catalogue() {
        let geometry = kernel.geometry();
        let threads: u32 = geometry.block.iter().product();
        assert!((1..=1024).contains(&threads), "{}: {geometry:?}", kernel.name());
        assert!(geometry.grid.iter().all(|&blocks| blocks > 0), "{}: {geometry:?}", kernel.name());
        assert!(geometry.grid[1] < 1 << 16 && geometry.grid[2] < 1 << 16, "{}: {geometry:?}", kernel.name());
    }
}

#[test]
fn a_launch_moves_no_more_than_its_parameters_hold() {
    for kernel in catalogue() {
        let cost = kernel.cost(16);
        let params = kernel.params();
        let written: u64 = params.iter().filter(|p| p.access.writes()).map(|p| p.bytes).sum();
        assert!(cost.bytes_written > 0 && cost.bytes_written <= written, "{}: {cost:?}", kernel.name());
        assert!(cost.bytes_read > 0, "{}: {cost:?}", kernel.name());
    }
}

/// What a kernel waits for queues behind all that it has asked for before.
#[test]
fn projections_fetch_a_turn_or_two_before_they_wait_and_the_rest_behind_their_activations() {
    let families = ["attention_input", "residual_projection", "gated_projection", "head"];
    let mut seen = 0;
    for kernel in catalogue() {
        let name = kernel.name();
        if !families.iter().any(|family| name.starts_with(family)) {
            continue;
        }
        let text = kernel.emit(Target::SM_90A).expect("the target has it").to_string();
        for segment in text.split("// the first weights do not wait for anything").skip(1) {
            let (before, after) = segment.split_once("griddepcontrol.wait").expect("it waits");
            let early = if name.contains("_attended_") { 2 } else { 1 };
            assert_eq!(before.matches("cp.async.commit_group").count(), early, "{name}");
            let (activations, more) = after.split_once("// more weights, behind").expect("more weights");
            assert!(!activations.contains("cp.async."), "{name}");
            // What keeps ptxas from putting loads behind copies.
            let next = more.lines().nth(1);
            assert!(next.is_some_and(|line| line.contains("bar.warp.sync")), "{name}: {next:?}");
            // Several rows may take several rounds.
            let first = activations.contains("ld.global.v4");
            assert!(first || !name.ends_with("_b1"), "{name}: no activations are asked for first");
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}
