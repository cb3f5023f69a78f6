//! Every form of every operation, found by trying all combinations of types and modifiers.

use crate::ids::{CallParamId, FuncId, PrototypeId, TargetsId};
use crate::inst::{
    Atom, AtomOp, AtomOrder, BulkCompletion, BulkCopy, Cache, Call, Callee, Cmp, Combine, CreatePolicy, Cvt,
    CvtRound, Kind, Ld, LevelOneEviction, LevelTwoEviction, LevelTwoPrefetch, MatrixElement, MatrixLayout,
    MatrixMove, Mbarrier, MbarrierOp, MemOrder, MmaShape, Red, Regular, Scope, Set, Setp, ShflMode, Slct,
    Space, St, StAsync, Wgmma, Width, WmmaMatrix, WmmaMove, WmmaProduct, WmmaShape,
};
use crate::ops::{Mod, Mods, Op, Rounding};
use crate::ty::Ty;

/// Every form of an operation that the instruction rules accept, whatever the target. Loads and stores
/// combine hints with one element type, and element types with no hints.
pub fn forms(op: Op) -> Vec<Kind> {
    let kinds = match op {
        Op::Mov => Ty::ALL.iter().map(|ty| Kind::Mov(*ty)).collect(),
        Op::Pack => vectors(|ty, parts| Kind::Pack { ty, parts }),
        Op::Unpack => vectors(|ty, parts| Kind::Unpack { ty, parts }),
        Op::Setp => setp_forms(),
        Op::Cvt => cvt_forms(),
        Op::Set => set_forms(),
        Op::Slct => slct_forms(),
        Op::CreatePolicy => policy_forms(),
        Op::Ld => ld_forms(),
        Op::St => st_forms(),
        Op::StAsync => st_async_forms(),
        Op::Atom => {
            atomic_forms(|space, order, scope, op, ty| Kind::Atom(Atom { space, order, scope, op, ty }))
        }
        Op::Red => atomic_forms(|space, order, scope, op, ty| Kind::Red(Red { space, order, scope, op, ty })),
        Op::Shfl => ShflMode::ALL.iter().map(|mode| Kind::Shfl(*mode)).collect(),
        Op::MatchAll => vec![Kind::MatchAll(Ty::B32), Kind::MatchAll(Ty::B64)],
        Op::Elect => vec![Kind::Elect],
        Op::Mbarrier => mbarrier_forms(),
        Op::BulkCopy => bulk_forms(),
        Op::LdMatrix => matrix_forms(Kind::LdMatrix),
        Op::StMatrix => matrix_forms(Kind::StMatrix),
        Op::WmmaLoad => wmma_moves(&[WmmaMatrix::A, WmmaMatrix::B, WmmaMatrix::C], Kind::WmmaLoad),
        Op::WmmaStore => wmma_moves(&[WmmaMatrix::D], Kind::WmmaStore),
        Op::WmmaMma => wmma_products(),
        Op::Mma => MmaShape::ALL.iter().map(|shape| Kind::Mma(*shape)).collect(),
        Op::Wgmma => wgmma_forms(),
        Op::BrxIdx => [false, true].map(|uni| Kind::BrxIdx { uni, targets: TargetsId(0) }).into(),
        Op::Call => call_forms(),
        Op::Bra => vec![Kind::Bra { uni: false }, Kind::Bra { uni: true }],
        Op::Inline => vec![Kind::Inline { text: "membar.cta;".into(), defs: 0 }],
        regular => regular_forms(regular),
    };
    kinds.into_iter().filter(is_valid).collect()
}

fn is_valid(kind: &Kind) -> bool {
    let mut valid = true;
    kind.problems(&[], &mut |_| valid = false);
    valid
}

fn regular_forms(op: Op) -> Vec<Kind> {
    let Some(info) = op.regular() else { return Vec::new() };
    let types: Vec<Option<Ty>> = match info.types {
        [] => vec![None],
        types => types.iter().copied().map(Some).collect(),
    };
    let flags = |m: Mod| if info.mods.contains(&m) { &[false, true][..] } else { &[false][..] };
    let mut kinds = Vec::new();
    for ty in types {
        for rounding in [None].into_iter().chain(Rounding::ALL.map(Some)) {
            for ftz in flags(Mod::Ftz) {
                for sat in flags(Mod::Sat) {
                    let mods = Mods { rounding, ftz: *ftz, sat: *sat };
                    kinds.push(Kind::Regular(Regular { op, ty, mods }));
                }
            }
        }
    }
    kinds
}

fn vectors(make: fn(Ty, u8) -> Kind) -> Vec<Kind> {
    vec![make(Ty::B32, 2), make(Ty::B64, 2), make(Ty::B64, 4)]
}

fn setp_forms() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for cmp in Cmp::ALL {
        for ty in Ty::ALL {
            for combine in [None, Some(Combine::And), Some(Combine::Or), Some(Combine::Xor)] {
                for ftz in [false, true] {
                    kinds.push(Kind::Setp(Setp { cmp: *cmp, combine, ftz, ty: *ty }));
                }
            }
        }
    }
    kinds
}

/// Every pair of types with one comparison, and every comparison with one pair for each kind of operand.
fn set_forms() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for kind in setp_forms() {
        let Kind::Setp(test) = kind else { continue };
        let tested = matches!(test.ty, Ty::F32 | Ty::F16 | Ty::U32 | Ty::B64);
        for to in Ty::ALL {
            if (test.cmp == Cmp::Eq && test.combine.is_none()) || (tested && *to == Ty::U32) {
                kinds.push(Kind::Set(Set { test, to: *to }));
            }
        }
    }
    kinds
}

fn slct_forms() -> Vec<Kind> {
    let by = [(Ty::S32, false), (Ty::F32, false), (Ty::F32, true)];
    let each = |ty: &Ty| by.map(|(by, ftz)| Kind::Slct(Slct { ty: *ty, by, ftz }));
    Ty::ALL.iter().flat_map(each).collect()
}

fn policy_forms() -> Vec<Kind> {
    let all = LevelTwoEviction::ALL;
    let each = |primary: &LevelTwoEviction| {
        let primary = *primary;
        optional(all)
            .into_iter()
            .map(move |secondary| Kind::CreatePolicy(CreatePolicy { primary, secondary }))
    };
    all.iter().flat_map(each).collect()
}

fn cvt_forms() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for to in Ty::ALL {
        for from in Ty::ALL {
            for round in [None].into_iter().chain(CvtRound::ALL.iter().copied().map(Some)) {
                for flags in 0..16 {
                    let [ftz, sat, satfinite, relu] = [1, 2, 4, 8].map(|bit| flags & bit != 0);
                    kinds.push(Kind::Cvt(Cvt { to: *to, from: *from, round, ftz, sat, satfinite, relu }));
                }
            }
        }
    }
    kinds
}

fn orders() -> Vec<MemOrder> {
    let scoped = [MemOrder::Relaxed, MemOrder::Acquire, MemOrder::Release];
    let scoped = scoped.iter().flat_map(|order| Scope::ALL.iter().map(|scope| order(*scope)));
    [MemOrder::Weak, MemOrder::Volatile].into_iter().chain(scoped).collect()
}

fn optional<T: Copy>(all: &[T]) -> Vec<Option<T>> {
    [None].into_iter().chain(all.iter().copied().map(Some)).collect()
}

const WIDTHS: [Width; 3] = [Width::One, Width::Two, Width::Four];

fn ld_forms() -> Vec<Kind> {
    let plain = Ld::plain(Space::Global, Ty::B32);
    let mut kinds = Vec::new();
    for space in Space::ALL {
        for width in WIDTHS {
            kinds.extend(Ty::ALL.iter().map(|ty| Ld { space: *space, width, ty: *ty, ..plain }));
        }
        for order in orders() {
            for nc in [false, true] {
                for cache in optional(Cache::ALL) {
                    for evict in optional(LevelOneEviction::ALL) {
                        for prefetch in optional(LevelTwoPrefetch::ALL) {
                            let ld = Ld { space: *space, order, cache, nc, evict, prefetch, ..plain };
                            kinds.extend([ld, Ld { cache_hint: true, ..ld }]);
                        }
                    }
                }
            }
        }
    }
    kinds.into_iter().map(Kind::Ld).collect()
}

fn st_forms() -> Vec<Kind> {
    let plain = St::plain(Space::Global, Ty::B32);
    let mut kinds = Vec::new();
    for space in Space::ALL {
        for width in WIDTHS {
            kinds.extend(Ty::ALL.iter().map(|ty| St { space: *space, width, ty: *ty, ..plain }));
        }
        for order in orders() {
            for cache in optional(Cache::ALL) {
                for evict in optional(LevelOneEviction::ALL) {
                    let st = St { space: *space, order, cache, evict, ..plain };
                    kinds.extend([st, St { cache_hint: true, ..st }]);
                }
            }
        }
    }
    kinds.into_iter().map(Kind::St).collect()
}

fn st_async_forms() -> Vec<Kind> {
    let forms = WIDTHS.into_iter().flat_map(|width| Ty::ALL.iter().map(move |&ty| StAsync { width, ty }));
    forms.map(Kind::StAsync).collect()
}

fn atomic_forms(make: fn(Space, Option<AtomOrder>, Option<Scope>, AtomOp, Ty) -> Kind) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for space in [Space::Global, Space::Shared, Space::SharedCluster, Space::Generic] {
        for op in AtomOp::ALL {
            for ty in Ty::ALL {
                kinds.push(make(space, None, None, *op, *ty));
            }
        }
        for order in optional(AtomOrder::ALL) {
            for scope in optional(Scope::ALL) {
                kinds.push(make(space, order, scope, AtomOp::Add, Ty::U32));
            }
        }
    }
    kinds
}

fn mbarrier_forms() -> Vec<Kind> {
    let scoped = |order: &AtomOrder| Scope::ALL.iter().map(|scope| (*order, *scope)).collect::<Vec<_>>();
    let orders: Vec<_> = AtomOrder::ALL.iter().flat_map(scoped).collect();
    let mut kinds = Vec::new();
    for op in MbarrierOp::ALL {
        for space in Space::ALL {
            for order in optional(&orders) {
                for count in [false, true] {
                    kinds.push(Kind::Mbarrier(Mbarrier { op: *op, space: *space, order, count }));
                }
            }
        }
    }
    kinds
}

fn bulk_forms() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for to in Space::ALL {
        for from in Space::ALL {
            for completion in [BulkCompletion::Mbarrier, BulkCompletion::Group] {
                for (multicast, cache_hint) in [(false, false), (false, true), (true, false), (true, true)] {
                    let copy = BulkCopy { to: *to, from: *from, completion, multicast, cache_hint };
                    kinds.push(Kind::BulkCopy(copy));
                }
            }
        }
    }
    kinds
}

/// The callee is function 0 with one word in and out, or has the first prototype.
fn call_forms() -> Vec<Kind> {
    let callees = [Callee::Function(FuncId(0)), Callee::Pointer(PrototypeId(0))];
    let call = |callee, uni| {
        Kind::Call(Call { uni, callee, returns: vec![CallParamId(0)], args: vec![CallParamId(1)] })
    };
    callees.into_iter().flat_map(|callee| [false, true].map(|uni| call(callee, uni))).collect()
}

fn matrix_forms(make: fn(MatrixMove) -> Kind) -> Vec<Kind> {
    let flags = [(false, false), (true, false), (false, true), (true, true)];
    let forms = |count| flags.map(|(trans, generic)| make(MatrixMove { count, trans, generic }));
    [1, 2, 4].into_iter().flat_map(forms).collect()
}

fn wmma_moves(matrices: &[WmmaMatrix], make: fn(WmmaMove) -> Kind) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for &matrix in matrices {
        for &layout in MatrixLayout::ALL {
            for &shape in WmmaShape::ALL {
                for &element in MatrixElement::ALL {
                    for space in [Space::Global, Space::Shared, Space::Generic] {
                        kinds.push(make(WmmaMove { matrix, layout, shape, space, element }));
                    }
                }
            }
        }
    }
    kinds
}

fn wmma_products() -> Vec<Kind> {
    use MatrixLayout::{Col, Row};
    let mut kinds = Vec::new();
    for &factors in MatrixElement::ALL {
        for &shape in WmmaShape::ALL {
            for &to in MatrixElement::ALL {
                for &from in MatrixElement::ALL {
                    for (a, b) in [(Row, Row), (Row, Col), (Col, Row), (Col, Col)] {
                        for satfinite in [false, true] {
                            let product = WmmaProduct { a, b, shape, to, factors, from, satfinite };
                            kinds.push(Kind::WmmaMma(product));
                        }
                    }
                }
            }
        }
    }
    kinds
}

fn wgmma_forms() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for n in [8, 24, 40, 48, 128] {
        for d in [Ty::F16, Ty::F32, Ty::S32] {
            for &a in MatrixElement::ALL {
                for &b in MatrixElement::ALL {
                    for (satfinite, registers) in [(false, false), (false, true), (true, false)] {
                        kinds.push(Kind::Wgmma(Wgmma { n, satfinite, d, a, b, registers }));
                    }
                }
            }
        }
    }
    kinds
}
