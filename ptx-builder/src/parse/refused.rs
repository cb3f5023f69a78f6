//! Instructions and special registers that exist and that the IR does not have, by name.

/// Why the instruction is refused, if it is one of those.
pub(super) fn instruction(mnemonic: &str) -> Option<String> {
    let words: Vec<&str> = mnemonic.split('.').collect();
    let head = words.first().copied().unwrap_or_default();
    let second = words.get(1).copied().unwrap_or_default();
    let has = |any: &[&str]| words.iter().any(|word| any.contains(word));
    let single_pairs = matches!(head, "add" | "sub" | "mul" | "fma") && words.last() == Some(&"f32x2");
    if single_pairs
        || matches!(
            mnemonic,
            "vabsdiff4.u32.u32.u32" | "vabsdiff4.u32.u32.u32.add" | "vabsdiff2.u32.u32.u32.add"
        )
    {
        return None;
    }
    let what = match head {
        "tex" | "tld4" | "txq" | "istypep" => "texture instructions are",
        "suld" | "sust" | "sured" | "suq" => "surface instructions are",
        "vadd" | "vsub" | "vabsdiff" | "vmin" | "vmax" | "vshl" | "vshr" | "vmad" | "vset" | "vadd2"
        | "vsub2" | "vavrg2" | "vabsdiff2" | "vmin2" | "vmax2" | "vset2" | "vadd4" | "vsub4" | "vavrg4"
        | "vabsdiff4" | "vmin4" | "vmax4" | "vset4" => "video instructions are",
        "tcgen05" => "`tcgen05` instructions are",
        "tensormap" => "tensor maps are",
        "multimem" => "multicast memory is",
        "alloca" | "stacksave" | "stackrestore" => "a stack that grows at run time is",
        _ if has(&["b128"]) => "128-bit types are",
        _ if has(&["f32x2", "e2m1x2", "e2m3x2", "e3m2x2", "ue8m0x2", "ue8m0"]) => "these packed types are",
        "min" | "max" if has(&["xorsign"]) => "`.xorsign` is",
        "fma" if has(&["oob"]) => "`.oob` is",
        "cvt" if has(&["rs"]) => "stochastic rounding is",
        "mad24" if has(&["sat"]) => "`mad24.hi.sat` is",
        "lop3" if has(&["or", "and"]) => "`lop3` with a predicate is",
        "redux" if has(&["abs", "NaN"]) => "`.abs` and `.NaN` of `redux` are",
        "ld" | "st" if has(&["mmio"]) => "`.mmio` is",
        "ld" | "st" if has(&["v8"]) || has(&["v4"]) && has(&["b64", "u64", "s64", "f64"]) => {
            "accesses of 32 bytes are"
        }
        "st" if second == "bulk" => "`st.bulk` is",
        "red" if second == "async" => "`red.async` is",
        "cp" if second == "reduce" => "`cp.reduce.async.bulk` is",
        "atom" | "red" if has(&["v2", "v4", "v8"]) => "atomic operations on vectors are",
        "atom" | "red" if has(&["L2::cache_hint"]) => "cache policies of atomic operations are",
        "cp" if second == "async" && !has(&["bulk"]) && has(&["L2::cache_hint", "L2::64B", "L2::256B"]) => {
            "this hint of `cp.async` is"
        }
        "createpolicy" if matches!(second, "range" | "cvt") => "policies other than fractional ones are",
        "fence" if words.iter().any(|word| word.starts_with("sync_restrict")) => {
            "fences of some memory alone are"
        }
        "fence" if has(&["tensormap::generic"]) => "tensor maps are",
        "fence" if has(&["async::generic"]) => "fences from the asynchronous proxy to the generic one are",
        "prefetch" if has(&["tensormap"]) => "tensor maps are",
        "prefetch" if has(&["local"]) => "`prefetch.local` is",
        "pmevent" if second == "mask" => "`pmevent.mask` is",
        "mma" if has(&["sp", "sp::ordered_metadata"]) => "sparse matrices are",
        "ldmatrix" | "stmatrix" if has(&["m8n16", "m16n16", "m16n8"]) => "matrices of bytes are",
        "clusterlaunchcontrol" => "`clusterlaunchcontrol` is",
        _ => return None,
    };
    Some(format!("{what} not supported"))
}

/// Is it one of the special registers that the IR does not have?
pub(super) fn special(name: &str) -> bool {
    let numbered = ["%pm", "%envreg", "%reserved_smem_offset_"];
    let others = ["%aggr_smem_size", "%current_graph_exec", "%is_explicit_cluster"];
    numbered.iter().any(|prefix| name.starts_with(prefix)) || others.contains(&name)
}
