//! What the functions of a header mean: generators of inputs, and references of outputs.
//!
//! They are written for the reader's trust, not for speed, and share no code with the interpreter.

mod block;
mod call;
mod elementwise;
mod float;
mod generate;
mod matrix;
mod warp;

use std::collections::HashMap;

use crate::data::{Data, Elem};
use crate::expr::Expr;

/// The names that an expression may use, with their values before the launch.
pub type Names = HashMap<String, Data>;

/// An argument of a function. A number has no type of its own yet.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Int(i128),
    Float(f64),
    Data(Data),
}

/// A call of a function of the header.
pub(crate) struct Call<'a> {
    /// The function.
    pub name: &'a str,
    /// The element type of the result that the directive declares.
    pub elem: Elem,
    /// The length of the declared result, unless this call is a part of it.
    pub len: Option<usize>,
    args: Vec<Value>,
}

type Reference = fn(&Call<'_>) -> Result<Data, String>;

/// The values of an expression: exactly `len` elements of type `elem`, of which a single one stands for all.
///
/// # Errors
/// Unknown names and functions, arguments that do not fit, another length or type.
pub fn evaluate(expr: &Expr, elem: Elem, len: usize, names: &Names) -> Result<Data, String> {
    let mut data = into_data(value(expr, elem, Some(len), names)?, elem);
    if data.elem != elem {
        return Err(format!("this gives {}, not {elem}", data.elem));
    }
    if data.len() == 1 && len > 1 {
        data.bits = vec![data.bits[0]; len];
    }
    if data.len() != len {
        return Err(format!("this gives {} elements, not {len}", data.len()));
    }
    Ok(data)
}

fn value(expr: &Expr, elem: Elem, len: Option<usize>, names: &Names) -> Result<Value, String> {
    Ok(match expr {
        Expr::Int(v) => Value::Int(*v),
        Expr::Float(v) => Value::Float(*v),
        Expr::Name(name) => Value::Data(
            names.get(name).cloned().ok_or_else(|| format!("`{name}` has no value before the launch"))?,
        ),
        Expr::List(members) => {
            let mut bits = Vec::new();
            for member in members {
                let data = into_data(value(member, elem, None, names)?, elem);
                if data.elem != elem {
                    return Err(format!("a list of {elem} has a member of {}", data.elem));
                }
                bits.extend(data.bits);
            }
            Value::Data(Data { elem, bits })
        }
        Expr::Call(name, args) => {
            let reference = find(name).ok_or_else(|| format!("unknown function `{name}`"))?;
            // Within a conversion, literals have the type of what is converted.
            let args = args.iter().map(|arg| value(arg, elem, len, names)).collect::<Result<_, _>>()?;
            let call = Call { name, elem, len, args };
            Value::Data(
                reference(&call).map_err(|e| if e.contains('`') { e } else { format!("`{name}`: {e}") })?,
            )
        }
    })
}

fn into_data(value: Value, elem: Elem) -> Data {
    match value {
        Value::Int(v) => Data::ints(elem, [v]),
        Value::Float(v) => Data::floats(elem, [v]),
        Value::Data(data) => data,
    }
}

fn find(name: &str) -> Option<Reference> {
    [generate::find, elementwise::find, float::find, block::find, matrix::find, warp::find, call::find]
        .into_iter()
        .find_map(|family: fn(&str) -> Option<Reference>| family(name))
}

impl Call<'_> {
    /// The type of the operands: that of the first argument with a type, else that of the result.
    fn operand_elem(&self) -> Elem {
        let typed = self.args.iter().find_map(|arg| match arg {
            Value::Data(data) => Some(data.elem),
            _ => None,
        });
        typed.unwrap_or(self.elem)
    }

    /// How many arguments there are.
    fn count(&self) -> usize {
        self.args.len()
    }

    /// Argument `i`; numbers take the type of the other operands.
    fn data(&self, i: usize) -> Result<Data, String> {
        let arg = self.args.get(i).ok_or_else(|| format!("argument {} is missing", i + 1))?;
        Ok(into_data(arg.clone(), self.operand_elem()))
    }

    /// Argument `i`; a number has the type of the result.
    fn args_data(&self, i: usize) -> Result<Data, String> {
        let arg = self.args.get(i).ok_or_else(|| format!("argument {} is missing", i + 1))?;
        Ok(into_data(arg.clone(), self.elem))
    }

    /// Argument `i`: 32-bit words, or a number for all.
    fn typed_words(&self, i: usize) -> Result<Data, String> {
        let arg = self.args.get(i).ok_or_else(|| format!("argument {} is missing", i + 1))?;
        Ok(into_data(arg.clone(), Elem::U32))
    }

    /// Argument `i`, of a given type.
    fn typed(&self, i: usize, elem: Elem) -> Result<Data, String> {
        let data = into_data(
            self.args.get(i).ok_or_else(|| format!("argument {} is missing", i + 1))?.clone(),
            elem,
        );
        if data.elem == elem {
            Ok(data)
        } else {
            Err(format!("argument {} is {}, not {elem}", i + 1, data.elem))
        }
    }

    /// Argument `i`, one integer.
    fn int(&self, i: usize) -> Result<i128, String> {
        match self.args.get(i) {
            Some(Value::Int(v)) => Ok(*v),
            Some(Value::Data(data)) if data.len() == 1 && !data.elem.is_float() => Ok(data.int(0)),
            _ => Err(format!("argument {} is not an integer", i + 1)),
        }
    }

    /// Argument `i`, a size.
    fn size(&self, i: usize) -> Result<usize, String> {
        usize::try_from(self.int(i)?).map_err(|_| format!("argument {} is not a size", i + 1))
    }

    /// Argument `i`, one number.
    fn float(&self, i: usize) -> Result<f64, String> {
        match self.args.get(i) {
            Some(Value::Int(v)) => Ok(*v as f64),
            Some(Value::Float(v)) => Ok(*v),
            Some(Value::Data(data)) if data.len() == 1 => Ok(data.f64(0)),
            _ => Err(format!("argument {} is not a number", i + 1)),
        }
    }

    /// The length that the operands share; single elements go with any.
    fn common_len(&self) -> Result<usize, String> {
        let mut common = 1;
        for i in 0..self.count() {
            match self.data(i)?.len() {
                1 => {}
                len if common == 1 || common == len => common = len,
                len => return Err(format!("operands of {common} and {len} elements")),
            }
        }
        Ok(common)
    }

    /// The declared length.
    fn len(&self) -> Result<usize, String> {
        self.len.ok_or_else(|| "needs a length, which a member of a list does not have".into())
    }
}
