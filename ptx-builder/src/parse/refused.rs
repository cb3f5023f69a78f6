//! Instructions that exist and that the IR does not have, by name.

/// Why the instruction is refused, if it is one of those.
pub(super) fn instruction(mnemonic: &str) -> Option<String> {
    let mut words = mnemonic.split('.');
    let head = words.next().unwrap_or_default();
    let what = match head {
        "tex" | "tld4" | "txq" | "istypep" => "texture instructions are",
        "suld" | "sust" | "sured" | "suq" => "surface instructions are",
        "vadd" | "vsub" | "vabsdiff" | "vmin" | "vmax" | "vshl" | "vshr" | "vmad" | "vset" | "vadd2"
        | "vsub2" | "vavrg2" | "vabsdiff2" | "vmin2" | "vmax2" | "vset2" | "vadd4" | "vsub4" | "vavrg4"
        | "vabsdiff4" | "vmin4" | "vmax4" | "vset4" => "video instructions are",
        "wmma" => "`wmma` instructions, whose fragments have no fixed layout, are",
        "tcgen05" => "`tcgen05` instructions are",
        "tensormap" => "tensor maps are",
        "multimem" => "multicast memory is",
        "alloca" | "stacksave" | "stackrestore" => "a stack that grows at run time is",
        _ if mnemonic.split('.').any(|word| word == "b128") => "128-bit types are",
        _ => return None,
    };
    Some(format!("{what} not supported"))
}
