//! Typed access to the metadata of a file.

use std::collections::HashMap;

use super::cursor::Cursor;
use super::error::{Field, FoundType, GgufError};
use super::storage::Storage;
use super::value::{ArrayRef, Value, ValueType};

/// The metadata of a GGUF file. A getter's error names the key, the type that was needed and the one found.
#[derive(Debug, Clone)]
pub struct Metadata {
    storage: Storage,
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    pub(super) fn new(storage: Storage, entries: Vec<(String, Value)>) -> Result<Self, GgufError> {
        let mut index = HashMap::with_capacity(entries.len());
        for (i, (key, _)) in entries.iter().enumerate() {
            if index.insert(key.clone(), i).is_some() {
                return Err(GgufError::Duplicate { what: "metadata key", name: key.clone() });
            }
        }
        Ok(Self { storage, entries, index })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every key and value, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    /// An unsigned number below 2^32, from an integer of any width.
    ///
    /// # Errors
    /// The key is missing, is no integer, or is out of range.
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        self.opt_u32(key)?.ok_or_else(|| missing(key, "u32"))
    }

    /// As [`u32`](Self::u32), where the key may be missing.
    ///
    /// # Errors
    /// The value is no integer, or is out of range.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value {
            Value::U8(_) | Value::U16(_) | Value::U32(_) | Value::U64(_) => value.as_unsigned(),
            Value::I8(_) | Value::I16(_) | Value::I32(_) | Value::I64(_) => value.as_unsigned(),
            other => return Err(wrong_type(key, "u32", other)),
        };
        match number.and_then(|n| u32::try_from(n).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(GgufError::OutOfRange {
                key: key.to_owned(),
                value: self.display(value),
                expected: "a number from 0 to 4294967295",
            }),
        }
    }

    /// A number as f32, from either float type.
    ///
    /// # Errors
    /// The key is missing, is no float, or is a number that f32 has only as zero or infinity.
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        self.opt_f32(key)?.ok_or_else(|| missing(key, "f32"))
    }

    /// As [`f32`](Self::f32), where the key may be missing.
    ///
    /// # Errors
    /// The value is no float, or is a number that f32 has only as zero or infinity.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(v)) => Ok(Some(*v)),
            Some(Value::F64(v)) => {
                let single = *v as f32;
                if (single == 0.0) != (*v == 0.0) || single.is_infinite() != v.is_infinite() {
                    return Err(GgufError::OutOfRange {
                        key: key.to_owned(),
                        value: format!("{v:e}"),
                        expected: "a number that an f32 can hold",
                    });
                }
                Ok(Some(single))
            }
            Some(other) => Err(wrong_type(key, "f32", other)),
        }
    }

    /// A truth value that may be missing.
    ///
    /// # Errors
    /// The value is no truth value.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(other) => Err(wrong_type(key, "bool", other)),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// The key is missing or is no string.
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        self.opt_str(key)?.ok_or_else(|| missing(key, "string"))
    }

    /// As [`str`](Self::str), where the key may be missing.
    ///
    /// # Errors
    /// The value is no string.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(v)) => Ok(Some(v)),
            Some(other) => Err(wrong_type(key, "string", other)),
        }
    }

    /// An array of strings, borrowed from the file.
    ///
    /// # Errors
    /// The key is missing or is no array of strings.
    pub fn strings(&self, key: &str) -> Result<Vec<&str>, GgufError> {
        const EXPECTED: &str = "array of string";
        let array = self.array(key, EXPECTED)?.ok_or_else(|| missing(key, EXPECTED))?;
        if array.ty != ValueType::String {
            return Err(wrong_array(key, EXPECTED, array));
        }
        let name = || Field::Value(key.to_owned());
        let mut cursor = Cursor::new(self.array_bytes(array));
        let mut strings = Vec::with_capacity(array.len);
        for _ in 0..array.len {
            // Checked when the file was opened; checked again because another program may have written to it since.
            strings.push(cursor.str(name)?);
        }
        Ok(strings)
    }

    /// An array of i32 (or u32 below 2^31) that may be missing.
    ///
    /// # Errors
    /// The value is no array of those, or a number is out of range.
    pub fn opt_i32s(&self, key: &str) -> Result<Option<Vec<i32>>, GgufError> {
        const EXPECTED: &str = "array of i32";
        let Some(array) = self.array(key, EXPECTED)? else { return Ok(None) };
        let words = self.array_bytes(array).chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
        match array.ty {
            ValueType::I32 => Ok(Some(words.map(i32::from_le_bytes).collect())),
            ValueType::U32 => words
                .map(|word| {
                    let value = u32::from_le_bytes(word);
                    i32::try_from(value).map_err(|_| GgufError::OutOfRange {
                        key: key.to_owned(),
                        value: value.to_string(),
                        expected: "a list of numbers below 2147483648",
                    })
                })
                .collect::<Result<_, _>>()
                .map(Some),
            _ => Err(wrong_array(key, EXPECTED, array)),
        }
    }

    /// The value, for people: strings quoted, escaped and shortened; arrays as their type and length.
    pub fn display(&self, value: &Value) -> String {
        const SHOWN: usize = 96;
        match value {
            Value::U8(v) => v.to_string(),
            Value::I8(v) => v.to_string(),
            Value::U16(v) => v.to_string(),
            Value::I16(v) => v.to_string(),
            Value::U32(v) => v.to_string(),
            Value::I32(v) => v.to_string(),
            Value::F32(v) => v.to_string(),
            Value::Bool(v) => v.to_string(),
            Value::U64(v) => v.to_string(),
            Value::I64(v) => v.to_string(),
            Value::F64(v) => v.to_string(),
            Value::Array(array) => format!("[{}; {}]", array.ty, array.len),
            Value::String(v) => match v.char_indices().nth(SHOWN) {
                None => format!("{v:?}"),
                Some((cut, _)) => format!("{:?}... ({} bytes)", &v[..cut], v.len()),
            },
        }
    }

    fn array(&self, key: &str, expected: &'static str) -> Result<Option<&ArrayRef>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(array)),
            Some(other) => Err(wrong_type(key, expected, other)),
        }
    }

    fn array_bytes(&self, array: &ArrayRef) -> &[u8] {
        self.storage.slice(array.offset..array.offset + array.bytes)
    }
}

fn missing(key: &str, expected: &'static str) -> GgufError {
    GgufError::MissingKey { key: key.to_owned(), expected }
}

fn wrong_type(key: &str, expected: &'static str, found: &Value) -> GgufError {
    match found {
        Value::Array(array) => wrong_array(key, expected, array),
        other => GgufError::WrongType { key: key.to_owned(), expected, found: FoundType::One(other.ty()) },
    }
}

fn wrong_array(key: &str, expected: &'static str, array: &ArrayRef) -> GgufError {
    GgufError::WrongType { key: key.to_owned(), expected, found: FoundType::ArrayOf(array.ty) }
}
