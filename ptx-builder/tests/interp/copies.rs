//! `cp.async`: groups, waits, zero fill, and what is read too early.

use crate::support::{Setup, module, put};
use ptx_builder::interp::{Direction, FindingKind};
use ptx_builder::{Module, Space, U32, parse};

/// Copies `out[4 t ..]` to shared memory and writes its sum to `out[128 + t]`.
fn kernel(wait: bool) -> Module {
    module(|k, out| {
        let tile = k.shared_aligned::<U32>("tile", 128, 16);
        let t = k.tid_x();
        let four = k.shl(t, 2);
        for i in 0..4 {
            let index = k.add(four, i);
            let value = k.mul(index, 3);
            put(k, out, index, value);
        }
        let from = k.ptr_index(out, four, 4);
        let to = k.shared_index(tile, four);
        k.cp_async_cg(to, from);
        k.cp_async_commit();
        if wait {
            k.cp_async_wait(0);
        }
        let words = k.ld_shared_v4::<U32>(to);
        let sum = k.add(words[0], words[1]);
        let sum = k.add(sum, words[2]);
        let sum = k.add(sum, words[3]);
        let at = k.add(t, 128);
        put(k, out, at, sum);
    })
}

#[test]
fn data_is_there_after_the_wait() {
    for seed in [0, 1] {
        let mut setup = Setup::default();
        setup.options.seed = seed;
        let out = setup.clean(kernel(true), 160);
        let expected: Vec<u32> = (0..32).map(|t| (4 * t..4 * t + 4).map(|i| 3 * i).sum()).collect();
        assert_eq!(out[128..], expected);
    }
}

#[test]
fn a_copy_is_counted_as_one_load_and_one_store() {
    for seed in [0, 1] {
        let mut setup = Setup::default();
        (setup.options.seed, setup.options.metrics) = (seed, true);
        let (report, _) = setup.report(kernel(true), 160);
        let metrics = report.metrics.expect("metrics were asked for");
        let stored = metrics.total(Space::Shared, Direction::Store);
        assert_eq!((stored.requests, stored.lanes, stored.bytes, stored.wavefronts), (1, 32, 512, 4));
        let loaded = metrics.total(Space::Global, Direction::Load);
        assert_eq!((loaded.requests, loaded.bytes), (1, 512));
    }
}

#[test]
fn a_missing_wait_is_found_and_gives_garbage() {
    for seed in [0, 1] {
        let mut setup = Setup::default();
        setup.options.seed = seed;
        let finding = setup.finds(kernel(false), FindingKind::SharedRace);
        assert!(finding.detail.contains("cp.async"), "{finding}");
    }
    let mut setup = Setup::default();
    setup.options.seed = 1;
    let (_, out) = setup.report(kernel(false), 160);
    assert_eq!(out[128], 0xCDCD_CDCDu32.wrapping_mul(4));
}

/// Local memory at the same offset as the destination of a copy is other memory.
#[test]
fn only_the_destination_itself_waits() {
    const TEXT: &str = "
.version 8.0
.target sm_90
.address_size 64

.visible .entry k(.param .u64 out)
{
    .reg .b32 %r<6>;
    .reg .b64 %rd<4>;
    .shared .align 16 .b32 tile[4];
    .local .align 16 .b32 own[4];

    mov.b32 %r0, 0;
    st.shared.b32 [tile], %r0;
    st.local.b32 [own], %r0;
    barrier.cluster.arrive;
    barrier.cluster.wait;
    ld.param.u64 %rd0, [out];
    mov.u32 %r1, %cluster_ctarank;
    mad.wide.u32 %rd0, %r1, 16, %rd0;
    mov.u32 %r2, tile;
    cp.async.cg.shared.global [%r2], [%rd0], 16;
    mov.u64 %rd1, own;
    cvta.local.u64 %rd1, %rd1;
    ld.b32 %r3, [%rd1];
    mapa.shared::cluster.u32 %r4, %r2, %r1;
    READ
    cp.async.wait_all;
    barrier.cluster.arrive;
    barrier.cluster.wait;
    ret;
}
";
    let module = |read: &str| parse(&TEXT.replace("READ", read)).unwrap_or_else(|error| panic!("{error}"));
    let setup = Setup { block: 1, ..Setup::default() };
    setup.clean(module(""), 8);
    let finding = setup.finds(module("ld.shared::cluster.b32 %r3, [%r4];"), FindingKind::SharedRace);
    assert!(finding.detail.contains("nobody has waited for"), "{finding}");
}

#[test]
fn what_is_not_read_is_zero() {
    let m = module(|k, out| {
        let tile = k.shared_aligned::<U32>("tile", 128, 16);
        let t = k.tid_x();
        put(k, out, t, t);
        k.warp_sync(ptx_builder::FULL_WARP);
        let four = k.shl(t, 2);
        let to = k.shared_index(tile, four);
        let few = k.lt(t, 4);
        let valid = k.selp(few, 8u32, 0u32);
        let zero = k.and(four, 15);
        let from = k.ptr_index(out, zero, 4);
        k.cp_async_cg_zfill(to, from, valid);
        k.cp_async_wait_all();
        let words = k.ld_shared_v4::<U32>(to);
        let low = k.add(words[0], words[1]);
        let high = k.add(words[2], words[3]);
        let at = k.add(t, 32);
        let high = k.shl(high, 16);
        let both = k.or(low, high);
        put(k, out, at, both);
    });
    let out = Setup::default().clean(m, 64);
    let expected: Vec<u32> = (0..32).map(|t| if t < 4 { 8 * t + 1 } else { 0 }).collect();
    assert_eq!(out[32..], expected);
}

/// What an H200 reads for `cp.async.cg` of 16 bytes a lane, by rows of a multiple of 32 bytes: the counter of sectors that
/// come from the L2.
#[test]
fn a_sector_is_read_for_each_sector_that_it_comes_to() {
    // Bytes of a row, from one row to the next in shared memory, what pieces are exchanged with, sectors.
    let measured = [
        (128, 144, 0, 24),
        (128, 160, 0, 16),
        (128, 128, 0, 16),
        (128, 128, 7, 16),
        (128, 128, 1, 16),
        (64, 240, 0, 24),
        (64, 64, 3, 16),
        (32, 32, 0, 16),
        (32, 48, 0, 24),
    ];
    for (row_bytes, stride, exchange, sectors) in measured {
        let m = module(|k, out| {
            let tile = k.shared_aligned::<U32>("tile", 2048, 128);
            let t = k.tid_x();
            let pieces: u32 = row_bytes / 16;
            let (row, piece) = (k.shr(t, pieces.ilog2()), k.and(t, pieces - 1));
            let exchanged = k.and(row, exchange);
            let place = k.xor(piece, exchanged);
            let base = k.shared_base(tile);
            let to = k.mad(row, stride, base);
            let to = k.mad(place, 16, to);
            // Rows lie far apart.
            let from = k.ptr_index(out, row, 2 * row_bytes);
            let from = k.ptr_index(from, piece, 16);
            k.cp_async_cg(to, from);
            k.cp_async_wait_all();
        });
        let mut setup = Setup::default();
        setup.options.metrics = true;
        let (report, _) = setup.report(m, 2048);
        let metrics = report.metrics.expect("metrics were asked for");
        let read: u64 = metrics.allocations.iter().map(|allocation| allocation.sectors_read).sum();
        assert_eq!(read, sectors, "rows of {row_bytes} bytes, {stride} apart, exchanged with {exchange}");
    }
}
