//! What the matrix-vector products read: every weight byte by one request, activations once.

use kernels::cases::{Case, Interpreter, cases};
use ptx_builder::interp::{AllocationTraffic, Direction, InstructionTraffic, Metrics, Options, SECTOR_BYTES};
use ptx_builder::{Space, Target};

fn metrics(case: &Case) -> Metrics {
    let options = Options { metrics: true, threads: Some(1), ..Options::default() };
    let mut interpreter = Interpreter::with_options(Target::SM_90A, options);
    case.run(&mut interpreter).unwrap_or_else(|failure| panic!("{failure}"));
    interpreter.last().and_then(|report| report.metrics.clone()).expect("metrics were asked for")
}

/// The traffic of the largest allocation of a launch: the matrix.
fn weights(case: &Case) -> AllocationTraffic {
    matrix(&metrics(case))
}

fn matrix(metrics: &Metrics) -> AllocationTraffic {
    let largest = metrics.allocations.iter().max_by_key(|allocation| allocation.bytes);
    *largest.expect("a kernel has a matrix")
}

/// Requests for parts of a sector are as many reads of the L2: with half sectors a projection of Q8_0 took 1.8 times as
/// long.
#[test]
fn fused_projections_read_weights_by_whole_sectors() {
    let mut formats = 0;
    for case in cases("_64x1536_b2").filter(|case| case.name.starts_with("residual_projection")) {
        formats += 1;
        let (name, traffic) = (&case.name, weights(&case));
        assert_eq!(traffic.bytes_read, traffic.bytes, "{name}: {traffic:?}");
        // A row's six f16 of Q6_K are no whole sectors.
        let moved = traffic.sectors_read * SECTOR_BYTES;
        assert!(40 * moved <= 41 * traffic.bytes, "{name}: {traffic:?}");
    }
    assert_eq!(formats, 5 + 2, "one case of each format, and two of activations that come as Q8");
}

/// The same with a norm, whose sums lie before the weights in shared memory, and on tensor cores: copies that come to other
/// sectors than they are in are read twice. Four sequences of the 8b got 4 % faster when rows of tiles came to whole ones and rings began on a line.
#[test]
fn copies_come_to_shared_memory_by_whole_sectors() {
    // A row's six f16 of Q6_K are no whole sectors; rows of a tile have what they need of their scales for a turn in a part
    // of a sector.
    let formats = [("q4_0", 0, 34), ("q8_0", 0, 18), ("q4_k", 0, 12), ("q5_k", 0, 10), ("q6_k", 3, 25)];
    let all: Vec<Case> = cases("_64x1536_").collect();
    for (format, of_lanes, of_tiles) in formats {
        for (batch, percent) in [(2, of_lanes), (8, of_tiles)] {
            for family in ["gated_projection", "head"] {
                let (name, batch) = (format!("{family}_{format}_"), format!("_b{batch}"));
                let mut found =
                    all.iter().filter(|case| case.name.starts_with(&name) && case.name.ends_with(&batch));
                within(found.next().unwrap_or_else(|| panic!("no case of {name}")), percent);
            }
        }
    }
}

/// The same in rings of several slots, of which each begins on a whole sector.
#[test]
fn rings_of_several_slots_are_no_different() {
    let mut cases_seen = 0;
    for case in cases("x768_").filter(|case| case.name.contains("_b1_p2")) {
        cases_seen += 1;
        // A row's scales are no whole sectors.
        within(&case, 10);
    }
    assert!(cases_seen >= 10, "{cases_seen} cases");
}

/// Lines of 128 bytes that come to parts of two lines are written in more steps, which no count here shows: the 8b decodes 7 %
/// faster since rings begin on a line.
#[test]
fn rings_begin_on_a_line() {
    let families = ["attention_input_", "residual_projection_", "gated_projection_", "head_"];
    let mut seen = 0;
    for kernel in kernels::catalogue() {
        if families.iter().any(|family| kernel.name().starts_with(family)) {
            seen += 1;
            let text = ptx_builder::print(&kernel.emit(Target::SM_90A).unwrap());
            assert!(text.contains(".extern .shared .align 128 "), "{}", kernel.name());
        }
    }
    assert!(seen > 50, "{seen} kernels");
}

/// One or two activation rows that meet all units alike are in registers: beside weights, a unit reads nothing from shared
/// memory. They were read for every unit before, nearly as many bytes as the weights: the 1.5b decodes 2.5 % faster without.
#[test]
fn activations_are_read_once_by_a_warp() {
    let mut seen = 0;
    for case in cases("_272x768_").filter(|case| case.name.starts_with("residual_projection_")) {
        seen += 1;
        let (name, metrics) = (&case.name, metrics(&case));
        let loads = || {
            let of_shared =
                |site: &&InstructionTraffic| site.space == Space::Shared && site.direction == Direction::Load;
            metrics.traffic.iter().filter(of_shared).map(|site| site.traffic)
        };
        let units = loads().map(|traffic| traffic.requests).max().expect("weights are in shared memory");
        let of_units: u64 = loads().filter(|load| load.requests == units).map(|load| load.bytes).sum();
        let bytes = matrix(&metrics).bytes;
        // Scales that several lanes read count for each: of Q5_K, 1.8 times as much. With activations it is 2.06 and more.
        assert!(
            of_units < 2 * bytes,
            "{name}: units read {of_units} bytes of shared memory for {bytes} of weights"
        );
    }
    assert!(seen >= 10, "{seen} cases");
}

/// What tensor cores multiply comes to registers at 128 bytes a cycle, however many lanes get the same ones. For four
/// sequences of the 8b that took longer than to issue instructions, while lanes decoded scales for each other.
#[test]
fn tiles_load_little_from_shared_memory() {
    // Four tiles of six turns.
    const TURNS: u64 = 4 * 6;
    // With eight activation rows. It was 92, 92, 106, 110 and 127 before.
    for (format, most) in [("q4_0", 80), ("q8_0", 92), ("q4_k", 78), ("q5_k", 86), ("q6_k", 96)] {
        let name = format!("residual_projection_{format}_64x1536_b8");
        let case = cases(&name).next().unwrap_or_else(|| panic!("no case of {name}"));
        let metrics = metrics(&case);
        let loads = metrics
            .traffic
            .iter()
            .filter(|site| site.space == Space::Shared && site.direction == Direction::Load);
        let wavefronts: u64 = loads.map(|site| site.traffic.wavefronts).sum();
        assert!(wavefronts <= most * TURNS, "{name}: {} for a turn", wavefronts / TURNS);
    }
}

/// What is moved for the weights of a case is at most so many per cent more than they are.
fn within(case: &Case, percent: u64) {
    let traffic = weights(case);
    let moved = traffic.sectors_read * SECTOR_BYTES;
    let more = 100 * moved / traffic.bytes - 100;
    assert!(more <= percent, "{}: {more} %, {traffic:?}", case.name);
}

#[test]
fn every_weight_byte_is_read_by_one_request() {
    let shapes = ["gemv_q4_k_2112x2048_b2", "gemv_q8_q4_k_2112x2048_b2", "gemv_q4_k_256x1536_b2"];
    for shape in shapes {
        let case = cases(shape).next().unwrap_or_else(|| panic!("no case is called {shape}"));
        let traffic = weights(&case);
        assert_eq!(traffic.bytes_written, 0, "{shape}: {traffic:?}");
        assert_eq!(traffic.distinct_read, traffic.bytes, "{shape}: {traffic:?}");
        assert_eq!(traffic.bytes_read, traffic.bytes, "{shape}: {traffic:?}");
        // Blocks of 144 bytes start in the middle of every other sector, and headers are loaded apart from what
        // they belong to: a quarter more sectors than bytes at most.
        let moved = traffic.sectors_read * SECTOR_BYTES;
        assert!(4 * moved <= 5 * traffic.bytes, "{shape}: {traffic:?}");
    }
}
