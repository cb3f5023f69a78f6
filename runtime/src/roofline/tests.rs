//! Shares of the roof, tables and drawings of made-up measurements.

use super::*;

fn step(step: usize, name: &str, micros: f64, overlapped: Option<f64>, cost: (u64, u64, u64)) -> StepTime {
    let (bytes_read, bytes_written, operations) = cost;
    let cost = Cost { bytes_read, bytes_written, operations };
    StepTime { step, name: name.into(), micros, overlapped, cost, cold: bytes_read > 1000 }
}

/// Two layers of a product, of 2 and of 3 MB, and a copy, under a roof of 4 TB/s.
fn roofline() -> Roofline {
    let steps = vec![
        step(0, "copy", 1.0, None, (12, 12, 0)),
        step(1, "gemv_q8_q4_k_n64_b1", 3.0, Some(2.0), (2_000_000, 2_000, 8_000_000)),
        step(2, "gemv_q8_q4_k_n96_b1", 2.0, Some(1.0), (3_000_000, 3_000, 12_000_000)),
        step(3, "gemv_q8_q4_k_n64_b1", 3.0, Some(2.0), (2_000_000, 2_000, 8_000_000)),
    ];
    let roof = Roof { bytes_per_second: 4e12, measured: Some(1 << 30), operations_per_second: Some(60e12) };
    let profile = Profile { steps, micros: 5.5 };
    Roofline { model: "a <model> & \"more\"".into(), gpu: "NVIDIA H200".into(), context: 128, roof, profile }
}

#[test]
fn launches_add_up_by_kernel_and_by_family() {
    let roofline = roofline();
    let kernels = roofline.kernels();
    let brief: Vec<_> = kernels.iter().map(|k| (k.name.as_str(), k.launches, k.micros, k.added)).collect();
    let expected =
        [("copy", 1, 1.0, 1.0), ("gemv_q8_q4_k_n64_b1", 2, 6.0, 4.0), ("gemv_q8_q4_k_n96_b1", 1, 2.0, 1.0)];
    assert_eq!(brief, expected);
    // 4,004,000 bytes in 4 us are a little more than 1 TB/s of 4.
    assert!((roofline.share_of_roof(&kernels[1]) - 0.250_25).abs() < 1e-9);
    assert!((kernels[1].intensity() - 16_000_000.0 / 4_004_000.0).abs() < 1e-9);
    let families = roofline.families();
    let brief: Vec<_> = families.iter().map(|k| (k.name.as_str(), k.launches, k.added, k.cold)).collect();
    assert_eq!(brief, [("copy", 1, 1.0, false), ("gemv_q8_q4_k", 3, 5.0, true)]);
    let total = roofline.total();
    assert_eq!((total.launches, total.added, total.bytes()), (4, 6.0, 24 + 7_007_000));
}

#[test]
fn the_table_has_a_line_for_each_kernel_each_family_and_the_whole() {
    let table = roofline().to_string();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3 + 3 + 1 + 2 + 1 + 1 + 1, "{table}");
    assert!(lines[1].starts_with("read roof 4.000 TB/s, measured by reading 1024 MiB"), "{table}");
    let words: Vec<&str> = lines[4].split_whitespace().collect();
    let expected =
        ["2", "3.00", "2.00", "4.0", "66.7", "%", "2.002", "1.001", "25.0", "%", "gemv_q8_q4_k_n64_b1"];
    assert_eq!(words, expected);
    assert!(lines[3].contains("%* copy"), "what fits the L2 is marked: {table}");
    assert!(lines[10].contains("takes 5.5 us: 1.27 TB/s, 31.9 % of the roof"), "{table}");
}

#[test]
fn json_has_every_launch_and_the_sums() {
    let json = roofline().json();
    assert_eq!(json["launches"].as_array().map(Vec::len), Some(4));
    assert_eq!(json["launches"][3]["step"], 3);
    assert_eq!(json["launches"][1]["us_added"], 2.0);
    assert_eq!(json["kernels"][1]["us_added"], 4.0);
    assert_eq!(json["kernels"][1]["from_memory"], true);
    assert_eq!(json["families"].as_array().map(Vec::len), Some(2));
    assert_eq!((json["total"]["launches"].as_u64(), json["step_us"].as_f64()), (Some(4), Some(5.5)));
    assert_eq!((json["gpu"].as_str(), json["roof_bytes_per_s"].as_f64()), (Some("NVIDIA H200"), Some(4e12)));
}

/// Tags are closed in the order in which they were opened, and text has no bare markup.
fn check_xml(text: &str) {
    let mut open = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a bare > in {:?}", &rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap_or_default());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
}

#[test]
fn the_picture_is_xml_with_points_where_they_belong() {
    let roofline = roofline();
    let svg = roofline.svg();
    check_xml(&svg);
    assert!(svg.contains("a &lt;model&gt; &amp; &quot;more&quot; on NVIDIA H200"), "{svg}");
    assert!(svg.contains("prefers-color-scheme:dark"));
    // The copy has no operations, so there is one point; both are in the legend.
    assert_eq!(svg.matches("<circle").count(), 1);
    assert!(svg.contains("1  copy") && svg.contains("2  gemv_q8_q4_k"), "{svg}");
    // 4 operations a byte at 5.6 Top/s: the axes go from 1 to 100 and from 1e12 to 1e14.
    let number = |name: &str| {
        let text = svg.split("<circle").nth(1).and_then(|rest| rest.split(&format!("{name}=\"")).nth(1));
        text.and_then(|text| text.split('"').next()).and_then(|text| text.parse::<f64>().ok()).unwrap()
    };
    let (intensity, speed) = (28e6 / 7_007_000.0, 28e6 / 5e-6);
    let x = 76.0 + (560.0 - 76.0) * f64::log10(intensity) / 2.0;
    let y = 476.0 + (52.0 - 476.0) * f64::log10(speed / 1e12) / 2.0;
    assert!(
        (number("cx") - x).abs() < 0.1 && (number("cy") - y).abs() < 0.1,
        "{} {}",
        number("cx"),
        number("cy")
    );
}

#[test]
fn nothing_at_all_still_has_a_table_and_a_picture() {
    let empty = Roofline {
        profile: Profile { steps: Vec::new(), micros: 0.0 },
        roof: Roof { bytes_per_second: 4e12, measured: None, operations_per_second: None },
        ..roofline()
    };
    let text = empty.to_string() + &empty.svg();
    assert!(text.contains("as given") && !text.contains("NaN") && !text.contains("inf"), "{text}");
    check_xml(&empty.svg());
}
