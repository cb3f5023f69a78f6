//! Drawing a graph.

use super::definition::Graph;
use super::edge::EdgeKind;
use super::node::NodeType;
use std::fmt::Write as _;

pub(super) fn to_dot(graph: &Graph) -> String {
    let mut out = String::from("digraph cuda_graph {\n  node [fontname=\"monospace\"];\n");
    // Writing to a string cannot fail.
    for (id, kind, label) in graph.nodes() {
        let shape = match kind {
            NodeType::Kernel => "box",
            NodeType::Child => "box3d",
            NodeType::Empty => "point",
            _ => "ellipse",
        };
        let _ = writeln!(out, "  {id} [shape={shape}, label=\"{id} {}\"];", escape(label));
    }
    for edge in graph.edges() {
        let style = if edge.kind == EdgeKind::Full { "" } else { " [style=dashed]" };
        let _ = writeln!(out, "  {} -> {}{style};", edge.from, edge.to);
    }
    out.push_str("}\n");
    out
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn labels_cannot_break_out_of_their_quotes() {
        assert_eq!(super::escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
