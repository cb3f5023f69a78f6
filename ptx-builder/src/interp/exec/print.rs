//! `printf` of kernels: the format and its arguments are in the kernel's memory.

use super::block::Env;
use crate::inst::Space;
use crate::interp::finding::Fault;
use crate::interp::memory::{Access, Site, Strength, Values};
use crate::interp::regs::LANES;

/// The longest text that is read.
const LONGEST: usize = 4096;

/// Warp, program counter and lane of a call.
type At = (u32, u32, usize);

fn read(env: &mut Env<'_, '_>, (warp, pc, lane): At, address: u64, bytes: u8) -> Result<u64, Fault> {
    let mut addresses = [0; LANES];
    addresses[lane] = address;
    let mut data: Box<Values> = Box::new([[0; 8]; LANES]);
    let access = Access { space: Space::Generic, bytes, strength: Strength::Weak };
    env.memory.load(Site { warp, pc }, &access, 1 << lane, &addresses, &mut data)?;
    let [low, high, ..] = data[lane];
    Ok(match bytes {
        8 => u64::from(low) | u64::from(high) << 32,
        4 => u64::from(low),
        _ => u64::from(low & 0xFF),
    })
}

/// The text at a generic address, up to its zero byte.
pub(super) fn text(env: &mut Env<'_, '_>, at: At, address: u64) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST {
        let byte = read(env, at, address.wrapping_add(bytes.len() as u64), 1)?;
        if byte == 0 {
            break;
        }
        bytes.push(byte as u8);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What `vprintf` prints, and how many conversions it made.
pub(super) fn vprintf(
    env: &mut Env<'_, '_>,
    at: At,
    format: u64,
    values: u64,
) -> Result<(String, u64), Fault> {
    let format = text(env, at, format)?;
    let mut out = String::new();
    let mut next = values;
    let mut count = 0;
    let mut rest = format.as_str();
    while let Some(percent) = rest.find('%') {
        out.push_str(&rest[..percent]);
        rest = &rest[percent + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let Some(end) = rest.find(|c: char| c.is_ascii_alphabetic() && !"hlLqjzt".contains(c)) else {
            out.push('%');
            break;
        };
        let (spec, conversion) = (&rest[..end], rest.as_bytes()[end] as char);
        rest = &rest[end + 1..];
        let long = spec.contains(['l', 'j', 'z', 't', 'q']);
        let mut take = |bytes: u64| {
            let address = next.wrapping_add(bytes - 1) & !(bytes - 1);
            next = address.wrapping_add(bytes);
            address
        };
        let mut flags = Flags::parse(spec);
        if spec.contains('*') {
            let width = read(env, at, take(4), 4)? as u32;
            flags.width = width.min(LONGEST as u32) as usize;
        }
        count += 1;
        let body = match conversion {
            'd' | 'i' => {
                let value = if long {
                    read(env, at, take(8), 8)?.cast_signed()
                } else {
                    i64::from((read(env, at, take(4), 4)? as u32).cast_signed())
                };
                flags.sign(value < 0, value.unsigned_abs().to_string())
            }
            'u' | 'x' | 'X' | 'o' => {
                let value = if long { read(env, at, take(8), 8)? } else { read(env, at, take(4), 4)? };
                match conversion {
                    'u' => value.to_string(),
                    'x' => flags.prefixed("0x", format!("{value:x}")),
                    'X' => flags.prefixed("0X", format!("{value:X}")),
                    _ => flags.prefixed("0", format!("{value:o}")),
                }
            }
            'c' => {
                let value = read(env, at, take(4), 4)? as u8;
                flags.zero = false;
                char::from(value).to_string()
            }
            'p' => format!("{:#x}", read(env, at, take(8), 8)?),
            's' => {
                let address = read(env, at, take(8), 8)?;
                flags.zero = false;
                let string = text(env, at, address)?;
                string.chars().take(flags.precision.unwrap_or(LONGEST)).collect()
            }
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
                let value = f64::from_bits(read(env, at, take(8), 8)?);
                let precision = flags.precision.unwrap_or(6).min(64);
                let magnitude = value.abs();
                let digits = match conversion.to_ascii_lowercase() {
                    _ if !value.is_finite() => if value.is_nan() { "nan" } else { "inf" }.to_owned(),
                    'f' => format!("{magnitude:.precision$}"),
                    'e' => exponent(magnitude, precision),
                    _ => general(magnitude, precision.max(1)),
                };
                flags.sign(value.is_sign_negative() && !value.is_nan(), digits)
            }
            other => format!("%{spec}{other}"),
        };
        out.push_str(&flags.pad(body));
    }
    out.push_str(rest);
    Ok((out, count))
}

/// `1.5e+02` as C prints it.
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((digits, power)) => {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
            format!("{digits}e{sign}{power:0>2}")
        }
        None => text,
    }
}

/// `%g`: the shorter of the two notations, without zeros at the end.
fn general(value: f64, precision: usize) -> String {
    let scientific = exponent(value, precision - 1);
    let power: i32 = scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    let trim = |digits: &str| {
        if digits.contains('.') {
            digits.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            digits.to_owned()
        }
    };
    if power < -4 || power >= precision as i32 {
        match scientific.split_once('e') {
            Some((digits, power)) => format!("{}e{power}", trim(digits)),
            None => scientific,
        }
    } else {
        let places = usize::try_from(precision as i32 - 1 - power).unwrap_or(0);
        trim(&format!("{value:.places$}"))
    }
}

/// Flags, width and precision of a conversion.
struct Flags {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

impl Flags {
    fn parse(spec: &str) -> Self {
        let digits = spec.trim_start_matches(['-', '+', ' ', '#', '0']);
        let flags = &spec[..spec.len() - digits.len()];
        let number = |text: &str| {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            text[..end].parse::<usize>().unwrap_or(0).min(LONGEST)
        };
        Self {
            left: flags.contains('-'),
            zero: flags.contains('0'),
            plus: flags.contains('+'),
            space: flags.contains(' '),
            alternate: flags.contains('#'),
            width: number(digits),
            precision: digits.split_once('.').map(|(_, precision)| number(precision)),
        }
    }

    fn sign(&self, negative: bool, digits: String) -> String {
        let sign = if negative {
            "-"
        } else if self.plus {
            "+"
        } else if self.space {
            " "
        } else {
            ""
        };
        format!("{sign}{digits}")
    }

    fn prefixed(&self, prefix: &str, digits: String) -> String {
        if self.alternate && digits != "0" { format!("{prefix}{digits}") } else { digits }
    }

    fn pad(&self, body: String) -> String {
        let missing = self.width.saturating_sub(body.chars().count());
        if missing == 0 {
            body
        } else if self.left {
            format!("{body}{}", " ".repeat(missing))
        } else if self.zero {
            let start = body.len() - body.trim_start_matches(['-', '+', ' ']).len();
            format!("{}{}{}", &body[..start], "0".repeat(missing), &body[start..])
        } else {
            format!("{}{body}", " ".repeat(missing))
        }
    }
}
