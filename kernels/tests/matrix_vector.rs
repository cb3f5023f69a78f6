//! Matrix-vector products: their text, and the bits that their cases ask for.

use kernels::cases::{Case, Expect, F32_BOUND, cases};
use kernels::gemv::{Gemv, GemvQ8};
use kernels::quantize::QuantizeQ8;
use kernels::{Kernel, KernelError};
use ptx_builder::Target;
use tensor_formats::ElementType;

/// Small shapes: every format, with and without a loop, with a part that only some threads have, with several warps for a
/// row, with rows that do not fill a block.
#[test]
fn text_of_small_shapes() -> Result<(), KernelError> {
    let mut kernels: Vec<Box<dyn Kernel>> = Vec::new();
    for element in ElementType::WEIGHTS {
        kernels.push(Box::new(Gemv::new(element, 64, 256, 1)?));
        if element.block_elements() > 1 {
            kernels.push(Box::new(GemvQ8::new(element, 64, 256, 1)?));
        }
    }
    kernels.push(Box::new(Gemv::new(ElementType::F32, 9, 37, 3)?));
    kernels.push(Box::new(GemvQ8::new(ElementType::Q4_K, 5, 8960, 2)?));
    kernels.push(Box::new(Gemv::new(ElementType::F32, 4, 9300, 1)?));
    kernels.push(Box::new(GemvQ8::new(ElementType::Q8_0, 4096, 1024, 1)?));
    kernels.push(Box::new(QuantizeQ8::new(2, 96)?));
    for kernel in kernels {
        insta::assert_snapshot!(kernel.name(), ptx_builder::print(&kernel.emit(Target::SM_80)?));
    }
    Ok(())
}

/// What the arithmetic gives in the kernels' order, against f64: the two expectations of every case.
#[test]
fn the_bits_that_cases_ask_for_are_near_the_reference() {
    let mut checked = 0;
    for case in cases("gemv") {
        let (bits, values, cols) = expectations(&case);
        for (bits, values) in bits.chunks(cols).zip(values.chunks(cols)) {
            let error: f64 = bits.iter().zip(values).map(|(b, v)| (f64::from(*b) - v).powi(2)).sum();
            let norm: f64 = values.iter().map(|v| v * v).sum();
            let relative = (error / norm).sqrt();
            assert!(relative <= F32_BOUND / 4.0, "{}: {relative:e}", case.name);
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked} rows");
}

fn expectations(case: &Case) -> (Vec<f32>, Vec<f64>, usize) {
    let (mut bits, mut near) = (Vec::new(), None);
    for check in &case.checks {
        match &check.expect {
            Expect::Bytes(bytes) => {
                let words = bytes.as_chunks::<4>().0;
                bits = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
            }
            Expect::Near { values, cols, .. } => near = Some((values.clone(), *cols)),
        }
    }
    let (values, cols) = near.unwrap_or_else(|| panic!("{} has no reference", case.name));
    assert_eq!(bits.len(), values.len(), "{}", case.name);
    (bits, values, cols)
}

#[test]
fn weights_and_activations_are_read_once() -> Result<(), KernelError> {
    let weights = 1536 * 8960 / 256 * 144;
    let cost = Gemv::new(ElementType::Q4_K, 1536, 8960, 5)?.cost(1000);
    assert_eq!(cost.bytes_read, weights + 5 * 8960 * 4);
    assert_eq!(cost.bytes_written, 5 * 1536 * 4);
    assert_eq!(cost.operations, 2 * 1536 * 8960 * 5);
    let cost = GemvQ8::new(ElementType::Q4_K, 1536, 8960, 5)?.cost(1000);
    assert_eq!(cost.bytes_read, weights + 5 * 8960 * 40 / 32);
    let cost = QuantizeQ8::new(5, 8960)?.cost(1000);
    assert_eq!((cost.bytes_read, cost.bytes_written), (5 * 8960 * 4, 5 * 8960 * 40 / 32));
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let message = |result: Result<Gemv, KernelError>| result.expect_err("it does not fit").to_string();
    let q4_k = ElementType::Q4_K;
    assert_eq!(
        message(Gemv::new(q4_k, 8, 300, 1)),
        "300 elements are not a whole number of Q4_K blocks of 256"
    );
    assert_eq!(message(Gemv::new(q4_k, 8, 256, 9)), "gemv: batch is 9, the most is 8");
    assert_eq!(message(Gemv::new(q4_k, 0, 256, 1)), "gemv: out_features is 0, it must be in 1..2^31");
    assert_eq!(message(Gemv::new(q4_k, 8, 0, 1)), "gemv: in_features is 0, it must be in 1..2^31");
    assert_eq!(
        message(Gemv::new(q4_k, 1 << 27, 256, 1)),
        "gemv: out_features is 134217728, the most is 67108864"
    );
    assert_eq!(message(Gemv::new(ElementType::U32, 8, 256, 1)), "gemv: weights of type U32");
    assert_eq!(
        message(Gemv::new(ElementType::F32, 1 << 26, 1 << 22, 1)),
        "gemv: w of 67108864 rows of 16777216 bytes exceeds 281474976710656 bytes"
    );
    let float = GemvQ8::new(ElementType::F16, 8, 256, 1).expect_err("no bytes to multiply");
    assert_eq!(float.to_string(), "gemv_q8: weights of type F16");
    let partial = QuantizeQ8::new(1, 33).expect_err("no whole groups");
    assert_eq!(partial.to_string(), "33 elements are not a whole number of Q8Act blocks of 32");
    let rows = QuantizeQ8::new(65_536, 32).expect_err("the grid ends");
    assert_eq!(rows.to_string(), "quantize_q8: rows is 65536, the most is 65535");
}
