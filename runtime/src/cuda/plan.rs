//! A list of kernel launches, copies and fills with everything that is needed to run it: once, or again and again.
//!
//! A plan is plain data. It is made without a device, checked step by step as it grows, and then
//! [loaded](super::loaded::LoadedPlan) to be run eagerly, as a CUDA graph, or under a profiler, each time with the
//! same kernels and the same addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kernels::{Cost, Kernel, LaunchGeometry, Param};
use tensor_formats::ElementType;

use super::byte_set::ByteSet;
use super::edges::{Accesses, Edge, dependencies};
use super::memory_map::{MemoryMap, RegionId, RegionKind, Span};
use super::plan_error::PlanError;
use super::plan_listing::Listing;

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
    /// [`PlanError`] if the lengths differ, a span is not inside its region or is mapped, the target is constant, the
    /// two overlap or are both on the host, or the source has no contents.
    pub fn copy(&mut self, target: Span, source: Span) -> Result<(), PlanError> {
        let show = |span| self.memory.display(span).to_string();
        if target.bytes != source.bytes {
            return Err(PlanError::CopyLength { target: show(target), source_span: show(source) });
        }
        let target_kind = self.check_inside("copy", target)?;
        let source_kind = self.check_inside("copy", source)?;
        for (kind, span) in [(target_kind, target), (source_kind, source)] {
            if kind == RegionKind::Mapped {
                return Err(PlanError::Host { step: "copy".into(), span: show(span) });
            }
        }
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
            RegionKind::Host | RegionKind::Mapped => {
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
        self.edges_of_runs(1, None)
    }

    /// The order that the steps of `runs` runs need, each after the one before it, and those of `then` after all of them.
    /// Step `i` of run `r` has the index `r * n + i`, where a run has `n` steps; `then` goes on where the last run ends.
    pub fn edges_of_runs(&self, runs: usize, then: Option<&Self>) -> Vec<Edge> {
        let accesses = |plan: &Self| plan.steps.iter().map(Step::accesses).collect::<Vec<_>>();
        let mut steps = vec![accesses(self); runs].concat();
        steps.extend(then.into_iter().flat_map(accesses));
        dependencies(&steps)
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
