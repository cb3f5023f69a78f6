//! Mistakes that make no difference, and why.

/// Mistakes of one kind whose mutants compute the same.
struct Equivalent {
    /// Beginnings of the names of the families; none stands for all.
    families: &'static [&'static str],
    /// A part of the instruction, without what depends on the shape.
    line: &'static str,
    /// A part of the change; with `#3: `, only at the fourth such instruction of its basic block.
    change: &'static str,
    reason: &'static str,
}

/// The families that reduce a row with a block.
const REDUCTIONS: &[&str] = &["rms_norm", "soft_max", "argmax"];
/// Those of them whose threads go over a row in a loop that the plan bounds.
const LOOPS: &[&str] = &["rms_norm", "soft_max"];

/// The kernels that quantise what they multiply.
const PROJECTIONS: &[&str] =
    &["residual_projection", "gated_projection", "head", "greedy_head", "attention_input"];

const ALL: &[Equivalent] = &[
    Equivalent {
        families: &[],
        line: "shfl.sync.bfly",
        change: "Literal(3, 1)",
        reason: "16, 8, 4, 2, 1 with one of them made odd still reach every lane from every lane",
    },
    Equivalent {
        families: &[],
        line: "shfl.sync.bfly.b32 %f, %f, 1, 31",
        change: "Literal(3, -1)",
        reason: "lane 30 keeps its own in the last step of a butterfly, and another lane stores",
    },
    Equivalent {
        families: PROJECTIONS,
        line: "st.shared.f32 [%r], %f;",
        change: "NegateGuard",
        reason: "after a butterfly every lane holds the result, so that any lane may store it",
    },
    Equivalent {
        families: REDUCTIONS,
        line: "st.shared",
        change: "NegateGuard",
        reason: "after a butterfly every lane holds the result, so that any lane may store it",
    },
    Equivalent {
        families: &["rms_norm", "soft_max", "argmax", "quantize", "gemv"],
        line: "setp.eq.u32 %p, %r, 0;",
        change: "",
        reason: "the first lane stores what every lane of a butterfly holds: another lane does as well",
    },
    Equivalent {
        families: &["argmax"],
        line: "setp.eq.u32 %p, %r_tid_x, 0;",
        change: "Literal(3, 1)",
        reason: "the second thread holds the result as well as the first",
    },
    Equivalent {
        families: &["rms_norm", "soft_max", "argmax", "gemv"],
        line: "and.b32 %r, %r_tid_x, 0x1F;",
        change: "Literal(2, -1)",
        reason: "lanes 0 and 1 both store what both hold",
    },
    Equivalent {
        families: LOOPS,
        line: "ld.shared.v4.f32",
        change: "Swap(0, 1)",
        reason: "sums and maxima of the warps' parts, in another order",
    },
    Equivalent {
        families: &["argmax"],
        line: "setp.eq.and.f32",
        change: "Compare(Ge)",
        reason: "greater is tested and combined by `or` right after",
    },
    Equivalent {
        families: &["argmax"],
        line: "setp.lt.u32 %p, %r, %r;",
        change: "Compare(Le)",
        reason: "equal indices are the same element",
    },
    Equivalent {
        families: &["argmax"],
        line: "min.u32 %r, %r, ;",
        change: "Literal(2, 1)",
        reason: "lanes are below 32 anyway",
    },
    Equivalent {
        families: &["argmax"],
        line: "add.u32 %r, %r_tid_x, ;",
        change: "Literal(2, -1)",
        reason: "the tail of the row begins with an element of the loop before, which changes no maximum",
    },
    Equivalent {
        families: &["argmax"],
        line: "selp.f32 %f, %f, %f, %p;",
        change: "#9: Swap(1, 2)",
        reason: "the value of the last comparison: only its index is stored",
    },
    Equivalent {
        families: LOOPS,
        line: "setp.ge.u32 %p, %r, ;",
        change: "",
        reason: "whether a loop is empty: no thread of a plan is without a first element",
    },
    Equivalent {
        families: LOOPS,
        line: "bra L_endfor;",
        change: "Remove",
        reason: "the jump past an empty loop: no thread of a plan is without a first element",
    },
    Equivalent {
        families: &["rms_norm"],
        line: "mov.f32 %f, 0f00000000;",
        change: "Float(1)",
        reason: "the weight of an element that does not exist: its product is not stored",
    },
    Equivalent {
        families: &["gemv"],
        line: "mov.b32 %r, 0;",
        change: "Literal(1, 1)",
        reason: "weights that do not exist: the code that multiplies them is not run",
    },
    Equivalent {
        families: &["gemv"],
        line: "mov.b64 %rd, 0;",
        change: "Literal(1, 1)",
        reason: "weights that do not exist: the code that multiplies them is not run",
    },
    Equivalent {
        families: &["gemv"],
        line: "mov.u16 %rs, 0;",
        change: "Literal(1, 1)",
        reason: "weights that do not exist: the code that multiplies them is not run",
    },
    Equivalent {
        families: &["gemv"],
        line: "setp.eq.u32 %p, %r_thread, 0;",
        change: "",
        reason: "the first lane stores what every lane of a butterfly holds: another lane does as well",
    },
    Equivalent {
        families: &["gemv"],
        line: "and.pred %p, %p, %p;",
        change: "Operation(Or)",
        reason: "groups beyond the last rows, and lanes beyond the first, hold what the last group's first lane stores",
    },
    Equivalent {
        families: &["gemv"],
        line: "setp.lt.u32 %p, %r, ;",
        change: "Compare(Le)",
        reason: "a group beyond the last rows repeats them, and stores the same",
    },
    Equivalent {
        families: &["gemv"],
        line: "setp.lt.u32 %p, %r, ;",
        change: "Literal(3, 1)",
        reason: "a group beyond the last rows repeats them, and stores the same",
    },
    Equivalent {
        families: &["gemv_q4_k", "gemv_q8_q4_k"],
        line: "bfe.u32 %r, %r, 1, 2;",
        change: "Literal(3, 1)",
        reason: "a thread's part of a block is below 8",
    },
    Equivalent {
        families: &["gemv"],
        line: "bfe.u32 %r, %r, 0, 3;",
        change: "Literal(3, 1)",
        reason: "a thread's part of a block is below 8",
    },
    Equivalent {
        families: &["gemv_q6_k", "gemv_q8_q6_k"],
        line: "bfe.u32 %r, %r, 3, 1;",
        change: "Literal(3, 1)",
        reason: "a thread's part of a block is below 16",
    },
    Equivalent {
        families: &["gemv_q6_k", "gemv_q8_q6_k"],
        line: "and.b32 %r, %r, 0x30303030;",
        change: "Literal(2, 1)",
        reason: "the word was shifted to the left, its lowest bit is zero",
    },
    Equivalent {
        families: &["gemv_q6_k", "gemv_q8_q6_k"],
        line: "mov.s32 %r, 0;",
        change: "Literal(1, 1)",
        reason: "weights that do not exist: the code that multiplies them is not run",
    },
    Equivalent {
        families: &["gemv_q8_q4_k"],
        line: "dp4a.s32.s32",
        change: "Operation(Dp4aUS)",
        reason: "four-bit weights have no sign",
    },
    Equivalent {
        families: &["gemv"],
        line: "shr.u32 %r, %r_tid_x, 7;",
        change: "Literal(2, 1)",
        reason: "a block with no more threads than share a row has one group",
    },
    Equivalent {
        families: &["gemv"],
        line: "shr.u32 %r, %r_tid_x, 8;",
        change: "Literal(2, 1)",
        reason: "a block with no more threads than share a row has one group",
    },
    Equivalent {
        families: &["rope"],
        line: "selp.f32 %f, %f, , %p;",
        change: "Float",
        reason: "the other factor of the rotation is NaN as well",
    },
    Equivalent {
        families: &["rope"],
        line: "mul.lo.u32 %r, %r, ;",
        change: "#1: ",
        reason: "on the way to the head's number within its row, which nothing uses",
    },
    Equivalent {
        families: &["rope"],
        line: "sub.u32 %r, %r, %r;",
        change: "#1: ",
        reason: "the head's number within its row, which nothing uses",
    },
    Equivalent {
        families: &["rope", "embed_rows"],
        line: "selp.u32 %r, %r, 0, %p;",
        change: "Literal(2, 1)",
        reason: "what is read for an index out of range is replaced by NaN",
    },
    Equivalent {
        families: &["embed_rows_q4_k", "embed_rows_q6_k"],
        line: "ld.global.u8 %r,",
        change: "Type(S8)",
        reason: "bits of the byte are cut out of it, its sign is none of them",
    },
    Equivalent {
        families: &[
            "copy",
            "gemv",
            "residual_projection",
            "gated_projection",
            "head",
            "greedy_head",
            "attention_input",
        ],
        line: "u16 %rs,",
        change: "Type(S16)",
        reason: "the register is as wide as the value",
    },
    Equivalent {
        families: &["quantize"],
        line: "add.u32 %r, %r, ;",
        change: "#0: Literal(2, -1)",
        reason: "what a thread beyond the row reads instead: it stores nothing",
    },
    Equivalent {
        families: &["quantize"],
        line: "and.b32 %r, %r, 7;",
        change: "#0: Literal(2, -1)",
        reason: "what a thread beyond the row reads instead: it stores nothing",
    },
    Equivalent {
        families: &["quantize"],
        line: "and.b32 %r, %r, 7;",
        change: "#1: Literal(2, -1)",
        reason: "the first two threads of a group store the same scale",
    },
    Equivalent {
        families: PROJECTIONS,
        line: "dp4a.u32.s32",
        change: "Operation(Dp4aSS)",
        reason: "weights of at most six bits have no sign",
    },
    Equivalent {
        families: &["residual_projection_q4_0", "gated_projection_q4_0", "head_q4_0"],
        line: "dp4a.s32.s32 %r, %r, %r, %r;",
        change: "Operation(Dp4aUS)",
        reason: "weights of at most six bits have no sign",
    },
    Equivalent {
        families: PROJECTIONS,
        line: "and.b32 %r, %r, 0x30303030;",
        change: "Literal(2, 1)",
        reason: "the word was shifted to the left, its lowest bit is zero",
    },
    Equivalent {
        families: PROJECTIONS,
        line: "and.b32 %r, %r, 0x10101010;",
        change: "Literal(2, 1)",
        reason: "the word was shifted to the left, its lowest bit is zero",
    },
    Equivalent {
        families: PROJECTIONS,
        line: "setp.eq.u32 %p, %r, 0;",
        change: "Compare(",
        reason: "all lanes that share a group hold its scale, all of a warp its sum of squares: any may store it",
    },
    Equivalent {
        families: PROJECTIONS,
        line: "mov.b32 %r, 0;",
        change: "Literal(1, 1)",
        reason: "the place of sums of activations, for weights without an offset, which do not read it",
    },
    Equivalent {
        families: PROJECTIONS,
        line: "selp.b32 %r, 0x7FC00000, %r, %p;",
        change: "Literal(1, ",
        reason: "another NaN",
    },
    Equivalent {
        families: PROJECTIONS,
        line: "selp.b32 %r, %r, 0, %p;",
        change: "Literal(2, 1)",
        reason: "quants of a group whose scale is zero or a NaN",
    },
    Equivalent {
        families: PROJECTIONS,
        line: "selp.f32 %f, %f, 0f00000000, %p;",
        change: "Float(2)",
        reason: "the scale of a group of zeros",
    },
    Equivalent {
        families: PROJECTIONS,
        line: "cp.async.wait_group",
        change: "Literal(0, -1)",
        reason: "waits for more copies than are needed",
    },
    Equivalent {
        families: &["attention:", "attention_f", "attention_bf"],
        line: "mov.f32 %f, 0f00000000;",
        change: "Float(1)",
        reason: "what a running sum begins with is multiplied by 2 to the power of minus infinity before anything is added",
    },
    Equivalent {
        families: &["attention:", "attention_f", "attention_bf"],
        line: "mov.b32 %r, 0;",
        change: "Literal(1, 1)",
        reason: "overwritten by the first load; or features that do not exist, which meet a query of zeros",
    },
    Equivalent {
        families: &[
            "attention: ahead",
            "attention_f16: ahead",
            "attention_bf16: ahead",
            "attention_f32: ahead",
        ],
        line: "",
        change: "",
        reason: "what is fetched ahead may be of no use, which changes no result",
    },
    Equivalent {
        families: &["attention:", "attention_f16", "attention_bf16", "attention_f32"],
        line: "setp.le.u32 %p, %r_chunks, ;",
        change: "Compare(Lt)",
        reason: "the only chunk of a row, left as a part and combined with no other, gives the same",
    },
    Equivalent {
        families: &["attention:", "attention_f16", "attention_bf16", "attention_f32"],
        line: "setp.le.u32 %p, %r_chunks, ;",
        change: "Literal(3, -1)",
        reason: "the only chunk of a row, left as a part and combined with no other, gives the same",
    },
    Equivalent {
        families: &["attention_bf16: row", "attention_f32: row"],
        line: "setp.eq.u32 %p, %r, %r;",
        change: "Compare(Ne)",
        reason: "every set of lanes of a warp holds the warp's sums: the others store them as well",
    },
    Equivalent {
        families: &["attention:", "attention_f16", "attention_bf16", "attention_f32"],
        line: "setp.eq.u32 %p, %r, 0;",
        change: "Literal(3, 1)",
        reason: "after a barrier the second thread counts the block as well as the first, and knows as much of a head",
    },
    Equivalent {
        families: &["attention:", "attention_f16"],
        line: "ld.shared.v4.b32 {%r, %r, %r, %r},",
        change: "Swap(0, 1)",
        reason: "products with the two parts of a query, which are added, in another order",
    },
    Equivalent {
        families: &["attention:", "attention_f16"],
        line: "ld.shared.v4.b32 {%r, %r, %r, %r},",
        change: "Swap(2, 3)",
        reason: "products with the two parts of a query, which are added, in another order",
    },
    Equivalent {
        families: &["attention:", "attention_f16", "attention_bf16", "attention_f32"],
        line: "selp.u32 %r, , ",
        change: ": Literal(1, 1)",
        reason: "the size of the only chunk, which ends where the row does",
    },
    Equivalent {
        families: &["attention_bf16", "attention_f32"],
        line: "st.shared.f32 [%r",
        change: "NegateGuard",
        reason: "every lane of the warp holds the maximum and the sum",
    },
    Equivalent {
        families: &["attention:", "attention_f16"],
        line: "shfl.sync.idx.b32 %f, %f, %r, 31, 0xFFFFFFFF;",
        change: "Literal(4, -1)",
        reason: "the lanes that are read are multiples of four",
    },
    Equivalent {
        families: &["sample"],
        line: "setp.ne.u32 %p, %r, ;",
        change: "Compare(Lt)",
        reason: "there are no bins beyond the number for none",
    },
    Equivalent {
        families: &["sample_cut", "sample_draw"],
        line: "setp.eq.u32 %p, %r, ;",
        change: "Compare(Ge)",
        reason: "the last lane, and the number for no bin: nothing is beyond",
    },
    Equivalent {
        families: &["sample_cut", "sample_draw"],
        line: "max.f32 %f, %f, ;",
        change: "Float(2)",
        reason: "2^-128 of the most likely token weighs nothing, as 2^-64 does",
    },
    Equivalent {
        families: &["sample_cut", "sample_draw"],
        line: "bfe.u32 %r, %r, 22, 11;",
        change: "Literal(3, ",
        reason: "the highest part of a weight has ten bits",
    },
    Equivalent {
        families: &["sample_draw: start"],
        line: "setp.eq.u32 %p, %r, %r;",
        change: "Compare(Ge)",
        reason: "tokens of later bins are listed as well, and found to be beyond the cut",
    },
    Equivalent {
        families: &["sample_draw: start"],
        line: "setp.lt.u32 %p, %r, ;",
        change: "#3: Literal(3, -1)",
        reason: "the last of four tokens is the last of a row only where the four are read together",
    },
    Equivalent {
        families: &["sample_draw: start"],
        line: "selp.u64 %rd, %rd, 0, %p;",
        change: "Literal(2, 1)",
        reason: "of the sums only the last lane's is used, and every lane on its way has one below it to add",
    },
];

/// Why a mistake makes no difference; `None` if it should be noticed.
pub(super) fn reason(mistake: &str) -> Option<&'static str> {
    let (line, change) = mistake.rsplit_once(" #")?;
    let change = format!("#{change}");
    let applies = |known: &&Equivalent| {
        (known.families.is_empty() || known.families.iter().any(|family| line.starts_with(family)))
            && line.contains(known.line)
            && change.contains(known.change)
    };
    ALL.iter().find(applies).map(|known| known.reason)
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn family_place_and_change_have_to_fit() {
        let mistake = |family: &str, change: &str| format!("{family}: start: sub.u32 %r, %r, %r; {change}");
        assert!(reason(&mistake("rope_neox_f32", "#1: Swap(1, 2)")).is_some());
        assert_eq!(reason(&mistake("rope_neox_f32", "#0: Swap(1, 2)")), None);
        assert_eq!(reason(&mistake("rope_neox_f32", "#11: Swap(1, 2)")), None);
        assert_eq!(reason(&mistake("embed_rows_f32", "#1: Swap(1, 2)")), None);
    }
}
