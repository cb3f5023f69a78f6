//! What a sound file gives out, and what is refused by name.

use tensor_formats::{ElementType, FormatError};

use super::*;

fn parse(bytes: &[u8]) -> Result<Gguf, GgufError> {
    Gguf::parse(Storage::copy(bytes).unwrap())
}

/// A file with a value of every kind and two tensors.
pub(super) fn sample() -> Writer {
    let mut writer = Writer::new();
    writer
        .string("general.architecture", "llama")
        .u32("count", 7)
        .f32("ratio", 0.5)
        .bool("flag", true)
        .strings("names", &["a", "", "日"])
        .i32s("numbers", &[-1, 0, 1]);
    writer.f32_tensor("v", &[3], &[1.0, 2.0, 3.0]).unwrap();
    writer.tensor("m", ElementType::Q8_0, &[2, 32], (0..68).collect()).unwrap();
    writer
}

/// Replaces the only occurrence of `from`.
fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let found: Vec<_> = bytes.windows(from.len()).enumerate().filter(|(_, w)| w == &from).collect();
    assert_eq!(found.len(), 1, "{from:?} must occur once");
    let at = found[0].0;
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn what_is_written_can_be_read() {
    let gguf = parse(&sample().finish().unwrap()).unwrap();
    let metadata = gguf.metadata();
    assert_eq!((gguf.version(), gguf.alignment(), metadata.len()), (3, 32, 6));
    assert_eq!(metadata.str("general.architecture"), Ok("llama"));
    assert_eq!(metadata.u32("count"), Ok(7));
    assert_eq!(metadata.f32("ratio"), Ok(0.5));
    assert_eq!(metadata.opt_bool("flag"), Ok(Some(true)));
    assert_eq!(metadata.strings("names"), Ok(vec!["a", "", "日"]));
    assert_eq!(metadata.opt_i32s("numbers"), Ok(Some(vec![-1, 0, 1])));
    let m = gguf.tensor("m").unwrap();
    assert_eq!((m.dims.as_slice(), m.ty, m.byte_len()), (&[2, 32][..], Ok(ElementType::Q8_0), Some(68)));
    assert_eq!(gguf.tensor_bytes("m").unwrap(), (0..68).collect::<Vec<u8>>());
    assert!(gguf.tensor_bytes("v").unwrap().as_ptr().addr().is_multiple_of(IMAGE_ALIGNMENT));
}

#[test]
fn version_2_is_read_and_others_are_refused() {
    let bytes = sample().finish().unwrap();
    let version = |v: [u8; 4]| parse(&[&bytes[..4], &v, &bytes[8..]].concat());
    assert_eq!(version([2, 0, 0, 0]).unwrap().version(), 2);
    assert_eq!(version([1, 0, 0, 0]).unwrap_err(), GgufError::Version { found: 1 });
    assert_eq!(version([4, 0, 0, 0]).unwrap_err(), GgufError::Version { found: 4 });
    assert_eq!(version([0, 0, 0, 3]).unwrap_err(), GgufError::BigEndian);
}

#[test]
fn other_files_are_not_gguf() {
    assert_eq!(parse(b"#!/bin/sh\n").unwrap_err(), GgufError::Magic { found: *b"#!/b" });
    let message = parse(b"").unwrap_err().to_string();
    assert_eq!(message, "magic at byte 0 needs 4 bytes, but 0 are left in the file");
}

#[test]
fn getters_name_key_and_types() {
    let gguf = parse(&sample().finish().unwrap()).unwrap();
    let metadata = gguf.metadata();
    let message = |error: GgufError| error.to_string();
    assert_eq!(message(metadata.u32("none").unwrap_err()), "metadata key \"none\" is missing (type u32)");
    assert_eq!(
        message(metadata.u32("ratio").unwrap_err()),
        "metadata key \"ratio\" has the type f32, u32 is needed"
    );
    let strings = message(metadata.strings("numbers").unwrap_err());
    assert_eq!(strings, "metadata key \"numbers\" has the type array of i32, array of string is needed");
    assert!(matches!(metadata.str("names"), Err(GgufError::WrongType { .. })));
    assert!(matches!(metadata.opt_bool("count"), Err(GgufError::WrongType { .. })));
    assert!(matches!(metadata.opt_i32s("names"), Err(GgufError::WrongType { .. })));
    assert!(matches!(metadata.f32("count"), Err(GgufError::WrongType { .. })));
}

#[test]
fn doubles_that_floats_cannot_hold_are_refused() {
    let bytes = sample().finish().unwrap();
    let float = [&ValueType::F32.id().to_le_bytes()[..], &0.5f32.to_le_bytes()].concat();
    let ratio = |value: f64| {
        let double = [&ValueType::F64.id().to_le_bytes()[..], &value.to_le_bytes()].concat();
        // Everything after it moves by 4 bytes; the data does not, as there is padding before it or behind it.
        let mut bytes = patched(&bytes, &float, &double);
        bytes.resize(bytes.len() + 32, 0);
        parse(&bytes).unwrap().metadata().f32("ratio").map_err(|error| error.to_string())
    };
    for value in [0.5, -0.0, f64::INFINITY, -3e38, 1e-44] {
        assert_eq!(ratio(value), Ok(value as f32));
    }
    assert!(ratio(f64::NAN).unwrap().is_nan());
    for (value, told) in [(1e-300, "1e-300"), (-1e39, "-1e39")] {
        let expected = format!("metadata key \"ratio\" is {told}, must be a number that an f32 can hold");
        assert_eq!(ratio(value), Err(expected));
    }
}

#[test]
fn a_count_larger_than_the_file_is_refused_before_it_is_believed() {
    let bytes = sample().finish().unwrap();
    let huge = u64::MAX.to_le_bytes();
    let tensors = parse(&[&bytes[..8], &huge, &bytes[16..]].concat()).unwrap_err();
    assert!(
        matches!(
            &tensors,
            GgufError::Truncated { field: Field::Header("number of tensors"), offset: 16, .. }
        ),
        "{tensors}"
    );
    let entries = parse(&[&bytes[..16], &huge, &bytes[24..]].concat()).unwrap_err();
    assert!(entries.to_string().starts_with("number of metadata entries at byte 24 needs"), "{entries}");
    let array = [&ValueType::I32.id().to_le_bytes()[..], &3u64.to_le_bytes()].concat();
    let long = [&ValueType::I32.id().to_le_bytes()[..], &(1u64 << 62).to_le_bytes()].concat();
    let error = parse(&patched(&bytes, &array, &long)).unwrap_err();
    assert!(error.to_string().starts_with("metadata numbers at byte"), "{error}");
}

#[test]
fn nesting_without_end_is_refused() {
    let mut writer = Writer::new();
    writer.i32s("deep", &[0; 64]);
    let mut bytes = writer.finish().unwrap();
    // The array's element type and length, over and over: an array of one array of one array ...
    let level = [&ValueType::Array.id().to_le_bytes()[..], &1u64.to_le_bytes()].concat();
    let start = 24 + 8 + 4 + 4;
    for at in (start..bytes.len() - 12).step_by(12) {
        bytes[at..at + 12].copy_from_slice(&level);
    }
    assert!(matches!(parse(&bytes), Err(GgufError::Depth { limit: 4, .. })));
}

#[test]
fn bad_values_are_named() {
    let bytes = sample().finish().unwrap();
    let flag = [&b"flag"[..], &7u32.to_le_bytes(), &[1]].concat();
    let error = parse(&patched(&bytes, &flag, &[&flag[..8], &[2]].concat())).unwrap_err();
    assert!(matches!(error, GgufError::Bool { found: 2, .. }), "{error}");
    let error =
        parse(&patched(&bytes, &flag, &[b"flag", &99u32.to_le_bytes()[..], &[1]].concat())).unwrap_err();
    assert!(
        error.to_string().contains("metadata flag at byte") && error.to_string().contains("type 99"),
        "{error}"
    );
    let error = parse(&patched(&bytes, "日".as_bytes(), &[0xff, 0xfe, 0xfd])).unwrap_err();
    assert!(matches!(error, GgufError::Utf8 { .. }), "{error}");
}

#[test]
fn names_occur_once() {
    let mut keys = Writer::new();
    keys.u32("k", 1).u32("k", 2);
    let error = parse(&keys.finish().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "metadata key \"k\" occurs twice");
    let mut tensors = Writer::new();
    tensors.f32_tensor("t", &[1], &[0.0]).unwrap().f32_tensor("t", &[1], &[0.0]).unwrap();
    assert_eq!(parse(&tensors.finish().unwrap()).unwrap_err().to_string(), "tensor \"t\" occurs twice");
}

#[test]
fn alignment_is_checked() {
    for bad in [0, 1, 4, 24, 48] {
        let mut writer = Writer::new();
        writer.u32("general.alignment", bad);
        assert_eq!(parse(&writer.finish().unwrap()).unwrap_err(), GgufError::Alignment { found: bad });
    }
    let mut writer = Writer::new();
    writer.u32("general.alignment", 1 << 31);
    writer.f32_tensor("t", &[1], &[0.0]).unwrap();
    assert!(matches!(parse(&writer.finish().unwrap()), Err(GgufError::OutOfFile { .. })));
}

#[test]
fn tensors_lie_in_the_file_and_apart() {
    let bytes = sample().finish().unwrap();
    // The description of "m": rank, dimensions innermost first, type, offset.
    let described = |offset: u64| [&8u32.to_le_bytes()[..], &offset.to_le_bytes()].concat();
    let moved = |offset: u64| parse(&patched(&bytes, &described(32), &described(offset))).unwrap_err();
    assert!(matches!(moved(40), GgufError::TensorAlignment { offset: 40, .. }));
    assert!(matches!(moved(0), GgufError::Overlap { .. }));
    assert!(matches!(moved(1 << 40), GgufError::OutOfFile { .. }));
    assert!(matches!(moved(u64::MAX - 31), GgufError::OutOfFile { .. }));
    assert!(matches!(parse(&bytes[..bytes.len() - 40]), Err(GgufError::OutOfFile { .. })));
}

#[test]
fn impossible_shapes_are_refused() {
    let bytes = sample().finish().unwrap();
    let dims = |a: u64, b: u64| [&2u32.to_le_bytes()[..], &a.to_le_bytes(), &b.to_le_bytes()].concat();
    let reshaped = |a, b| parse(&patched(&bytes, &dims(32, 2), &dims(a, b))).unwrap_err();
    assert!(matches!(reshaped(0, 2), GgufError::Dimensions { .. }));
    assert!(matches!(reshaped(1 << 40, 1 << 40), GgufError::Overflow { .. }));
    assert!(matches!(
        reshaped(33, 2),
        GgufError::TensorFormat { source: FormatError::PartialBlock { .. }, .. }
    ));
    let rank = [&5u32.to_le_bytes()[..], &dims(32, 2)[4..]].concat();
    assert!(matches!(parse(&patched(&bytes, &dims(32, 2), &rank)), Err(GgufError::Rank { found: 5, .. })));
}

#[test]
fn a_tensor_of_a_type_that_cannot_be_read_is_listed_but_not_given_out() {
    let bytes = sample().finish().unwrap();
    let ty = |ty: u32| [&ty.to_le_bytes()[..], &32u64.to_le_bytes()].concat();
    let gguf = parse(&patched(&bytes, &ty(8), &ty(11))).unwrap();
    let tensor = gguf.tensor("m").unwrap();
    assert_eq!((tensor.type_name().as_str(), tensor.byte_len()), ("Q3_K", None));
    let message = crate::error::chain(&gguf.tensor_bytes("m").unwrap_err());
    assert_eq!(message, "tensor \"m\": tensor type Q3_K (11) is not supported");
}

#[test]
fn an_image_must_be_aligned() {
    static IMAGE: [u64; 8] = [0; 8];
    let bytes: &'static [u8] = bytemuck::cast_slice(&IMAGE);
    let off = bytes.as_ptr().align_offset(IMAGE_ALIGNMENT) + 1;
    assert!(matches!(Gguf::from_static(&bytes[off..]), Err(GgufError::Misaligned { .. })));
}

#[test]
fn the_writer_checks_what_it_is_given() {
    let mut writer = Writer::new();
    assert!(writer.tensor("t", ElementType::U32, &[4], vec![0; 16]).is_err());
    assert!(writer.tensor("t", ElementType::Q4_K, &[2, 100], vec![]).is_err());
    assert!(writer.tensor("t", ElementType::F32, &[4], vec![0; 15]).is_err());
    let dims: [&[usize]; 6] =
        [&[], &[1; 5], &[0], &[4, 0], &[1 << 32, 1 << 32, 4], &[usize::MAX, 1, usize::MAX, 1]];
    for dims in dims {
        assert!(writer.describe("t", ElementType::F32, dims).is_err(), "{dims:?}");
    }
    assert!(parse(&writer.finish().unwrap()).unwrap().tensors().is_empty());
    for size in [usize::MAX, usize::MAX / 2] {
        // Each could be a file's, and all of them none's.
        writer.describe("large", ElementType::Q8_0, &[size / 34, 32]).unwrap();
        assert!(matches!(writer.finish(), Err(crate::Error::Memory { .. })));
    }
}
