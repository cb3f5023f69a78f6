//! Branches of random functions, against the definitions.

use super::Regions;
use crate::inst::Inst;
use crate::module::Function;
use crate::ops::Op;
use crate::verify::flow::Flow;
use std::fmt::Write;

/// The successors' successors of a block and so on, itself included, up to `but`.
fn reach(flow: &Flow, from: &[usize], but: Option<usize>) -> Vec<bool> {
    let mut seen = vec![false; flow.len()];
    let mut work = from.to_vec();
    while let Some(b) = work.pop() {
        if but != Some(b) && !std::mem::replace(&mut seen[b], true) {
            work.extend(&flow.successors[b]);
        }
    }
    seen
}

fn function(seed: &mut u64) -> Function {
    let mut random = |below: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % below
    };
    let count = 3 + random(14);
    let mut text = String::from(".version 7.0\n.target sm_80\n.entry k() {\n.reg .pred %p<2>;\n");
    for b in 0..count {
        let barrier = if random(5) == 0 { "bar.sync 0; " } else { "" };
        let near = |offset: u64| (b + offset).saturating_sub(3).min(count - 1);
        let end = match random(10) {
            0 => "ret;".to_owned(),
            1 => "@%p0 ret;".to_owned(),
            2 => format!("bra L{};", near(random(9))),
            3 | 4 => format!("@%p0 bra L{};", random(count)),
            _ => format!("@%p0 bra L{};", near(random(9))),
        };
        writeln!(text, "L{b}: {barrier}{end}").expect("a string");
    }
    text.push_str("ret; }\n");
    crate::parse(&text).expect("a function").functions.remove(0)
}

/// A block dominates what cannot be reached without it.
fn check_dominators(flow: &Flow, meeting_points: &[Option<usize>], ends: &[usize]) {
    let dominators = flow.dominators();
    let to_end = |from: usize, but: usize| {
        let seen = reach(flow, &flow.successors[from], Some(but));
        ends.iter().any(|end| seen[*end] || *end == from)
    };
    for (a, meets) in meeting_points.iter().enumerate() {
        let without = reach(flow, &[0], Some(a));
        for b in (0..flow.len()).filter(|b| flow.reachable[*b]) {
            assert_eq!(dominators.dominates(a, b), a != b && !without[b], "{a} and {b}");
        }
        if let Some(meets) = meets {
            assert!(!to_end(a, *meets), "{a} does not need {meets}");
        } else {
            let needed = |x: &usize| *x != a && to_end(a, usize::MAX) && !to_end(a, *x);
            assert_eq!((0..flow.len()).find(needed), None, "{a} needs a block");
        }
    }
}

#[test]
fn searches_find_what_the_definitions_say() {
    let mut seed = 1;
    let (mut early, mut decided) = (0, 0);
    for _ in 0..3000 {
        let function = function(&mut seed);
        let flow = Flow::new(&function);
        let barriers: Vec<_> = function.insts().filter(|(_, inst)| inst.op() == Op::BarSync).collect();
        let has_barrier =
            |b: usize| function.blocks[b].insts.iter().any(|inst: &Inst| inst.op() == Op::BarSync);
        let meeting_points = flow.immediate_postdominators(&function);
        check_dominators(&flow, &meeting_points, &flow.ends(&function));
        let mut regions = Regions::new(&function, &flow, &barriers);
        let (mut control, mut expected) = (vec![None; flow.len()], vec![None; flow.len()]);
        for b in (0..flow.len()).filter(|b| flow.reachable[*b]) {
            let [one, other] = flow.successors[b][..] else { continue };
            let sides = [one, other].map(|side| reach(&flow, &[side], None));
            let disjoint = (0..flow.len()).all(|x| !(sides[0][x] && sides[1][x]));
            let quiet = |side: &[bool]| (0..flow.len()).all(|x| !(side[x] && has_barrier(x)));
            let leaves = disjoint && sides.iter().any(|side| quiet(side));
            assert_eq!(regions.leaves_early(b), leaves, "branch {b} of\n{function:?}");
            early += usize::from(leaves);
            if leaves {
                continue;
            }
            let region = reach(&flow, &flow.successors[b], meeting_points[b]);
            let new: Vec<usize> = (0..flow.len()).filter(|x| region[*x] && expected[*x].is_none()).collect();
            new.iter().for_each(|x| expected[*x] = Some(b));
            let mut marked = regions.mark(b, &mut control);
            marked.sort_unstable();
            assert_eq!(marked, new, "branch {b} of\n{function:?}");
            decided += marked.len();
        }
        assert_eq!(control, expected);
    }
    assert!(early > 500 && decided > 10_000, "{early} {decided}");
}

/// Asserts in a loop, long ladders of conditions, and loops in loops would take minutes if searched one by one.
#[test]
fn large_functions_take_no_longer_than_their_size_says() {
    let ladder: String = (0..20_000).map(|i| format!("@%p{} bra END;\n", i % 2)).collect();
    let asserts: String = (0..20_000).map(|i| format!("@%p1 bra A{i}; exit; A{i}:\n")).collect();
    let checked = asserts.replace("exit;", "bra LAST;");
    let sides = |i: u32| {
        format!(
            "@%p1 bra S{i}; mov.u32 %r{i}, 1; bra T{i}; S{i}: mov.u32 %r{i}, 2; T{i}: mov.u32 %r0, %r{i};\n"
        )
    };
    let diamonds: String = (1..20_000).map(sides).collect();
    for body in [&ladder, &asserts, &checked, &diamonds] {
        let text = format!(
            ".version 7.0\n.target sm_80\n.entry k() {{\n.reg .pred %p<2>;\n.reg .u32 %r<20000>;\nmov.u32 %r0, %tid.x;\nsetp.eq.u32 %p1, %r0, 0;\nsetp.eq.u32 %p0, %r0, 1;\nbar.sync 0;\n{body}END: ret;\nLAST: trap;\n}}\n"
        );
        let module = crate::parse(&text).expect("a module");
        assert!(module.verify_foreign().is_ok());
    }
}
