//! A list of kernel launches, copies and fills with everything that is needed to run it: once, or again and again.
//!
//! A plan is plain data. It is made without a device, checked step by step as it grows, and then
//! [loaded](super::loaded::LoadedPlan) to be run eagerly, as a CUDA graph, or under a profiler, each time with the
//! same kernels and the same addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kernels::{Access, Cost, Kernel, LaunchGeometry, Param};
use tensor_formats::ElementType;

use super::byte_set::ByteSet;
use super::edges::{Accesses, Edge, dependencies};
use super::memory_map::{MemoryMap, RegionId, RegionKind, Span};
use super::plan_error::PlanError;

/// What is passed for one pointer parameter of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// The tensor's bytes. The pointer is the address of the first.
    pub span: Span,
    /// The tensor's element type.
    pub element: ElementType,
}

/// One kernel launch.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What is launched.
    pub kernel: Arc<dyn Kernel>,
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub params: Vec<Param>,
    /// The shape of the launch.
    pub geometry: LaunchGeometry,
    /// What the kernel may touch through each parameter: the parameter's extent, which may be less than the tensor.
    pub touched: Vec<Span>,
    /// The device address for each parameter.
    pub addresses: Vec<u64>,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub enum Step {
    /// A kernel.
    Launch(Launch),
    /// A copy of `source` to `target`, which have the same length.
    Copy {
        /// The bytes written.
        target: Span,
        /// The bytes read.
        source: Span,
    },
    /// Every byte of `target` becomes `value`.
    Fill {
        /// The bytes written.
        target: Span,
        /// Their new value.
        value: u8,
    },
}

impl Step {
    /// The name in listings and profiles: the kernel's, or what else is done.
    pub fn name(&self) -> &str {
        match self {
            Step::Launch(launch) => &launch.name,
            Step::Copy { .. } => "copy",
            Step::Fill { .. } => "fill",
        }
    }

    /// What the step reads and writes.
    pub fn accesses(&self) -> Accesses {
        let mut accesses = Accesses::default();
        match self {
            Step::Launch(launch) => {
                for (param, span) in launch.params.iter().zip(&launch.touched) {
                    if param.access.reads() {
                        accesses.reads.push(*span);
                    }
                    if param.access.writes() {
                        accesses.writes.push(*span);
                    }
                }
            }
            Step::Copy { target, source } => {
                accesses.reads.push(*source);
                accesses.writes.push(*target);
            }
            Step::Fill { target, .. } => accesses.writes.push(*target),
        }
        accesses
    }

    /// Bytes and operations of the step when every row attends to `context` positions.
    pub fn cost(&self, context: u64) -> Cost {
        match self {
            Step::Launch(launch) => launch.kernel.cost(context),
            Step::Copy { target, source } => {
                Cost { bytes_read: source.bytes, bytes_written: target.bytes, operations: 0 }
            }
            Step::Fill { target, .. } => Cost { bytes_read: 0, bytes_written: target.bytes, operations: 0 },
        }
    }
}

/// Steps over the regions of one memory map, in an order in which they may run one after the other.
///
/// Each step is checked when it is appended, so a plan that exists can be run: every pointer is inside its region,
/// aligned and of the type that the kernel expects, nothing writes constants, and no scratch byte is read before
/// the plan has written it.
#[derive(Debug, Clone)]
pub struct LaunchPlan {
    memory: Arc<MemoryMap>,
    steps: Vec<Step>,
    /// Scratch bytes that hold something, by region.
    written: BTreeMap<RegionId, ByteSet>,
}

impl LaunchPlan {
    /// An empty plan over `memory`.
    pub fn new(memory: Arc<MemoryMap>) -> Self {
        Self { memory, steps: Vec::new(), written: BTreeMap::new() }
    }

    /// The regions that the plan's spans are in.
    pub fn memory(&self) -> &Arc<MemoryMap> {
        &self.memory
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The number of kernel launches among the steps.
    pub fn n_launches(&self) -> usize {
        self.launches().count()
    }

    /// The kernel launches in order.
    pub fn launches(&self) -> impl Iterator<Item = &Launch> {
        self.steps.iter().filter_map(|step| match step {
            Step::Launch(launch) => Some(launch),
            _ => None,
        })
    }

    /// Each kernel that the plan launches once, by name.
    pub fn kernels(&self) -> BTreeMap<&str, &Arc<dyn Kernel>> {
        self.launches().map(|launch| (launch.name.as_str(), &launch.kernel)).collect()
    }

    /// Appends a launch of `kernel` with one argument for each of its parameters.
    ///
    /// # Errors
    /// [`PlanError`] if an argument is not what the parameter needs. The plan is then as it was.
    pub fn launch(&mut self, kernel: Arc<dyn Kernel>, arguments: &[Argument]) -> Result<(), PlanError> {
        let (name, params, geometry) = (kernel.name(), kernel.params(), kernel.geometry());
        check_geometry(&name, geometry)?;
        if params.len() != arguments.len() {
            return Err(PlanError::Arity { kernel: name, expected: params.len(), actual: arguments.len() });
        }
        let mut touched = Vec::with_capacity(params.len());
        let mut addresses = Vec::with_capacity(params.len());
        for (param, argument) in params.iter().zip(arguments) {
            let (span, address) = self.check_argument(&name, param, argument)?;
            touched.push(span);
            addresses.push(address);
        }
        check_aliases(&self.memory, &name, &params, &touched)?;
        for (param, span) in params.iter().zip(&touched) {
            if param.access.reads() {
                self.check_written(&name, *span)?;
            }
        }
        for (param, span) in params.iter().zip(&touched) {
            if param.access.writes() {
                self.note_written(*span);
            }
        }
        self.steps.push(Step::Launch(Launch { kernel, name, params, geometry, touched, addresses }));
        Ok(())
    }

    /// Appends a copy of `source` to `target`, between host and device or on the device.
    ///
    /// # Errors
    /// [`PlanError`] if the lengths differ, a span is not inside its region, the target is constant, the two overlap
    /// or are both on the host, or the source has no contents.
    pub fn copy(&mut self, target: Span, source: Span) -> Result<(), PlanError> {
        let show = |span| self.memory.display(span).to_string();
        if target.bytes != source.bytes {
            return Err(PlanError::CopyLength { target: show(target), source_span: show(source) });
        }
        let target_kind = self.check_inside("copy", target)?;
        let source_kind = self.check_inside("copy", source)?;
        if target_kind == RegionKind::Constant {
            return Err(PlanError::Constant { step: "copy".into(), span: show(target) });
        }
        if target_kind == RegionKind::Host && source_kind == RegionKind::Host {
            return Err(PlanError::Host { step: "copy".into(), span: show(target) });
        }
        if target.overlaps(source) {
            return Err(PlanError::Alias { kernel: "copy".into(), a: show(target), b: show(source) });
        }
        self.check_written("copy", source)?;
        self.note_written(target);
        self.steps.push(Step::Copy { target, source });
        Ok(())
    }

    /// Appends a fill of the device bytes `target` with `value`.
    ///
    /// # Errors
    /// [`PlanError`] if the span is not inside its region, or the region is constant or on the host.
    pub fn fill(&mut self, target: Span, value: u8) -> Result<(), PlanError> {
        let kind = self.check_inside("fill", target)?;
        let error = || ("fill".into(), self.memory.display(target).to_string());
        match kind {
            RegionKind::Constant => {
                let (step, span) = error();
                return Err(PlanError::Constant { step, span });
            }
            RegionKind::Host => {
                let (step, span) = error();
                return Err(PlanError::Host { step, span });
            }
            RegionKind::State | RegionKind::Scratch => {}
        }
        self.note_written(target);
        self.steps.push(Step::Fill { target, value });
        Ok(())
    }

    /// The order that the steps need, as edges between their indices.
    pub fn edges(&self) -> Vec<Edge> {
        let accesses: Vec<_> = self.steps.iter().map(Step::accesses).collect();
        dependencies(&accesses)
    }

    /// The sum of the steps' costs when every row attends to `context` positions.
    pub fn cost(&self, context: u64) -> Cost {
        self.steps.iter().map(|step| step.cost(context)).fold(Cost::default(), |sum, cost| Cost {
            bytes_read: sum.bytes_read.saturating_add(cost.bytes_read),
            bytes_written: sum.bytes_written.saturating_add(cost.bytes_written),
            operations: sum.operations.saturating_add(cost.operations),
        })
    }

    /// The plan as a table, one step a line, with costs when every row attends to `context` positions.
    pub fn listing(&self, context: u64) -> impl fmt::Display + '_ {
        Listing { plan: self, context }
    }

    fn check_argument(
        &self,
        kernel: &str,
        param: &Param,
        argument: &Argument,
    ) -> Result<(Span, u64), PlanError> {
        let region_kind = self.check_inside(kernel, argument.span)?;
        let show = || self.memory.display(argument.span).to_string();
        let (kernel, parameter) = (kernel.to_owned(), param.name);
        if region_kind == RegionKind::Host {
            return Err(PlanError::Host { step: format!("{kernel}, {parameter}"), span: show() });
        }
        if param.access.writes() && region_kind == RegionKind::Constant {
            return Err(PlanError::Constant { step: format!("{kernel}, {parameter}"), span: show() });
        }
        if param.element != argument.element {
            let (expected, actual) = (param.element, argument.element);
            return Err(PlanError::Element { kernel, parameter, span: show(), expected, actual });
        }
        let Some(touched) = argument.span.prefix(param.bytes) else {
            return Err(PlanError::Extent { kernel, parameter, span: show(), needs: param.bytes });
        };
        let Some(address) = self.memory.address(touched) else {
            return Err(PlanError::Outside { step: kernel, span: show() });
        };
        if !address.is_multiple_of(u64::from(param.align.max(1))) {
            return Err(PlanError::Alignment {
                kernel,
                parameter,
                span: show(),
                address,
                align: param.align,
            });
        }
        Ok((touched, address))
    }

    fn check_inside(&self, step: &str, span: Span) -> Result<RegionKind, PlanError> {
        match (self.memory.get(span.region), self.memory.address(span)) {
            (Some(region), Some(_)) => Ok(region.kind),
            _ => Err(PlanError::Outside { step: step.into(), span: self.memory.display(span).to_string() }),
        }
    }

    fn is_scratch(&self, span: Span) -> bool {
        self.memory.get(span.region).is_some_and(|region| region.kind == RegionKind::Scratch)
    }

    fn check_written(&self, step: &str, span: Span) -> Result<(), PlanError> {
        if !self.is_scratch(span) {
            return Ok(());
        }
        let missing = match self.written.get(&span.region) {
            Some(written) => written.first_missing(span.offset, span.end()),
            None => (span.bytes > 0).then_some(span.offset),
        };
        match missing {
            Some(byte) => {
                let span = self.memory.display(span).to_string();
                Err(PlanError::Unwritten { step: step.into(), span, byte })
            }
            None => Ok(()),
        }
    }

    fn note_written(&mut self, span: Span) {
        if self.is_scratch(span) {
            self.written.entry(span.region).or_default().insert(span.offset, span.end());
        }
    }
}

/// Limits of every device from compute capability 7.5 on (CUDA programming guide, technical specifications).
fn check_geometry(kernel: &str, geometry: LaunchGeometry) -> Result<(), PlanError> {
    let [bx, by, bz] = geometry.block.map(u64::from);
    let [gx, gy, gz] = geometry.grid;
    let block_fits = (1..=1024).contains(&(bx * by * bz)) && bz <= 64;
    let grid_fits =
        (1..=0x7FFF_FFFF).contains(&gx) && (1..=65_535).contains(&gy) && (1..=65_535).contains(&gz);
    if block_fits && grid_fits {
        Ok(())
    } else {
        Err(PlanError::Geometry { kernel: kernel.into(), geometry })
    }
}

/// Two parameters may share memory if neither is written, or if they are the very same bytes (an operation in place).
fn check_aliases(
    memory: &MemoryMap,
    kernel: &str,
    params: &[Param],
    touched: &[Span],
) -> Result<(), PlanError> {
    for (i, a) in touched.iter().enumerate() {
        for (j, b) in touched.iter().enumerate().skip(i + 1) {
            let writes = params[i].access.writes() || params[j].access.writes();
            if writes && a.overlaps(*b) && a != b {
                let show =
                    |index: usize, span: Span| format!("{} = {}", params[index].name, memory.display(span));
                return Err(PlanError::Alias { kernel: kernel.into(), a: show(i, *a), b: show(j, *b) });
            }
        }
    }
    Ok(())
}

/// The listing when every row attends to one position.
impl fmt::Display for LaunchPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listing(1).fmt(f)
    }
}

struct Listing<'a> {
    plan: &'a LaunchPlan,
    context: u64,
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        let edges = plan.edges();
        for (index, step) in plan.steps.iter().enumerate() {
            write!(f, "{index:>4}  {}", step.name())?;
            match step {
                Step::Launch(launch) => {
                    let LaunchGeometry { grid, block, dynamic_shared } = launch.geometry;
                    write!(f, "  grid {} block {}", dimensions(grid), dimensions(block))?;
                    if dynamic_shared > 0 {
                        write!(f, " shared {dynamic_shared}")?;
                    }
                    for (param, span) in launch.params.iter().zip(&launch.touched) {
                        let sign = match param.access {
                            Access::Read => "=",
                            Access::Write => "->",
                            Access::ReadWrite => "<->",
                        };
                        write!(f, "  {}{sign}{}", param.name, plan.memory.display(*span))?;
                    }
                }
                Step::Copy { target, source } => {
                    write!(f, "  {} -> {}", plan.memory.display(*source), plan.memory.display(*target))?;
                }
                Step::Fill { target, value } => write!(f, "  {value} -> {}", plan.memory.display(*target))?,
            }
            let cost = step.cost(self.context);
            write!(
                f,
                "  read {} B, written {} B, {} op",
                cost.bytes_read, cost.bytes_written, cost.operations
            )?;
            let after: Vec<_> =
                edges.iter().filter(|edge| edge.to == index).map(|edge| edge.from.to_string()).collect();
            if after.is_empty() { writeln!(f)? } else { writeln!(f, "  after {}", after.join(" "))? }
        }
        let cost = plan.cost(self.context);
        writeln!(
            f,
            "{} steps, {} launches of {} kernels, {} edges; read {} B, written {} B, {} op at context {}",
            plan.steps.len(),
            plan.n_launches(),
            plan.kernels().len(),
            edges.len(),
            cost.bytes_read,
            cost.bytes_written,
            cost.operations,
            self.context,
        )
    }
}

/// `8`, `8x2` or `8x2x3`.
fn dimensions([x, y, z]: [u32; 3]) -> String {
    match (y, z) {
        (1, 1) => x.to_string(),
        (_, 1) => format!("{x}x{y}"),
        _ => format!("{x}x{y}x{z}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::memory_map::Region;
    use crate::cuda::testing::{FakeKernel, param};

    /// Regions weights (constant), cache (state), scratch and pinned (host), 4 KiB each.
    struct Fixture {
        plan: LaunchPlan,
        ids: [RegionId; 4],
    }

    const WEIGHTS: usize = 0;
    const CACHE: usize = 1;
    const SCRATCH: usize = 2;
    const PINNED: usize = 3;

    fn fixture() -> Fixture {
        let mut map = MemoryMap::new();
        let kinds = [RegionKind::Constant, RegionKind::State, RegionKind::Scratch, RegionKind::Host];
        let names = ["weights", "cache", "scratch", "pinned"];
        let mut add = |i: usize| {
            let base = 0x7000_0000_0000 + 0x10_0000 * i as u64;
            map.add(Region { name: names[i].into(), kind: kinds[i], base, bytes: 4096 })
        };
        let ids = [add(0), add(1), add(2), add(3)];
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

    #[test]
    fn impossible_launches_are_refused() {
        let mut f = fixture();
        for (grid, block) in
            [([0, 1, 1], [32, 1, 1]), ([1, 1, 1], [1025, 1, 1]), ([1, 65_536, 1], [32, 1, 1])]
        {
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
}
