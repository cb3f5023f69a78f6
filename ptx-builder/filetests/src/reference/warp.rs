//! Warps of 32 lanes: votes, matches, reductions, shuffles.

use super::{Call, Reference};
use crate::data::{Data, Elem};

pub(super) fn find(name: &str) -> Option<Reference> {
    Some(match name {
        "ballot" => ballot,
        "lane_rank" => lane_rank,
        "match_any" => match_any,
        "match_all" => match_all,
        "warp_fold_add" | "warp_fold_min" | "warp_fold_max" | "warp_fold_and" | "warp_fold_or"
        | "warp_fold_xor" => fold,
        "shfl_idx" | "shfl_up" | "shfl_down" | "shfl_bfly" => shuffle,
        "shfl_valid" => shuffle_valid,
        "odd_lanes" => odd_lanes,
        "warp_all" | "warp_any" => vote,
        _ => return None,
    })
}

/// A word for each lane from the values of its warp and its lane.
fn by_warp(x: &Data, elem: Elem, f: impl Fn(&Data, usize) -> i128) -> Data {
    let warps = x.bits.chunks(32).flat_map(|bits| {
        let warp = Data { elem: x.elem, bits: bits.to_vec() };
        (0..bits.len()).map(|lane| f(&warp, lane)).collect::<Vec<_>>()
    });
    Data::ints(elem, warps)
}

fn mask(warp: &Data, holds: impl Fn(i128) -> bool) -> i128 {
    (0..warp.len()).filter(|&lane| holds(warp.int(lane))).fold(0, |mask, lane| mask | 1 << lane)
}

/// `ballot(x)`: the lanes of the warp whose value is not zero.
fn ballot(call: &Call<'_>) -> Result<Data, String> {
    Ok(by_warp(&call.args_data(0)?, call.elem, |warp, _| mask(warp, |v| v != 0)))
}

/// `warp_all(x)`, `warp_any(x)`: whether all values of the warp, or any, are not zero.
fn vote(call: &Call<'_>) -> Result<Data, String> {
    let one = |warp: &Data, _| {
        let votes = mask(warp, |v| v != 0);
        i128::from(if call.name == "warp_all" {
            votes.count_ones() as usize == warp.len()
        } else {
            votes != 0
        })
    };
    Ok(by_warp(&call.args_data(0)?, call.elem, one))
}

/// `lane_rank(x)`: how many lower lanes have a value that is not zero.
fn lane_rank(call: &Call<'_>) -> Result<Data, String> {
    let rank = |warp: &Data, lane: usize| {
        i128::from((mask(warp, |v| v != 0) as u64 & ((1 << lane) - 1)).count_ones())
    };
    Ok(by_warp(&call.args_data(0)?, call.elem, rank))
}

/// `match_any(x)`: the lanes with the same value.
fn match_any(call: &Call<'_>) -> Result<Data, String> {
    Ok(by_warp(&call.args_data(0)?, call.elem, |warp, lane| mask(warp, |v| v == warp.int(lane))))
}

/// `match_all(x)`: all lanes, if they have the same value; zero otherwise.
fn match_all(call: &Call<'_>) -> Result<Data, String> {
    let all =
        |warp: &Data, _| if (0..warp.len()).all(|i| warp.raw(i) == warp.raw(0)) { 0xffff_ffff } else { 0 };
    Ok(by_warp(&call.args_data(0)?, call.elem, all))
}

/// `warp_fold_*(x)`: of the warp, in every lane.
fn fold(call: &Call<'_>) -> Result<Data, String> {
    let x = call.args_data(0)?;
    let one = |warp: &Data, _| {
        let values = (0..warp.len()).map(|i| warp.int(i));
        match call.name {
            "warp_fold_add" => values.sum(),
            "warp_fold_min" => values.min().expect("a warp has lanes"),
            "warp_fold_max" => values.max().expect("a warp has lanes"),
            "warp_fold_and" => values.fold(-1, |a, b| a & b),
            "warp_fold_or" => values.fold(0, |a, b| a | b),
            _ => values.fold(0, |a, b| a ^ b),
        }
    };
    Ok(by_warp(&x, x.elem, one))
}

/// The source of a lane as PTX defines `shfl` for operands b and c, and whether it is within the segment.
fn source(mode: &str, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let max_lane = lane & segment | clamp & !segment;
    let min_lane = lane & segment;
    let (j, valid) = match mode {
        "shfl_up" => {
            let j = lane as i32 - b as i32;
            (j as u32, j >= max_lane as i32)
        }
        "shfl_down" => (lane + b, lane + b <= max_lane),
        "shfl_bfly" => (lane ^ b, lane ^ b <= max_lane),
        _ => {
            let j = min_lane | b & !segment;
            (j, j <= max_lane)
        }
    };
    if valid { (j, true) } else { (lane, false) }
}

/// `shfl_MODE(x, b, c)`: `b` and `c` as in PTX, numbers or one for each lane.
fn shuffle(call: &Call<'_>) -> Result<Data, String> {
    let x = call.args_data(0)?;
    let (b, c) = (call.typed_words(1)?, call.typed_words(2)?);
    let one = |i: usize| {
        let lane = i % 32;
        let (from, _) = source(call.name, lane as u32, b.raw(i) as u32, c.raw(i) as u32);
        x.raw(i - lane + from as usize)
    };
    Ok(Data { elem: x.elem, bits: (0..x.len()).map(one).collect() })
}

/// `shfl_valid(mode, b, c)`: the predicate that goes with a shuffle; `mode` is 0 for up, 1 for down, 2 for bfly, 3 for
/// idx; a word for each lane of as many warps as are asked for.
fn shuffle_valid(call: &Call<'_>) -> Result<Data, String> {
    let mode = *["shfl_up", "shfl_down", "shfl_bfly", "shfl_idx"].get(call.size(0)?).ok_or("no such mode")?;
    let (b, c) = (call.typed_words(1)?, call.typed_words(2)?);
    let len = b.len().max(c.len()).max(32);
    let valid = |i: usize| i128::from(source(mode, i as u32 % 32, b.raw(i) as u32, c.raw(i) as u32).1);
    Ok(Data::ints(call.elem, (0..len).map(valid)))
}

/// `odd_lanes(x)`: for odd values the warp's first odd one plus how many of the odd are above 8; ones for the others.
fn odd_lanes(call: &Call<'_>) -> Result<Data, String> {
    let one = |warp: &Data, lane: usize| {
        if warp.int(lane) & 1 == 0 {
            return 0xffff_ffff;
        }
        let odd = || (0..warp.len()).map(|i| warp.int(i)).filter(|v| v & 1 == 1);
        odd().next().expect("this lane is odd") + odd().filter(|&v| v > 8).count() as i128
    };
    Ok(by_warp(&call.args_data(0)?, call.elem, one))
}
