//! What attention that is divided among blocks promises: caches are read once, and the order of blocks does not matter.

use kernels::attention::Attention;
use kernels::cases::{Case, Interpreter};
use kernels::random::Random;
use kernels::{CacheShape, Kernel, shared_memory};
use ptx_builder::interp::{Direction, Metrics, Options, SECTOR_BYTES};
use ptx_builder::{Space, Target, parse};
use tensor_formats::{ElementType, quantize_row};

const ELEMENTS: [ElementType; 4] =
    [ElementType::F32, ElementType::F16, ElementType::BF16, ElementType::F8E4M3];

/// What kernels have beside what every device has.
#[derive(Debug, Clone, Copy, PartialEq)]
enum With {
    Nothing,
    Rings,
    Clusters,
}

const ALL: [With; 3] = [With::Nothing, With::Rings, With::Clusters];

/// Every element type with everything.
fn all() -> impl Iterator<Item = (ElementType, With)> {
    ELEMENTS.into_iter().flat_map(|element| ALL.map(|with| (element, with)))
}

/// One row that attends to every position of a cache of several chunks: eight query heads of `head_dim` features share two
/// key heads.
fn case(element: ElementType, head_dim: usize, with: With) -> Case {
    let cache = CacheShape { n_sequences: 1, n_kv_heads: 2, max_seq: 320, head_dim, element };
    let kernel = Attention::new(cache, 1, 8, 0.125).expect("a kernel for the shape");
    let kernel = match with {
        With::Nothing => kernel,
        With::Rings => kernel.within(SHARED),
        With::Clusters => kernel.on(Target::SM_90),
    };
    // Five chunks; a cluster has three blocks without one.
    assert_eq!(kernel.geometry().grid[1], if with == With::Clusters { 8 } else { 5 });
    let mut random = Random::new(7);
    let q = random.f32s(8 * head_dim);
    let mut stored = || {
        let values = random.f32s(2 * 320 * head_dim);
        let mut bytes = vec![0; element.row_bytes(values.len()).expect("whole elements")];
        quantize_row(element, &values, &mut bytes).expect("finite values");
        bytes
    };
    let (k, v) = (stored(), stored());
    Case::new(kernel, "")
        .with_f32("q", &q)
        .with_bytes("k_cache", &k)
        .with_bytes("v_cache", &v)
        .with_u32("positions", &[319])
        .with_u32("sequences", &[0])
}

const SHARED: u32 = shared_memory(Target::SM_90);

/// Beside what the blocks of a cluster are sent there is room for rings, whatever the cache's type.
#[test]
fn usual_models_have_rings_in_clusters() {
    for (n_heads, n_kv_heads, head_dim) in
        [(12, 2, 128), (32, 8, 128), (32, 8, 64), (28, 4, 128), (40, 8, 128), (64, 8, 128), (14, 2, 64)]
    {
        for element in [ElementType::F16, ElementType::BF16, ElementType::F8E4M3] {
            let cache = CacheShape { n_sequences: 1, n_kv_heads, max_seq: 4096, head_dim, element };
            let kernel = Attention::new(cache, 1, n_heads, 0.125).expect("a kernel for the shape");
            let name = kernel.on(Target::SM_90).name();
            assert!(name.contains("_cluster8_ring"), "{name}");
        }
    }
}

/// What a launch moves.
fn metrics(case: &Case) -> Metrics {
    let options = Options { metrics: true, threads: Some(1), ..Options::default() };
    let mut interpreter = Interpreter::with_options(Target::SM_90A, options);
    case.launch(&mut interpreter).unwrap_or_else(|failure| panic!("{failure}"));
    interpreter.last().and_then(|report| report.metrics.clone()).expect("metrics were asked for")
}

#[test]
fn every_cached_byte_is_read_once_for_all_heads_of_a_group() {
    for (element, with) in all() {
        let mut allocations = metrics(&case(element, 64, with)).allocations;
        allocations.sort_by_key(|allocation| allocation.bytes);
        for cache in allocations.iter().rev().take(2) {
            assert_eq!(cache.bytes, element.row_bytes(2 * 320 * 64).expect("whole elements") as u64);
            assert_eq!((cache.bytes_written, cache.bytes_read), (0, cache.bytes), "{element}: {cache:?}");
            assert_eq!(cache.distinct_read, cache.bytes, "{element}: {cache:?}");
            assert_eq!(cache.sectors_read * SECTOR_BYTES, cache.bytes, "{element}: {cache:?}");
        }
    }
}

#[test]
fn keys_and_values_in_a_ring_meet_in_no_bank() {
    for element in [ElementType::F16, ElementType::BF16, ElementType::F8E4M3] {
        // Rows of one line, of two, of one and a half; of F8E4M3 of half as many.
        for head_dim in [64, 128, 96] {
            let conflicts = |with| {
                let case = case(element, head_dim, with);
                assert_eq!(case.name.contains("_ring"), with != With::Nothing, "{}", case.name);
                let metrics = metrics(&case);
                [Direction::Load, Direction::Store]
                    .map(|direction| metrics.total(Space::Shared, direction).bank_conflicts())
            };
            // What warps leave for each other is the same.
            assert_eq!(conflicts(With::Rings), conflicts(With::Nothing), "{element}, {head_dim}");
        }
    }
}

/// What a device's shared memory allows, the device can run.
#[test]
fn rings_are_for_devices_that_have_room_for_them() {
    let mut rings = 0;
    for (element, head_dim) in ELEMENTS.into_iter().flat_map(|e| (16..=256).step_by(16).map(move |d| (e, d)))
    {
        for (target, group) in [Target::SM_80, Target::SM_86, Target::SM_89, Target::SM_90, Target::SM_120A]
            .into_iter()
            .flat_map(|target| [1, 4, 8].map(|group| (target, group)))
        {
            let cache = CacheShape { n_sequences: 1, n_kv_heads: 1, max_seq: 64, head_dim, element };
            let plain = Attention::new(cache, 1, group, 0.125).expect("a kernel for the shape");
            let kernel = plain.within(shared_memory(target));
            assert!(kernel.min_target() <= target.max(plain.min_target()), "{target}: {}", kernel.name());
            rings += usize::from(kernel.name() != plain.name());
        }
    }
    assert!(rings > 0);
}

#[test]
fn blocks_of_any_order_give_the_same_bits() {
    for (element, with) in ELEMENTS.into_iter().flat_map(|e| [(e, With::Rings), (e, With::Clusters)]) {
        let case = case(element, 64, with);
        let mut results = (0..12).map(|seed| {
            // Half of the runs with several blocks at a time.
            let threads = (seed % 2 == 0).then_some(1);
            let options = Options { seed, threads, ..Options::default() };
            let mut interpreter = Interpreter::with_options(Target::SM_90A, options);
            case.launch(&mut interpreter)
                .unwrap_or_else(|failure| panic!("{element}, {with:?}, seed {seed}: {failure}"))
        });
        let first = results.next().expect("a run");
        assert!(results.all(|other| other == first), "{element}, {with:?}");
    }
}

/// The kernel's text for a device where kernels overlap.
fn text(kernel: &dyn Kernel) -> String {
    kernel.emit(Target::SM_90A).expect("the target has it").to_string()
}

/// The text with other values where the row's position and sequence are guessed.
fn guessing(text: &str, guess: [u32; 2]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (name, guess) in ["_position, ", "_sequence, "].into_iter().zip(guess) {
        let line = lines
            .iter_mut()
            .find(|line| line.contains("mov.u32") && line.contains(name))
            .expect("a variable");
        let end = line.find(name).expect("just found") + name.len();
        line.replace_range(end.., &format!("{guess};"));
    }
    lines.join("\n") + "\n"
}

#[test]
fn a_wrong_guess_changes_nothing() {
    for (element, with) in all() {
        for position in [319, 100] {
            let case = case(element, 64, with).with_u32("positions", &[position]);
            let expected = case.launch(&mut Interpreter::new(Target::SM_90A)).expect("as it is");
            let text = text(case.kernel.as_ref());
            for guess in
                [[0, 0], [63, 0], [position - 64, 0], [319, 0], [320, 0], [position, 1], [u32::MAX, 7]]
            {
                let module = parse(&guessing(&text, guess)).expect("a module").verify().expect("a valid one");
                let mut interpreter = Interpreter::new(Target::SM_90A).running(module);
                let got =
                    case.launch(&mut interpreter).unwrap_or_else(|failure| panic!("{guess:?}: {failure}"));
                assert!(got == expected, "{element}, {with:?}, position {position}, {guess:?}");
            }
        }
    }
}

#[test]
fn only_a_guess_is_read_before_the_wait() {
    for (element, with) in all() {
        let text = text(case(element, 64, with).kernel.as_ref());
        let before = text.split("griddepcontrol.wait").next().expect("some text");
        assert!(before.len() < text.len(), "{element}: nothing is waited for");
        let early: Vec<&str> = before
            .lines()
            .filter(|line| line.contains(".global") && !line.contains("cvta") && !line.contains(".param"))
            .collect();
        assert_eq!(
            early.iter().filter(|line| line.contains("ld.relaxed.gpu.global")).count(),
            2,
            "{early:#?}"
        );
        let only =
            |line: &&str| line.contains("ld.relaxed.gpu.global") || line.contains("prefetch.global.L2");
        assert!(early.iter().all(only), "{element}: {early:#?}");
    }
}
