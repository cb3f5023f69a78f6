//! Every form of every operation runs in a kernel that gives it operands that make sense, and nothing is found.

use crate::support::Setup;
use ptx_builder::interp::FindingKind;
use ptx_builder::testing::forms;
use ptx_builder::{
    Arg, BulkCompletion, Form, Kind, Mbarrier, MbarrierOp, Module, Op, Role, Space, SpecialReg, Target, Ty,
    What, parse,
};

/// The text of a kernel with one instruction.
struct Text {
    registers: String,
    operands: Vec<String>,
    next: u32,
}

fn declared(ty: Ty) -> &'static str {
    match (ty, ty.bits()) {
        (Ty::F32, _) => "f32",
        (Ty::F64, _) => "f64",
        (_, 1) => "pred",
        (_, 8 | 16) => "b16",
        (_, 32) => "b32",
        _ => "b64",
    }
}

impl Text {
    fn result(&mut self, class: &str) -> String {
        self.next += 1;
        let name = format!("%result{}", self.next);
        self.registers.push_str(&format!("    .reg .{class} {name};\n"));
        name
    }

    fn operand(&mut self, kind: &Kind, arg: &Arg, part: u8) -> String {
        let position = self.operands.len();
        match (arg.role, arg.what) {
            (Role::Def, What::Sink) => "_".to_owned(),
            (Role::Def, _) if arg.form == Form::Pair && part == 1 => self.result("pred"),
            (Role::Def, What::Pred(_)) => self.result("pred"),
            (_, What::Literal) => literal(kind.op(), position).to_string(),
            (_, What::Pred(_)) => "%yes".to_owned(),
            (_, What::Address(space)) => format!("[{}]", base(kind, space, position)),
            (role, what) => match (role, what.ty()) {
                (Role::Def, Some(ty)) => self.result(declared(ty)),
                (Role::Use, Some(ty)) => value(kind, ty, position),
                (_, None) => panic!("{kind:?} has {what:?}"),
            },
        }
    }

    fn instruction(&mut self, kind: &Kind, optional: bool) -> String {
        let mut printed = Vec::new();
        for arg in kind.signature(&[]).args() {
            if arg.form == Form::Optional && !optional {
                continue;
            }
            let parts: Vec<String> = (0..arg.operands() as u8)
                .map(|part| {
                    let operand = self.operand(kind, arg, part);
                    self.operands.push(operand.clone());
                    operand
                })
                .collect();
            printed.push(match arg.form {
                Form::Vector(_) => format!("{{{}}}", parts.join(", ")),
                Form::Pair => parts.join("|"),
                _ => parts.join(", "),
            });
        }
        format!("{kind} {};", printed.join(", "))
    }
}

fn literal(op: Op, position: usize) -> i64 {
    match (op, position) {
        (Op::CpAsyncCa | Op::CpAsyncCg | Op::CpAsyncCaL2 | Op::CpAsyncCgL2, 2) => 16,
        (Op::ApplyPriority | Op::ApplyPriorityAny | Op::Discard | Op::DiscardAny, _) => 128,
        (Op::SetMaxNRegInc | Op::SetMaxNRegDec, _) => 64,
        _ => 1,
    }
}

/// A register that an address may start from: everybody has bytes of his own.
fn base(kind: &Kind, space: Space, position: usize) -> &'static str {
    match (kind, space) {
        (Kind::LdMatrix(_) | Kind::StMatrix(_), Space::Generic) => "%mine_generic",
        (Kind::WmmaLoad(_) | Kind::WmmaStore(_), Space::Shared) => "%ours",
        (Kind::WmmaLoad(_) | Kind::WmmaStore(_), _) => "%at_ours",
        (Kind::Mbarrier(_), Space::Generic) => "%object_generic",
        (Kind::Mbarrier(_), _) => "object",
        (Kind::BulkCopy(_), Space::Shared | Space::SharedCluster) => match position {
            0 => "%mine+8192",
            1 => "%mine",
            _ => "object",
        },
        (Kind::Regular(regular), Space::Generic) if is_copy_arrive(regular.op) => "%object_generic",
        (Kind::Regular(regular), Space::Shared) if is_copy_arrive(regular.op) => "object",
        (_, Space::Global | Space::Generic) => "%at",
        (_, Space::Shared | Space::SharedCluster) => "%mine",
        (_, Space::Local) => "stack",
        (_, Space::Const) => "%constants",
        (Kind::St(_), Space::Param) => "argument",
        (_, Space::Param) => "bytes",
    }
}

fn is_copy_arrive(op: Op) -> bool {
    use Op::{CpAsyncArrive, CpAsyncArriveNoInc, CpAsyncArriveNoIncShared, CpAsyncArriveShared};
    matches!(op, CpAsyncArrive | CpAsyncArriveShared | CpAsyncArriveNoInc | CpAsyncArriveNoIncShared)
}

fn value(kind: &Kind, ty: Ty, position: usize) -> String {
    let full = "0xFFFFFFFF";
    let special = match (kind.op(), position) {
        (Op::VoteAll | Op::VoteAny | Op::VoteUni | Op::VoteBallot | Op::MatchAny, 2) => full,
        (Op::ReduxAdd | Op::ReduxMin | Op::ReduxMax | Op::ReduxAnd | Op::ReduxOr | Op::ReduxXor, 2) => full,
        (Op::FReduxMin | Op::FReduxMax | Op::Elect, 2) => full,
        (Op::BarWarpSync, 0) | (Op::MatchAll, 3) | (Op::Shfl, 5) => full,
        // Matrices whose rows are all the same, without what D was.
        (Op::Wgmma, _) if ty.bits() == 64 => "%matrix",
        (Op::Wgmma, _) if ty == Ty::Pred => "0",
        // Half of the block arrives, the other half waits.
        (Op::BarSync | Op::BarrierSync | Op::BarArrive | Op::BarrierArrive, 1) => "128",
        (Op::BulkCopy, 2) | (Op::BulkPrefetch, 1) => "16",
        (Op::BulkCopy, _) if ty.bits() == 16 => "%both",
        (Op::CpAsyncCa | Op::CpAsyncCg | Op::CpAsyncCaL2 | Op::CpAsyncCgL2, 3) => "8",
        (Op::Mapa | Op::GetCtaRank, 1) => "%mine_generic",
        (Op::MapaShared | Op::GetCtaRankShared, 1) if ty.bits() == 32 => "%mine",
        (Op::MapaShared | Op::GetCtaRankShared, 1) => "%mine_wide",
        (Op::Mbarrier, _) if ty.bits() == 64 => "%state",
        (Op::IsGlobal, _) => "%at",
        (Op::IsShared | Op::IsCluster, _) => "%mine_generic",
        (Op::WmmaLoad | Op::WmmaStore, _) if ty == Ty::U32 => "32",
        (Op::Mbarrier, 1) if matches!(kind, Kind::Mbarrier(Mbarrier { op: MbarrierOp::Init, .. })) => "4096",
        _ => match declared(ty) {
            "pred" => "%yes",
            "b16" => "%half",
            "b32" => "%word",
            "b64" => "%long",
            "f32" => "%single",
            _ => "%double",
        },
    };
    special.to_owned()
}

/// What comes before and after, and whether one thread of the launch executes it alone.
fn surroundings(kind: &Kind) -> (&'static str, &'static str, bool) {
    // What a warp has in shared memory is 4096 bytes there, and as many in global memory.
    const FILL: &str = "{ .reg .b32 %i; .reg .pred %more; .reg .b64 %to; .reg .b32 %to_shared;
mov.u32 %i, %laneid; shl.b32 %i, %i, 2;
fill: cvt.u64.u32 %to, %i; add.u64 %to, %to, %at_ours; add.u32 %to_shared, %i, %ours;
st.global.b32 [%to], %word; st.shared.b32 [%to_shared], %word;
add.u32 %i, %i, 128; setp.lt.u32 %more, %i, 4096; @%more bra fill; bar.warp.sync -1; }";
    let arrive = "barrier.cluster.arrive;";
    let wait = "barrier.cluster.wait;";
    match kind {
        Kind::Mbarrier(mbarrier) => (
            "mbarrier.arrive.shared.b64 %state, [object];",
            "",
            matches!(mbarrier.op, MbarrierOp::Init | MbarrierOp::Inval),
        ),
        Kind::BulkCopy(copy) if copy.completion == BulkCompletion::Group => {
            ("", "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;", true)
        }
        Kind::BulkCopy(_) => ("", "", true),
        Kind::WmmaLoad(_) => (FILL, "", false),
        _ => match kind.op() {
            Op::ClusterArrive
            | Op::ClusterArriveAligned
            | Op::ClusterArriveRelaxed
            | Op::ClusterArriveRelaxedAligned => ("", wait, false),
            Op::ClusterWait | Op::ClusterWaitAligned => (arrive, "", false),
            Op::BarArrive | Op::BarrierArrive => {
                ("@!%low bar.sync 1, 128; @!%low bra beyond;", "beyond:", false)
            }
            Op::CpAsyncCa | Op::CpAsyncCg | Op::CpAsyncCaL2 | Op::CpAsyncCgL2 => {
                ("", "cp.async.wait_all;", false)
            }
            _ => ("", "", false),
        },
    }
}

fn kernel(kind: &Kind, optional: bool) -> String {
    let mut text = Text { registers: String::new(), operands: Vec::new(), next: 0 };
    let (before, after, alone) = surroundings(kind);
    let instruction = match kind {
        Kind::Bra { .. } => format!("{kind} next;\nnext:"),
        Kind::BrxIdx { .. } => format!("table: .branchtargets next, next;\n{kind} %word, table;\nnext:"),
        Kind::Call(call) => match call.callee {
            ptx_builder::Callee::Function(_) => format!("{kind} (result), callee, (word);"),
            ptx_builder::Callee::Pointer(_) => format!("{kind} (result), %callee, (word), shape;"),
        },
        _ => text.instruction(kind, optional),
    };
    let guard = if alone { "@!%first bra around;" } else { "" };
    let target = if kind.requires().met_by(Target::SM_90A) { "sm_90a" } else { "sm_100a" };
    let Text { registers, .. } = text;
    format!(
        r".version 8.6
.target {target}
.address_size 64
.const .align 16 .b32 constants[16] = {{1, 2}};
.func (.param .b32 d) callee(.param .b32 a)
{{
    .reg .b32 %r;
    ld.param.b32 %r, [a];
    st.param.b32 [d], %r;
    ret;
}}
.visible .entry k(.param .u64 out, .param .align 16 .b8 bytes[64])
.maxntid 128, 1, 1
.maxnreg 128
{{
    .shared .align 128 .b8 tile[16384];
    .shared .align 8 .b64 object;
    .local .align 16 .b8 stack[64];
    .param .align 16 .b8 argument[64];
    .param .b32 word;
    .param .b32 result;
    .reg .b64 %at; .reg .b64 %long; .reg .b64 %object_generic; .reg .b64 %mine_generic; .reg .b64 %mine_wide;
    .reg .b64 %constants; .reg .b64 %state; .reg .b64 %callee; .reg .b64 %matrix;
    .reg .b64 %at_ours; .reg .b32 %ours; .reg .b32 %lane;
    .reg .b32 %t; .reg .b32 %b; .reg .b32 %word; .reg .b32 %mine;
    .reg .b16 %half; .reg .b16 %both;
    .reg .f32 %single; .reg .f64 %double;
    .reg .pred %yes; .reg .pred %low; .reg .pred %first; .reg .pred %leader;
{registers}
    shape: .callprototype (.param .b32 _) _ (.param .b32 _);
    mov.u32 %t, %tid.x;
    mov.u32 %b, %ctaid.x;
    setp.eq.u32 %leader, %t, 0;
    @%leader mbarrier.init.shared.b64 [object], 4096;
    mad.lo.u32 %b, %b, 128, %t;
    setp.eq.u32 %first, %b, 0;
    ld.param.u64 %at, [out];
    mad.wide.u32 %at, %b, 128, %at;
    mov.u32 %mine, tile;
    mad.lo.u32 %mine, %t, 64, %mine;
    and.b32 %lane, %t, 31;
    mul.wide.u32 %at_ours, %lane, 128;
    sub.u64 %at_ours, %at, %at_ours;
    shr.u32 %ours, %t, 5;
    shl.b32 %ours, %ours, 12;
    mov.u32 %lane, tile;
    add.u32 %ours, %ours, %lane;
    cvt.u64.u32 %mine_wide, %mine;
    cvta.shared.u64 %mine_generic, %mine_wide;
    mov.u64 %object_generic, object;
    cvta.shared.u64 %object_generic, %object_generic;
    mov.u64 %constants, constants;
    mov.u64 %callee, callee;
    mov.b32 %word, 1;
    mov.b64 %long, 1;
    mov.b64 %state, 0;
    mov.b16 %half, 1;
    mov.b16 %both, 3;
    mov.f32 %single, 0f3F800000;
    mov.f64 %double, 0d3FF0000000000000;
    setp.eq.u32 %yes, %word, 1;
    setp.lt.u32 %low, %t, 64;
    st.shared.v4.b32 [%mine], {{%word, %word, %word, %word}};
    st.shared.v4.b32 [%mine+16], {{%word, %word, %word, %word}};
    st.shared.v4.b32 [%mine+32], {{%word, %word, %word, %word}};
    st.shared.v4.b32 [%mine+48], {{%word, %word, %word, %word}};
    mov.u64 %matrix, tile;
    shr.b64 %matrix, %matrix, 4;
    st.local.v4.b32 [stack], {{%word, %word, %word, %word}};
    st.local.v4.b32 [stack+16], {{%word, %word, %word, %word}};
    st.param.b32 [word], %word;
    fence.mbarrier_init.release.cluster;
    barrier.cluster.arrive;
    barrier.cluster.wait;
    {guard}
    {before}
    {instruction}
    {after}
around:
    barrier.cluster.arrive;
    barrier.cluster.wait;
    ret;
}}
"
    )
}

/// Two blocks of a cluster: what is found.
fn run(module: Module) -> Vec<(FindingKind, String)> {
    let setup = Setup { grid: 2, block: 128, cluster: 2, ..Setup::default() };
    let (report, _) = setup.report_with(module, 2 * 128 * 32, &[vec![1; 64]]);
    report.all().map(|finding| (finding.kind, finding.to_string())).collect()
}

/// What stops a kernel by its nature.
fn traps(op: Op) -> bool {
    matches!(op, Op::Trap | Op::Brkpt)
}

#[test]
fn every_form_executes() {
    let mut count = 0;
    for op in Op::ALL {
        if *op == Op::Inline {
            continue;
        }
        let all = forms(*op);
        assert!(!all.is_empty(), "{op:?}");
        for kind in all {
            let has_optional = matches!(kind.op(), Op::BrxIdx | Op::Call | Op::Bra)
                || kind.signature(&[]).args().iter().any(|arg| arg.form == Form::Optional);
            for optional in [false, true] {
                if optional && !has_optional {
                    continue;
                }
                let text = kernel(&kind, optional);
                let module = parse(&text).unwrap_or_else(|error| panic!("{kind}: {error}\n{text}"));
                let mut read = module.functions.iter().flat_map(|f| &f.blocks).flat_map(|b| &b.insts);
                // Numbers of symbols are the module's.
                let numbered = matches!(kind, Kind::Call(_) | Kind::BrxIdx { .. });
                assert!(numbered || read.any(|inst| inst.kind == kind), "{kind} is read as something else");
                let found = run(module);
                if traps(*op) {
                    let kinds: Vec<FindingKind> = found.iter().map(|(kind, _)| *kind).collect();
                    assert_eq!(kinds, [FindingKind::Trap], "{kind}");
                } else {
                    assert!(found.is_empty(), "{kind}: {found:?}\n{text}");
                }
                count += 1;
            }
        }
    }
    assert!(count > 3000, "{count}");
}

#[test]
fn every_special_register_is_read() {
    for special in SpecialReg::ALL {
        let name = special.name();
        let (class, ty) = if special.ty().bits() == 64 { ("b64", "u64") } else { ("b32", "u32") };
        let text = kernel(&Kind::Bra { uni: false }, false)
            .replace("bra next;", &format!("mov.{ty} %special, {name};"))
            .replace("    shape:", &format!("    .reg .{class} %special;\n    shape:"));
        let found = run(parse(&text).unwrap_or_else(|error| panic!("{name}: {error}")));
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}
