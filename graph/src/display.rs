//! Graphs as text: a dump to read and compare, and DOT to draw.

use std::fmt::{self, Write};

use crate::{ComputeGraph, GroupKind, TensorId, TensorNode, TensorOp};

/// One line for each node in execution order, then the outputs:
///
/// ```text
/// %0 leaf F32 [2, 8] "x"
/// %1 leaf F32 [8] "norm"
/// %2 rms_norm(%0, %1; eps=1e-5) F32 [2, 8]
/// output %2
/// ```
impl fmt::Display for ComputeGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, node) in self.ids().zip(self.nodes()) {
            write!(f, "{id} {}", node.op())?;
            if node.op() != TensorOp::None {
                write!(f, "({})", Arguments(node))?;
            }
            write!(f, " {} {}", node.dtype(), node.shape())?;
            if !node.name().is_empty() {
                write!(f, " {:?}", node.name())?;
            }
            writeln!(f)?;
        }
        for id in self.outputs() {
            writeln!(f, "output {id}")?;
        }
        Ok(())
    }
}

impl ComputeGraph {
    /// The graph in the DOT language of Graphviz: leaves are boxes, aliases dashed, outputs doubly outlined, and edges
    /// carry the operand's name where there is more than one.
    pub fn to_dot(&self) -> String {
        to_dot(self, std::iter::empty())
    }

    fn write_dot<'a>(
        &self,
        f: &mut impl Write,
        groups: impl Iterator<Item = (GroupKind, &'a [TensorId])>,
    ) -> fmt::Result {
        writeln!(f, "digraph graph {{")?;
        writeln!(f, "  node [fontname=\"monospace\", fontsize=10];")?;
        for (index, (kind, ids)) in groups.enumerate() {
            writeln!(f, "  subgraph cluster_{index} {{")?;
            writeln!(f, "    label=\"{kind}\"; fontname=\"monospace\"; fontsize=10; style=rounded;")?;
            writeln!(
                f,
                "    {}",
                ids.iter().map(|id| format!("n{};", id.index())).collect::<Vec<_>>().join(" ")
            )?;
            writeln!(f, "  }}")?;
        }
        for (id, node) in self.ids().zip(self.nodes()) {
            writeln!(f, "  n{} [label=\"{}\"{}];", id.index(), label(id, node), self.style(id, node))?;
            let names = node.op().operands();
            for (input, operand) in node.inputs().iter().zip(names) {
                write!(f, "  n{} -> n{}", input.index(), id.index())?;
                let label = if names.len() > 1 { format!(" [label=\"{operand}\"]") } else { String::new() };
                writeln!(f, "{label};")?;
            }
        }
        writeln!(f, "}}")
    }

    fn style(&self, id: TensorId, node: &TensorNode) -> &'static str {
        match (node.is_leaf(), node.root() != id, self.outputs().contains(&id)) {
            (true, _, false) => ", shape=box",
            (true, _, true) => ", shape=box, peripheries=2",
            (false, true, false) => ", style=dashed",
            (false, true, true) => ", style=dashed, peripheries=2",
            (false, false, true) => ", peripheries=2",
            (false, false, false) => "",
        }
    }
}

/// `graph` in DOT, with a frame around each of `groups`.
pub(crate) fn to_dot<'a>(
    graph: &ComputeGraph,
    groups: impl Iterator<Item = (GroupKind, &'a [TensorId])>,
) -> String {
    let mut dot = String::new();
    // Writing to a string cannot fail.
    let _ = graph.write_dot(&mut dot, groups);
    dot
}

fn label(id: TensorId, node: &TensorNode) -> String {
    let mut lines = vec![format!("{id} {}", node.op())];
    if !node.name().is_empty() {
        lines.push(node.name().replace('\\', "\\\\").replace('"', "\\\""));
    }
    let params = node.params().to_string();
    lines.extend((!params.is_empty()).then_some(params));
    lines.push(format!("{} {}", node.dtype(), node.shape()));
    lines.join("\\n")
}

/// Operands and parameters: `%0, %1; eps=1e-5`.
struct Arguments<'a>(&'a TensorNode);

impl fmt::Display for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, input) in self.0.inputs().iter().enumerate() {
            write!(f, "{}{input}", if i == 0 { "" } else { ", " })?;
        }
        let params = self.0.params().to_string();
        if params.is_empty() { Ok(()) } else { write!(f, "; {params}") }
    }
}
