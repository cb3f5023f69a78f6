//! What the builder's methods become.

use insta::assert_snapshot;
use ptx_builder::{
    AtomOp, AtomOrder, Atomic, B32, BF16, BF16x2, Cache, Cmp, Combine, CvtRound, F16, F16x2, F32, F64,
    KernelBuilder, Load, MatrixDescriptor, MatrixElement, MemOrder, MmaShape, Module, Pred, Reg, S8, S16,
    S32, S64, Scope, Space, SpecialReg, Store, Swizzle, Target, Ty, U8, U16, U32, U64, Wgmma, WgmmaA,
    WgmmaOperands, WideInt,
};

fn kernel(target: Target, build: impl FnOnce(&mut KernelBuilder)) -> String {
    let mut module = Module::new(target);
    module.kernel("k", |k| {
        k.reqntid(128, 1, 1);
        build(k);
    });
    match module.clone().verify() {
        Ok(verified) => verified.ptx(),
        Err(errors) => panic!("{errors}\n{module}"),
    }
}

/// The body without header and declarations.
fn body(target: Target, build: impl FnOnce(&mut KernelBuilder)) -> String {
    let text = kernel(target, build);
    let start = text.find("\n\n\t").or_else(|| text.find("{\n\n")).map_or(0, |at| at + 2);
    text[start..].trim_end_matches("}\n").to_owned()
}

#[test]
fn header() {
    let text = kernel(Target::SM_90, |k| {
        k.minnctapersm(2);
        k.maxnreg(96);
        let x = k.param_ptr("x", 16);
        let n = k.param::<U32>("n");
        let scale = k.param::<F32>("scale");
        k.param::<U64>("stride");
        let config = k.declare_param_bytes("config", 24, 8);
        k.ld_param_at::<S16>(config, 6);
        let tile = k.shared::<F32>("tile", 256);
        k.local::<U8>("scratch", 64);
        let dynamic = k.dynamic_shared(128);
        k.st_shared::<F32>(tile + 16, scale);
        k.st_shared::<F32>(dynamic + 8, scale);
        k.comment("one\ntwo");
        k.st_global::<U32>(x + -4 + 8, n);
    });
    assert_snapshot!(text);
}

#[test]
fn control_flow() {
    let text = body(Target::SM_80, |k| {
        let n = k.param::<U32>("n");
        let tid = k.tid_x();
        let inside = k.lt(tid, n);
        k.ret_if(!inside);
        let acc = k.named_var::<U32>("acc", 0);
        k.for_range(tid, n, 128, |k, i| {
            let odd = k.and(i, 1);
            let is_odd = k.eq(odd, 1);
            k.if_else(is_odd, |k| k.update(acc, |k, acc| k.add(acc, i)), |k| k.set(acc, i));
        });
        k.for_range::<U32>(0, 4, 1, |k, i| k.update(acc, |k, acc| k.mad(i, i, acc)));
        k.for_range::<S32>(3, -1, 1, |k, _| k.trap());
        k.while_(|k| k.gt(acc, 10), |k| k.update(acc, |k, acc| k.shr(acc, 1)));
        k.do_while(|k| {
            k.update(acc, |k, acc| k.add(acc, 3));
            k.lt(acc, 100)
        });
        k.loop_(|k, done| {
            let p = k.ge(acc, 200);
            k.bra_if(p, done);
            k.update(acc, |k, acc| k.shl(acc, 1));
        });
        k.unroll(2, |k, i| {
            let p = k.eq(acc, i);
            k.if_(p, |k| k.exit());
        });
        let p = k.eq(acc, 7);
        k.if_else(p, |k| k.ret(), |k| k.trap());
    });
    assert_snapshot!(text);
}

#[test]
fn integers_and_bits() {
    let text = body(Target::SM_80, |k| {
        let a = k.param::<U32>("a");
        let b: Reg<S32> = k.param::<S32>("b");
        let c = k.param::<U64>("c");
        let d = k.param::<U16>("d");
        k.sub(a, 1);
        k.mul(b, -3);
        k.mul_wide(d, 5);
        let wide = k.mul_wide(b, 8);
        k.mad_wide(b, 4, wide);
        k.mul_hi(c, u64::MAX);
        k.div(b, i32::MIN);
        k.rem(a, 10);
        k.neg(b);
        k.abs(b);
        k.add_sat(b, 1);
        k.sub_sat(b, 1);
        k.sad(a, 2, 3);
        k.not(a);
        k.or(c, 0xFF00_0000_0000_0000);
        k.xor(a, 0xFFFF_FFFF);
        k.shr(b, 31);
        k.shr(a, 31);
        k.popc(a);
        k.clz(c);
        k.brev(a);
        k.bfind(b);
        k.bfe(b, 4, 8);
        k.bfi(a, a, 8, 4);
        k.lop3(a, a, a, 0x96);
        k.prmt(a, a, 0x3210);
        k.shf_l(a, a, 8);
        let signed = k.dp4a_ss(a, b, b);
        k.dp4a_us(a, b, signed);
        k.dp2a_lo_uu(a, a, 0);
        k.min(b, 0);
        let one: Pred = k.eq(b, 1);
        let p = k.setp_combine(Cmp::Ge, a, 3, Combine::And, !one);
        let q = k.or_pred(p, !p);
        k.selp(!q, a, 1);
    });
    assert_snapshot!(text);
}

#[test]
fn floats_and_conversions() {
    let text = body(Target::SM_80, |k| {
        let x = k.param::<F32>("x");
        let y = k.param::<F64>("y");
        let i = k.param::<S32>("i");
        k.add(x, 1.0);
        k.fma(x, 2.0, x);
        k.mul(y, 0.5);
        k.div(x, 3.0);
        k.div_approx(x, 3.0);
        k.rcp(x);
        k.sqrt(y);
        k.ex2_approx(x);
        k.max(x, f32::NEG_INFINITY);
        k.min_nan(x, f32::NAN);
        k.copysign(x, 1.0);
        k.is_nan(x);
        let zero = k.ne(x, 0.0);
        k.selp(zero, x, 1.0);
        let h = k.cvt::<F16>(x);
        let hh = k.cvt_f16x2(x, 1.0);
        k.fma(hh, hh, hh);
        k.add(h, h);
        let bb = k.cvt_bf16x2(x, x);
        k.add(bb, bb);
        k.mul(bb, bb);
        let [b, _] = k.unpack32::<BF16>(bb);
        k.sub(b, b);
        k.bf16_to_f32(b);
        k.f16_to_f32(h);
        k.pack32::<F16x2, F16>(h, h);
        k.cvt::<F32>(i);
        k.cvt::<S32>(x);
        k.cvt::<U8>(i);
        k.cvt::<F64>(x);
        k.cvt::<S64>(i);
        k.cvt_round::<S32>(CvtRound::Rni, x);
        k.cvt_round_sat::<S8>(CvtRound::Rni, x);
        k.cvt_sat::<F32>(x);
        k.cvt_low::<F32, S8>(i);
        k.cvt_low::<F32, WideInt<U16>>(i);
        k.cvt_tf32(x);
        let bits = k.f32_to_bits(x);
        k.f32_to_bits(1.0);
        k.bits_to_f32(bits);
        let packed = k.pack64(bits, x);
        k.unpack64::<F32>(packed);
        k.widen(1);
        let narrow: Reg<BF16x2> = bb.cast::<U32>().cast();
        k.neg(narrow);
    });
    assert_snapshot!(text);
}

#[test]
fn memory() {
    let text = body(Target::SM_90, |k| {
        let x = k.param_ptr("x", 16);
        let n = k.param::<U32>("n");
        let tile = k.shared::<F32>("tile", 64);
        let stack = k.local::<U32>("stack", 4);
        let at = k.ptr_index(x, n, 16);
        let [a, b, ..] = k.ld_global_v4::<F32>(at + 16);
        k.ld_global_v2::<U64>(x);
        let byte = k.ld_global::<U8>(at);
        k.ld_global::<S8>(at + 1);
        k.ld_global::<WideInt<S16>>(at + 2);
        k.load_v4::<U32>(Space::Global, Load::STREAM, x);
        k.load::<U32>(Space::Global, Load::WEAK.order(MemOrder::Acquire(Scope::Gpu)), x);
        k.load::<F32>(Space::Global, Load::WEAK.cache(Cache::Cs), x);
        k.st_global::<U8>(at + 3, byte);
        k.st_global_v2::<F32>(at + 8, [a, b]);
        k.store::<U32>(Space::Global, Store::WEAK.order(MemOrder::Release(Scope::Sys)), x, 1);
        let p = k.lt(n, 4);
        k.load_or::<F32>(p, Space::Global, Load::NC, at, 0.0);
        let slot = k.shared_index(tile, n);
        k.st_shared::<F32>(slot, a);
        k.st_shared_v4::<F32>(tile + 32, [a, a, b, b]);
        k.ld_shared_v2::<F32>(tile);
        let local = k.local_base(stack);
        k.store::<U32>(Space::Local, Store::WEAK, local + 4, n);
        k.atom::<U32>(Atomic::GLOBAL.order(AtomOrder::AcqRel, Scope::Gpu), AtomOp::Inc, x, 131);
        k.atom::<F32>(Atomic::SHARED, AtomOp::Add, tile + 4, a);
        k.atom::<S32>(Atomic::SHARED, AtomOp::Exch, tile + 8, -1);
        k.atom_cas::<U64>(Atomic::GLOBAL, x, 0, 1);
        k.red::<S64>(Atomic::GENERIC, AtomOp::Add, x, -1);
        k.cp_async_cg(tile, at);
        k.cp_async_ca_zfill(tile + 16, at + 16, 8, n);
        k.cp_async_commit();
        k.cp_async_wait(0);
        k.prefetch_l2(at + 128);
    });
    assert_snapshot!(text);
}

#[test]
fn warps_blocks_and_grids() {
    let text = body(Target::SM_90A, |k| {
        let x = k.param::<F32>("x");
        let tile = k.shared::<B32>("tile", 256);
        let lane = k.laneid();
        let p = k.lt(lane, 4);
        k.grid_launch_dependents();
        k.grid_dependency_wait();
        k.shfl_down(x, 4);
        k.shfl_idx(lane, 0);
        k.shfl_up::<F32>(3.0, 1);
        let all = ptx_builder::FULL_WARP;
        k.shfl_with(ptx_builder::ShflMode::Bfly, x, 1, 0x1C03, all);
        k.warp_max(x);
        k.vote_any(!p, all);
        k.ballot(p, all);
        k.match_any(lane, all);
        k.match_all(lane, all);
        k.redux_add(lane, all);
        k.activemask();
        k.warp_sync(all);
        k.bar_sync_count(1, 64);
        k.bar_arrive(2, 64);
        k.bar_count(3, p);
        k.fence(Scope::Cluster);
        k.cluster_arrive_relaxed();
        k.cluster_wait();
        let rank = k.cluster_ctarank();
        let start = k.shared_base(tile);
        let other = k.cluster_address(start, rank);
        k.st_cluster::<F32>(other, x);
        k.st_cluster_v2::<F32>(other + 8, [x, x]);
        k.cluster_arrive();
        k.setmaxnreg_dec(40);
        k.special(SpecialReg::LaneMaskLt);
        k.clock64();
        let a = k.ldmatrix::<4>(tile, false);
        let b = k.ldmatrix::<2>(tile + 512, true);
        k.stmatrix(tile, false, b);
        let acc = [0.0; 4].map(|zero| k.var::<F32>(zero));
        k.mma_f32_acc(MmaShape::M16N8K16F16, a, b, acc);
        k.mma_f32(MmaShape::M16N8K8TF32, a, b, acc);
        let zero = [0; 4].map(|zero| k.imm::<S32>(zero));
        k.mma_s32(MmaShape::M16N8K32S8, a, b, zero);
        k.guarded(!p, |k| k.nanosleep(100));
        let out = k.fresh::<U32>();
        k.inline("mov.u32 {0}, %envreg0;\nadd.u32 {0}, {0}, {1};", &[out.id()], &[lane.id()]);
        k.add(out, 1);
    });
    assert_snapshot!(text);
}

#[test]
fn products_of_a_warpgroup() {
    let text = kernel(Target::SM_90A, |k| {
        let tile = k.shared_aligned::<U32>("tile", 4096, 1024);
        let start = k.shared_base(tile);
        let layout = MatrixDescriptor { stride: 1024, swizzle: Swizzle::Bytes128, ..Default::default() };
        let b = k.matrix_descriptor(start, layout);
        let p = k.eq(start, 0);
        let (half, byte) = (MatrixElement::F16, MatrixElement::S8);
        let shape = Wgmma { n: 8, satfinite: false, d: Ty::F32, a: half, b: half, registers: false };
        let d = [0.0; 4].map(|zero| k.var::<F32>(zero));
        let transposed = [false, true];
        k.fence_proxy_async_shared();
        k.wgmma_fence();
        k.wgmma(shape, WgmmaOperands { a: WgmmaA::Shared(b), b, transposed, d: &d, adds: Some(!p) });
        let a = WgmmaA::Registers([start; 4]);
        k.wgmma(shape, WgmmaOperands { a, b, transposed, d: &d, adds: Some(p) });
        let d = [0; 4].map(|zero| k.var::<S32>(zero));
        let bytes = Wgmma { d: Ty::S32, a: byte, b: MatrixElement::U8, satfinite: true, ..shape };
        k.wgmma(bytes, WgmmaOperands { a, b, transposed: [false; 2], d: &d, adds: None });
        k.wgmma_commit();
        k.wgmma_wait(1);
    });
    assert_snapshot!(text);
}

#[test]
fn conditional_nodes() {
    let text = kernel(Target::SM_80, |k| {
        let handle = k.param::<U64>("handle");
        let more = k.param::<U32>("more");
        let tid = k.tid_x();
        let first = k.eq(tid, 0);
        k.if_(first, |k| {
            k.comment("again");
            k.graph_set_conditional(handle, more);
        });
        k.guarded(first, |k| k.graph_set_conditional(handle, 0));
    });
    assert_snapshot!(text);
}

#[test]
fn a_function_of_the_driver_is_declared_once_and_only_if_it_is_called() {
    let mut module = Module::new(Target::SM_75);
    let calls = |k: &mut KernelBuilder| {
        k.reqntid(1, 1, 1);
        let handle = k.param::<U64>("handle");
        k.graph_set_conditional(handle, 1);
    };
    module.kernel("before", |k| k.reqntid(1, 1, 1));
    module.kernel("one", calls);
    module.kernel("other", calls);
    let names: Vec<&str> = module.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["before", "cudaGraphSetConditional", "one", "other"]);
    let text = match module.verify() {
        Ok(verified) => verified.ptx(),
        Err(errors) => panic!("{errors}"),
    };
    assert_eq!(text.matches(".extern .func cudaGraphSetConditional(").count(), 1, "{text}");
    assert!(text.starts_with(".version 6.3\n"), "{text}");
}

#[test]
fn bf16_arithmetic_is_native_from_sm_90_on() {
    let sum = |target| {
        body(target, |k| {
            let x = k.bf16_bits(0x3F80);
            k.add(x, x);
        })
    };
    assert!(sum(Target::SM_90).contains("add.rn.bf16"));
    assert!(sum(Target::SM_80).contains("fma.rn.bf16") && !sum(Target::SM_80).contains("add.rn.bf16"));
}

#[test]
fn update_falls_back_to_a_move() {
    let text = kernel(Target::SM_80, |k| {
        let acc = k.var::<U32>(0);
        // The last instruction does not compute the result: a move is needed.
        k.update(acc, |k, acc| {
            let next = k.add(acc, 1);
            k.barrier();
            next
        });
        // Nor may a register from outside be redirected.
        let old = k.add(acc, 2);
        k.update(acc, |_, _| old);
        k.add(old, 1);
    });
    assert_snapshot!(text);
}
