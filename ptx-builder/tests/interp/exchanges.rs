//! Shuffles, votes, matches and reductions, together and apart.

use crate::support::{Setup, module, put};
use ptx_builder::interp::FindingKind;
use ptx_builder::{FULL_WARP, ShflMode, U32};

#[test]
fn every_shuffle_of_a_full_warp() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let value = k.add(t, 100);
        let up = k.shfl_up(value, 3);
        let down = k.shfl_down(value, 5);
        let across = k.shfl_bfly(value, 6);
        let one = k.shfl_idx(value, 7);
        for (i, v) in [up, down, across, one].into_iter().enumerate() {
            let at = k.add(t, 32 * i as u32);
            put(k, out, at, v);
        }
    });
    let out = Setup::default().clean(m, 128);
    for t in 0..32u32 {
        let expected = [if t < 3 { t } else { t - 3 }, if t + 5 > 31 { t } else { t + 5 }, t ^ 6, 7];
        for (i, lane) in expected.into_iter().enumerate() {
            assert_eq!(out[32 * i + t as usize], lane + 100, "mode {i}, lane {t}");
        }
    }
}

#[test]
fn segments_of_a_shuffle() {
    let m = module(|k, out| {
        let t = k.tid_x();
        // Segments of 8 lanes: the mask of their numbers above, the last lane of each below.
        let clamp = (24u32 << 8) | 7;
        let (value, inside) = k.shfl_with(ShflMode::Down, t, 2u32, clamp, FULL_WARP);
        let value = k.selp(inside, value, 77);
        put(k, out, t, value);
    });
    let out = Setup::default().clean(m, 32);
    let expected: Vec<u32> = (0..32).map(|t| if t % 8 + 2 < 8 { t + 2 } else { 77 }).collect();
    assert_eq!(out, expected);
}

/// Halves of a warp that exchange at different instructions, and the whole at instructions that compilers have
/// duplicated.
#[test]
fn lanes_that_come_apart_wait_for_each_other() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let low = k.lt(t, 16);
        let v = k.var::<U32>(0);
        k.if_else(
            low,
            |k| {
                let sum = k.redux_add(t, 0x0000_FFFFu32);
                let all = k.redux_add(1u32, FULL_WARP);
                let both = k.add(sum, all);
                k.set(v, both);
            },
            |k| {
                let sum = k.redux_add(t, 0xFFFF_0000u32);
                let all = k.redux_add(1u32, FULL_WARP);
                let both = k.add(sum, all);
                k.set(v, both);
            },
        );
        let v = k.get(v);
        put(k, out, t, v);
    });
    let out = Setup::default().clean(m, 32);
    let expected: Vec<u32> = (0..32).map(|t| 32 + if t < 16 { 120 } else { 376 }).collect();
    assert_eq!(out, expected);
}

#[test]
fn votes_and_matches() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let third = k.rem(t, 3);
        let p = k.eq(third, 0);
        let ballot = k.ballot(p, FULL_WARP).cast::<U32>();
        let same = k.match_any(third, FULL_WARP).cast::<U32>();
        let any = k.vote_any(p, FULL_WARP);
        let all = k.vote_all(p, FULL_WARP);
        let votes = k.selp(any, 1u32, 0u32);
        let votes = k.selp(all, 2u32, votes);
        for (i, v) in [ballot, same, votes].into_iter().enumerate() {
            let at = k.add(t, 32 * i as u32);
            put(k, out, at, v);
        }
    });
    let out = Setup::default().clean(m, 96);
    let mask = |r: u32| (0..32).filter(|t| t % 3 == r).fold(0u32, |m, t| m | 1 << t);
    for t in 0..32 {
        assert_eq!([out[t], out[32 + t], out[64 + t]], [mask(0), mask(t as u32 % 3), 1]);
    }
}

#[test]
fn a_shuffle_from_a_lane_that_has_exited_is_found() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let p = k.ge(t, 16);
        k.ret_if(p);
        let v = k.shfl_bfly(t, 16);
        put(k, out, t, v);
    });
    let finding = Setup::default().finds(m, FindingKind::InvalidUse);
    assert!(finding.line.contains("shfl") && finding.count == 16, "{finding}");
}

/// What a lane executes under a mask that lacks it is undefined: each exchange says so, with the lanes that do it.
#[test]
fn a_lane_outside_of_its_mask_is_found() {
    const SOME: u32 = 0x00FF_FFFF;
    for name in ["shfl", "vote", "match", "redux", "bar.warp.sync"] {
        let m = module(|k, out| {
            let t = k.tid_x();
            let v = match name {
                "shfl" => k.shfl_with(ShflMode::Bfly, t, 1u32, 0x1F, SOME).0,
                "vote" => {
                    let p = k.eq(t, 3);
                    k.ballot(p, SOME).cast()
                }
                "match" => k.match_any(t, SOME).cast(),
                "redux" => k.redux_add(t, SOME),
                _ => {
                    k.warp_sync(SOME);
                    t
                }
            };
            put(k, out, t, v);
        });
        let finding = Setup::default().finds(m, FindingKind::InvalidUse);
        let told = finding.line.contains(name) && finding.detail.contains("not in the mask 0x00ffffff");
        assert!(told && finding.count == 8 && finding.thread == [24, 0, 0], "{finding}");
    }
}

#[test]
fn lanes_that_wait_for_each_other_at_different_masks_are_a_deadlock() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let low = k.lt(t, 16);
        k.if_else(low, |k| k.warp_sync(FULL_WARP), |k| k.bar_sync(1));
        put(k, out, t, t);
    });
    // The lower half waits for the upper one, which waits at a barrier for the lower one.
    let finding = Setup::default().finds(m, FindingKind::Deadlock);
    assert!(finding.detail.contains("bar.warp.sync"), "{finding}");
}

/// A warp has one matrix, so its lanes say the same about where it is.
#[test]
fn lanes_that_do_not_agree_on_a_matrix() {
    let text = |stride: &str| {
        format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.entry k(.param .u64 out) {{\n.reg .b64 %rd<3>;\n.reg .b32 %r<3>;\n.reg .f64 %fd<3>;\nld.param.u64 %rd0, [out];\nmov.u32 %r0, %laneid;\nmov.u32 %r1, 8;\nmov.f64 %fd0, 0d0000000000000000;\nwmma.store.d.sync.aligned.row.m8n8k4.global.f64 [%rd0], {{%fd0, %fd0}}, {stride};\nret;\n}}\n"
        )
    };
    let module = |stride| ptx_builder::parse(&text(stride)).expect("a module");
    let setup = Setup::block(32);
    assert_eq!(setup.clean(module("%r1"), 128), vec![0; 128]);
    let (report, _) = setup.report(module("%r0"), 128);
    let fault = report.fault.expect("strides differ");
    assert!(fault.to_string().contains("different addresses or strides"), "{fault}");
}
