//! Drawing a graph.

use super::definition::Graph;
use super::edge::EdgeKind;
use super::node::NodeType;
use std::fmt::Write as _;

pub(super) fn to_dot(graph: &Graph) -> String {
    let mut out = String::from("digraph cuda_graph {\n  node [fontname=\"monospace\"];\n");
    draw(&mut out, graph, "");
    out.push_str("}\n");
    out
}

/// Nodes and edges; the name of a body's node begins with that of its loop, in whose box it is drawn.
fn draw(out: &mut String, graph: &Graph, prefix: &str) {
    // Writing to a string cannot fail.
    for (node, (id, kind, label)) in graph.nodes.iter().zip(graph.nodes()) {
        let shape = match kind {
            NodeType::Kernel => "box",
            NodeType::Child => "box3d",
            NodeType::Conditional => "diamond",
            NodeType::Empty => "point",
            _ => "ellipse",
        };
        let name = format!("{prefix}{id}");
        let _ = writeln!(out, "  {name} [shape={shape}, label=\"{id} {}\"];", escape(label));
        if let Some(body) = &node.body {
            let _ = writeln!(out, "  subgraph cluster_{name} {{\n  label=\"body of {id}\";");
            draw(out, body, &format!("{name}_"));
            out.push_str("  }\n");
        }
    }
    for edge in graph.edges() {
        let style = if edge.kind == EdgeKind::Full { "" } else { " [style=dashed]" };
        let _ = writeln!(out, "  {prefix}{} -> {prefix}{}{style};", edge.from, edge.to);
    }
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
