//! A position in the bytes of a file, from which nothing is read before it is known to be there.

use super::error::{Field, GgufError};
use super::value::{ArrayRef, Value, ValueType};

/// How deep arrays may nest. The format sets no limit, and files in use nest none.
const MAX_DEPTH: usize = 4;

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

/// A field's name, made only when an error needs it.
pub(super) trait Name: Copy {
    fn field(self) -> Field;
}

impl<F: Fn() -> Field + Copy> Name for F {
    fn field(self) -> Field {
        self()
    }
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    pub fn offset(&self) -> usize {
        self.offset
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    fn truncated(&self, needed: u128, name: impl Name) -> GgufError {
        GgufError::Truncated { field: name.field(), offset: self.offset, needed, remaining: self.remaining() }
    }

    pub fn take(&mut self, count: usize, name: impl Name) -> Result<&'a [u8], GgufError> {
        match self.bytes.get(self.offset..).and_then(|rest| rest.get(..count)) {
            Some(taken) => {
                self.offset += count;
                Ok(taken)
            }
            None => Err(self.truncated(count as u128, name)),
        }
    }

    pub fn array<const N: usize>(&mut self, name: impl Name) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, name)?);
        Ok(out)
    }

    pub fn u32(&mut self, name: impl Name) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(name)?))
    }

    pub fn u64(&mut self, name: impl Name) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(name)?))
    }

    /// A number of things that take at least `each` bytes. No count passes that the rest of the file cannot hold, so
    /// it is safe to allocate for.
    pub fn count(&mut self, each: usize, name: impl Name) -> Result<usize, GgufError> {
        let count = self.u64(name)?;
        let needed = u128::from(count) * each as u128;
        if needed > self.remaining() as u128 {
            return Err(self.truncated(needed, name));
        }
        Ok(count as usize)
    }

    pub fn str(&mut self, name: impl Name) -> Result<&'a str, GgufError> {
        let length = self.count(1, name)?;
        let offset = self.offset;
        let bytes = self.take(length, name)?;
        std::str::from_utf8(bytes).map_err(|_| GgufError::Utf8 { field: name.field(), offset })
    }

    pub fn value_type(&mut self, name: impl Name) -> Result<ValueType, GgufError> {
        let offset = self.offset;
        let found = self.u32(name)?;
        ValueType::from_id(found).ok_or_else(|| GgufError::ValueType { field: name.field(), offset, found })
    }

    fn bool(&mut self, name: impl Name) -> Result<bool, GgufError> {
        let offset = self.offset;
        match self.array(name)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(GgufError::Bool { field: name.field(), offset, found }),
        }
    }

    pub fn value(&mut self, ty: ValueType, name: impl Name) -> Result<Value, GgufError> {
        Ok(match ty {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.array(name)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.array(name)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.array(name)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.array(name)?)),
            ValueType::U32 => Value::U32(self.u32(name)?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.array(name)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.array(name)?)),
            ValueType::Bool => Value::Bool(self.bool(name)?),
            ValueType::String => Value::String(self.str(name)?.to_owned()),
            ValueType::Array => Value::Array(self.skip_array(1, name)?),
            ValueType::U64 => Value::U64(self.u64(name)?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.array(name)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.array(name)?)),
        })
    }

    /// Checks an array to its end and says where it is.
    fn skip_array(&mut self, depth: usize, name: impl Name) -> Result<ArrayRef, GgufError> {
        if depth > MAX_DEPTH {
            return Err(GgufError::Depth { field: name.field(), offset: self.offset, limit: MAX_DEPTH });
        }
        let ty = self.value_type(name)?;
        let len = self.count(ty.min_bytes(), name)?;
        let offset = self.offset;
        match ty {
            ValueType::String => {
                for _ in 0..len {
                    self.str(name)?;
                }
            }
            ValueType::Array => {
                for _ in 0..len {
                    self.skip_array(depth + 1, name)?;
                }
            }
            ValueType::Bool => {
                for _ in 0..len {
                    self.bool(name)?;
                }
            }
            fixed => {
                self.take(len * fixed.min_bytes(), name)?;
            }
        }
        Ok(ArrayRef { ty, len, offset, bytes: self.offset - offset })
    }
}
