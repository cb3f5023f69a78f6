//! What a plan records and what it refuses.

use std::sync::Arc;

use kernels::{Access, LaunchGeometry, Param};
use tensor_formats::ElementType;

use super::memory_map::{MemoryMap, Region, RegionId, RegionKind, Span};
use super::plan::{Argument, LaunchPlan};
use super::plan_error::PlanError;
use super::testing::{FakeKernel, param};

/// Regions weights (constant), cache (state), scratch, pinned (host) and ring (mapped), 4 KiB each.
struct Fixture {
    plan: LaunchPlan,
    ids: [RegionId; 5],
}

const WEIGHTS: usize = 0;
const CACHE: usize = 1;
const SCRATCH: usize = 2;
const PINNED: usize = 3;
const RING: usize = 4;

fn fixture() -> Fixture {
    let mut map = MemoryMap::new();
    let kinds =
        [RegionKind::Constant, RegionKind::State, RegionKind::Scratch, RegionKind::Host, RegionKind::Mapped];
    let names = ["weights", "cache", "scratch", "pinned", "ring"];
    let mut add = |i: usize| {
        let base = 0x7000_0000_0000 + 0x10_0000 * i as u64;
        map.add(Region { name: names[i].into(), kind: kinds[i], base, bytes: 4096 })
    };
    let ids = [add(0), add(1), add(2), add(3), add(4)];
    Fixture { plan: LaunchPlan::new(Arc::new(map)), ids }
}

impl Fixture {
    fn span(&self, region: usize, offset: u64, bytes: u64) -> Span {
        Span { region: self.ids[region], offset, bytes }
    }

    fn f32(&self, region: usize, offset: u64, bytes: u64) -> Argument {
        Argument { span: self.span(region, offset, bytes), element: ElementType::F32 }
    }

    fn launch(&mut self, params: &[Param], arguments: &[Argument]) -> Result<(), PlanError> {
        self.plan.launch(Arc::new(FakeKernel::new("fake", params)), arguments)
    }

    fn message(&mut self, params: &[Param], arguments: &[Argument]) -> String {
        let steps = self.plan.steps().len();
        let error = self.launch(params, arguments).unwrap_err().to_string();
        assert_eq!(self.plan.steps().len(), steps, "a refused step is not kept");
        error
    }
}

#[test]
fn a_launch_records_addresses_and_what_the_kernel_touches() {
    let mut f = fixture();
    let params = [param("w", Access::Read, 64), param("y", Access::Write, 32)];
    let arguments = [f.f32(WEIGHTS, 256, 128), f.f32(SCRATCH, 512, 32)];
    f.launch(&params, &arguments).unwrap();
    let launch = f.plan.launches().next().unwrap();
    assert_eq!(launch.addresses, [0x7000_0000_0000 + 256, 0x7000_0020_0000 + 512]);
    assert_eq!(launch.touched, [f.span(WEIGHTS, 256, 64), f.span(SCRATCH, 512, 32)]);
    let accesses = f.plan.steps()[0].accesses();
    assert_eq!(accesses.reads, [f.span(WEIGHTS, 256, 64)]);
    assert_eq!(accesses.writes, [f.span(SCRATCH, 512, 32)]);
}

#[test]
fn arguments_are_counted() {
    let mut f = fixture();
    let argument = f.f32(WEIGHTS, 0, 4);
    assert_eq!(f.message(&[], &[argument]), "fake takes 0 arguments, got 1");
}

#[test]
fn arguments_stay_inside_their_region_and_their_tensor() {
    let mut f = fixture();
    let read = [param("x", Access::Read, 64)];
    let (outside, short) = (f.f32(WEIGHTS, 4090, 64), f.f32(WEIGHTS, 0, 60));
    assert_eq!(f.message(&read, &[outside]), "fake: weights[4090..4154] is outside its region");
    assert_eq!(f.message(&read, &[short]), "fake: x touches 64 bytes, more than weights[0..60] has");
}

#[test]
fn pointers_are_aligned() {
    let mut f = fixture();
    let wide = Param { align: 16, ..param("x", Access::Read, 64) };
    let argument = f.f32(WEIGHTS, 8, 64);
    let expected = "fake: x must be a multiple of 16, weights[8..72] is at 0x700000000008";
    assert_eq!(f.message(&[wide], &[argument]), expected);
}

#[test]
fn a_weight_of_another_type_is_refused() {
    let mut f = fixture();
    let q4 = Param { element: ElementType::Q4_K, ..param("w", Access::Read, 144) };
    let q6 = Argument { span: f.span(WEIGHTS, 0, 210), element: ElementType::Q6_K };
    assert_eq!(f.message(&[q4], &[q6]), "fake: w takes Q4_K, weights[0..210] holds Q6_K");
}

#[test]
fn constants_are_not_written_and_kernels_do_not_see_host_memory() {
    let mut f = fixture();
    let update = [param("y", Access::ReadWrite, 4)];
    let (weights, pinned) = (f.f32(WEIGHTS, 0, 4), f.f32(PINNED, 0, 4));
    assert_eq!(f.message(&update, &[weights]), "fake, y would write weights[0..4], which is constant");
    assert_eq!(f.message(&update, &[pinned]), "fake, y cannot use pinned[0..4], which is host memory");
}

#[test]
fn partial_overlap_is_refused_and_in_place_is_not() {
    let mut f = fixture();
    let params = [param("x", Access::Read, 64), param("y", Access::Write, 64)];
    let (x, shifted) = (f.f32(CACHE, 0, 64), f.f32(CACHE, 4, 64));
    let expected = "fake: x = cache[0..64] and y = cache[4..68] overlap in part";
    assert_eq!(f.message(&params, &[x, shifted]), expected);
    f.launch(&params, &[x, x]).unwrap();
    let both_read = [param("x", Access::Read, 64), param("y", Access::Read, 64)];
    f.launch(&both_read, &[x, shifted]).unwrap();
}

#[test]
fn scratch_is_written_before_it_is_read() {
    let mut f = fixture();
    let (read, write) = ([param("x", Access::Read, 64)], [param("y", Access::Write, 64)]);
    let argument = f.f32(SCRATCH, 0, 64);
    let expected = "fake reads scratch[0..64], but nothing wrote byte 0 of that region";
    assert_eq!(f.message(&read, &[argument]), expected);
    f.launch(&write, &[argument]).unwrap();
    f.launch(&read, &[argument]).unwrap();
    let beyond = f.f32(SCRATCH, 32, 64);
    let expected = "fake reads scratch[32..96], but nothing wrote byte 64 of that region";
    assert_eq!(f.message(&read, &[beyond]), expected);
    let cache = f.f32(CACHE, 0, 64);
    f.launch(&read, &[cache]).unwrap();
}

#[test]
fn copies_and_fills_are_checked_and_ordered() {
    let mut f = fixture();
    let (state, host) = (f.span(SCRATCH, 0, 16), f.span(PINNED, 0, 16));
    f.plan.copy(state, host).unwrap();
    f.plan.fill(f.span(SCRATCH, 16, 16), 0).unwrap();
    f.launch(&[param("x", Access::Read, 32)], &[f.f32(SCRATCH, 0, 32)]).unwrap();
    f.plan.copy(host, state).unwrap();
    let edges: Vec<_> = f.plan.edges().iter().map(|edge| (edge.from, edge.to)).collect();
    assert_eq!(edges, [(0, 2), (1, 2), (0, 3)]);
    let constant = f.span(WEIGHTS, 0, 16);
    let refused = [
        f.plan.copy(f.span(SCRATCH, 0, 8), host),
        f.plan.copy(f.span(SCRATCH, 4090, 16), host),
        f.plan.copy(constant, host),
        f.plan.copy(f.span(PINNED, 16, 16), host),
        f.plan.copy(f.span(PINNED, 8, 16), host),
        f.plan.copy(host, f.span(SCRATCH, 64, 16)),
        f.plan.copy(f.span(CACHE, 8, 16), f.span(CACHE, 0, 16)),
        f.plan.fill(constant, 0),
        f.plan.fill(host, 0),
    ];
    for (index, result) in refused.iter().enumerate() {
        assert!(result.is_err(), "case {index}");
    }
    assert_eq!(f.plan.steps().len(), 4);
}

/// A step of the second run waits for what touched its bytes in the first, as if the plan had its steps twice.
#[test]
fn runs_of_a_plan_are_ordered_by_the_bytes_that_they_share() {
    let mut f = fixture();
    let (read, written) = (param("x", Access::Read, 64), param("y", Access::Write, 64));
    let params = [read, written];
    let append = |f: &mut Fixture| {
        let arguments = [f.f32(CACHE, 0, 64), f.f32(SCRATCH, 0, 64)];
        f.launch(&params, &arguments).unwrap();
        let arguments = [f.f32(CACHE, 64, 64), f.f32(SCRATCH, 64, 64)];
        f.launch(&params, &arguments).unwrap();
        let arguments = [f.f32(SCRATCH, 0, 64), f.f32(CACHE, 0, 64)];
        f.launch(&params, &arguments).unwrap();
    };
    append(&mut f);
    assert_eq!(f.plan.edges_of_runs(1, None), f.plan.edges());
    let edges = f.plan.edges_of_runs(3, None);
    let pairs: Vec<_> = edges.iter().map(|edge| (edge.from, edge.to)).collect();
    // The second step shares nothing with the others, and its second run writes what its first wrote.
    assert_eq!(pairs, [(0, 2), (2, 3), (1, 4), (3, 5), (5, 6), (4, 7), (6, 8)]);
    append(&mut f);
    append(&mut f);
    assert_eq!(f.plan.edges(), edges);
    assert_eq!(f.plan.edges_of_runs(0, None), []);
}

#[test]
fn impossible_launches_are_refused() {
    let mut f = fixture();
    for (grid, block) in [([0, 1, 1], [32, 1, 1]), ([1, 1, 1], [1025, 1, 1]), ([1, 65_536, 1], [32, 1, 1])] {
        let mut kernel = FakeKernel::new("fake", &[]);
        kernel.geometry = LaunchGeometry { grid, block, dynamic_shared: 0 };
        let error = f.plan.launch(Arc::new(kernel), &[]).unwrap_err();
        assert!(matches!(error, PlanError::Geometry { .. }), "{error}");
    }
}

#[test]
fn the_listing_shows_steps_operands_order_and_cost() {
    let mut f = fixture();
    f.plan.copy(f.span(SCRATCH, 0, 64), f.span(PINNED, 0, 64)).unwrap();
    let params = [param("x", Access::Read, 64), param("y", Access::Write, 32)];
    let arguments = [f.f32(SCRATCH, 0, 64), f.f32(SCRATCH, 256, 32)];
    f.launch(&params, &arguments).unwrap();
    let expected = "   0  copy  pinned[0..64] -> scratch[0..64]  read 64 B, written 64 B, 0 op\n   \
        1  fake  grid 1 block 32  x=scratch[0..64]  y->scratch[256..288]  read 64 B, written 32 B, 7 op  after 0\n\
        2 steps, 1 launches of 1 kernels, 1 edges; read 128 B, written 96 B, 7 op at context 7\n";
    assert_eq!(f.plan.listing(7).to_string(), expected);
}

#[test]
fn mapped_memory_is_for_kernels_and_not_for_copies() {
    let mut f = fixture();
    let argument = f.f32(RING, 64, 16);
    f.launch(&[param("ring", Access::ReadWrite, 16)], &[argument]).unwrap();
    let (ring, device) = (f.span(RING, 0, 16), f.span(CACHE, 0, 16));
    let refused = |step| format!("{step} cannot use ring[0..16], which is host memory");
    assert_eq!(f.plan.copy(ring, device).unwrap_err().to_string(), refused("copy"));
    assert_eq!(f.plan.copy(device, ring).unwrap_err().to_string(), refused("copy"));
    assert_eq!(f.plan.fill(ring, 0).unwrap_err().to_string(), refused("fill"));
}
