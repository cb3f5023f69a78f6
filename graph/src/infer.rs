//! The shape and type of each operation's result, and what its operands have to be.

use tensor_formats::ElementType::{self, F32, Q8Act, U32};

use crate::error::Reason;
use crate::{OpParams, Shape, TensorOp};

/// Shape and type of a tensor.
type Typed = (Shape, ElementType);

/// The result of `op`, whose operands are as many as [`TensorOp::operands`] says.
pub(crate) fn infer(op: TensorOp, params: &OpParams, operands: &[Typed]) -> Result<Typed, Reason> {
    let o = Operands { names: op.operands(), typed: operands };
    match op {
        TensorOp::None => return Err(Reason::NotAnOperation),
        TensorOp::RmsNorm => {
            let &OpParams::RmsNorm { eps } = params else { return wrong_params(op, params) };
            o.matrix(0, F32)?;
            o.vector(1, F32, "the length of weight", o.shape(0).cols())?;
            if !(eps.is_finite() && eps >= 0.0) {
                return Err(parameter("eps", "finite and not negative", eps));
            }
            return Ok((o.shape(0), F32));
        }
        TensorOp::Rope => return rope(&o, params),
        TensorOp::Attention => return attention(&o, params),
        TensorOp::SoftMax => {
            let &OpParams::SoftMax { scale } = params else { return wrong_params(op, params) };
            o.dtype(0, F32)?;
            finite("scale", scale)?;
            return Ok((o.shape(0), F32));
        }
        TensorOp::View => return view(&o, params),
        _ => {}
    }
    if *params != OpParams::None {
        return wrong_params(op, params);
    }
    match op {
        TensorOp::EmbedRows => {
            o.weight(0)?;
            o.rank(1, 1)?;
            o.dtype(1, U32)?;
            matrix(o.shape(1).cols(), o.shape(0).cols(), F32)
        }
        TensorOp::MulMat => mul_mat(&o),
        TensorOp::Add => {
            o.dtype(0, F32)?;
            o.dtype(1, F32)?;
            if o.shape(0) != o.shape(1) {
                if o.shape(1).rank() != 1 {
                    return o.same_shape(0, 1).map(|()| (o.shape(0), F32));
                }
                size("the length of b", o.shape(0).cols(), o.shape(1).cols())?;
            }
            Ok((o.shape(0), F32))
        }
        TensorOp::Mul | TensorOp::SwiGlu => {
            o.dtype(0, F32)?;
            o.dtype(1, F32)?;
            o.same_shape(0, 1)?;
            Ok((o.shape(0), F32))
        }
        TensorOp::Silu => {
            o.dtype(0, F32)?;
            Ok((o.shape(0), F32))
        }
        TensorOp::KvScatter => kv_scatter(&o),
        TensorOp::Copy => Ok(o.typed[0]),
        TensorOp::QuantizeQ8 => {
            o.matrix(0, F32)?;
            // The block size of Q8Act is checked where the size of every result is: by its format.
            Ok((o.shape(0), Q8Act))
        }
        TensorOp::Argmax => {
            o.matrix(0, F32)?;
            if u32::try_from(o.shape(0).cols()).is_err() {
                return Err(Reason::Overflow);
            }
            Ok((Shape::vector(o.shape(0).rows()), U32))
        }
        TensorOp::None
        | TensorOp::RmsNorm
        | TensorOp::Rope
        | TensorOp::Attention
        | TensorOp::SoftMax
        | TensorOp::View => Err(Reason::NotAnOperation),
    }
}

fn mul_mat(o: &Operands<'_>) -> Result<Typed, Reason> {
    o.weight(0)?;
    o.rank(1, 2)?;
    let weight = o.typed[0].1;
    match o.typed[1].1 {
        F32 => {}
        Q8Act if weight.is_quantised() => {}
        actual if weight.is_quantised() => {
            return Err(Reason::Type { operand: "input", expected: "F32 or Q8Act", actual });
        }
        actual => {
            let expected = "F32, the weight not being quantised";
            return Err(Reason::Type { operand: "input", expected, actual });
        }
    }
    size("the row length of input", o.shape(0).cols(), o.shape(1).cols())?;
    matrix(o.shape(1).rows(), o.shape(0).outer(), F32)
}

fn rope(o: &Operands<'_>, params: &OpParams) -> Result<Typed, Reason> {
    let &OpParams::Rope { n_rot, head_dim, .. } = params else { return wrong_params(TensorOp::Rope, params) };
    o.matrix(0, F32)?;
    let input = o.shape(0);
    if head_dim == 0 {
        return Err(parameter("head_dim", "at least 1", head_dim));
    }
    if n_rot == 0 || n_rot % 2 != 0 || n_rot > head_dim {
        return Err(parameter("n_rot", "even, at least 2 and at most head_dim", n_rot));
    }
    multiple("the row length of input", input.cols(), "head_dim", head_dim)?;
    o.vector(1, U32, "the length of positions", input.outer())?;
    o.rank(2, 3)?;
    o.dtype(2, F32)?;
    size("the second dimension of table", n_rot / 2, o.shape(2).dims()[1])?;
    size("the last dimension of table", 2, o.shape(2).cols())?;
    Ok((input, F32))
}

fn kv_scatter(o: &Operands<'_>) -> Result<Typed, Reason> {
    o.cache(0)?;
    o.matrix(1, F32)?;
    let ((cache, dtype), input) = (o.typed[0], o.shape(1));
    size("the row length of input", cache.dims()[1].saturating_mul(cache.cols()), input.cols())?;
    o.vector(2, U32, "the length of positions", input.outer())?;
    o.vector(3, U32, "the length of sequences", input.outer())?;
    Ok((cache, dtype))
}

fn attention(o: &Operands<'_>, params: &OpParams) -> Result<Typed, Reason> {
    let &OpParams::Attention { scale } = params else { return wrong_params(TensorOp::Attention, params) };
    finite("scale", scale)?;
    o.matrix(0, F32)?;
    o.cache(1)?;
    o.cache(2)?;
    o.dtype(2, o.typed[1].1)?;
    o.same_shape(1, 2)?;
    let (query, keys) = (o.shape(0), o.shape(1));
    let (n_kv_heads, head_dim) = (keys.dims()[1], keys.cols());
    multiple("the row length of query", query.cols(), "head_dim", head_dim)?;
    multiple(
        "the number of query heads",
        query.cols() / head_dim,
        "the number of key-value heads",
        n_kv_heads,
    )?;
    o.vector(3, U32, "the length of positions", query.outer())?;
    o.vector(4, U32, "the length of sequences", query.outer())?;
    Ok((query, F32))
}

fn view(o: &Operands<'_>, params: &OpParams) -> Result<Typed, Reason> {
    let &OpParams::View { start, len } = params else { return wrong_params(TensorOp::View, params) };
    let (shape, dtype) = o.typed[0];
    let outer = shape.outer();
    if len == 0 || start.checked_add(len).is_none_or(|end| end > outer) {
        return Err(Reason::ViewRange { start, len, outer });
    }
    if shape.rank() == 1 {
        if dtype == Q8Act {
            let expected = "of a type whose blocks follow each other";
            return Err(Reason::Type { operand: "input", expected, actual: dtype });
        }
        multiple("the start of the view", start, "the type's block", dtype.block_elements())?;
    }
    Ok((shape.with_outer(len), dtype))
}

/// The operands with the names that messages give them.
struct Operands<'a> {
    names: &'static [&'static str],
    typed: &'a [Typed],
}

impl Operands<'_> {
    fn shape(&self, i: usize) -> Shape {
        self.typed[i].0
    }

    fn rank(&self, i: usize, expected: usize) -> Result<(), Reason> {
        let actual = self.shape(i).rank();
        if actual == expected {
            Ok(())
        } else {
            Err(Reason::Rank { operand: self.names[i], expected, actual })
        }
    }

    fn dtype(&self, i: usize, expected: ElementType) -> Result<(), Reason> {
        let actual = self.typed[i].1;
        if actual == expected {
            return Ok(());
        }
        Err(Reason::Type { operand: self.names[i], expected: expected.name(), actual })
    }

    fn matrix(&self, i: usize, dtype: ElementType) -> Result<(), Reason> {
        self.rank(i, 2)?;
        self.dtype(i, dtype)
    }

    fn vector(&self, i: usize, dtype: ElementType, what: &'static str, len: usize) -> Result<(), Reason> {
        self.rank(i, 1)?;
        self.dtype(i, dtype)?;
        size(what, len, self.shape(i).cols())
    }

    fn cache(&self, i: usize) -> Result<(), Reason> {
        self.rank(i, 4)?;
        let actual = self.typed[i].1;
        if actual.is_float() {
            return Ok(());
        }
        Err(Reason::Type { operand: self.names[i], expected: "F32, F16, BF16 or F8E4M3", actual })
    }

    fn weight(&self, i: usize) -> Result<(), Reason> {
        self.rank(i, 2)?;
        let actual = self.typed[i].1;
        if actual.is_weight() {
            return Ok(());
        }
        Err(Reason::Type { operand: self.names[i], expected: "a weight type", actual })
    }

    /// `b` has the shape of `a`.
    fn same_shape(&self, a: usize, b: usize) -> Result<(), Reason> {
        const WHAT: [&str; 4] = [
            "the outermost dimension",
            "the second dimension",
            "the third dimension",
            "the fourth dimension",
        ];
        let expected = self.shape(a);
        self.rank(b, expected.rank())?;
        for ((&expected, &actual), what) in expected.dims().iter().zip(self.shape(b).dims()).zip(WHAT) {
            size(what, expected, actual)?;
        }
        Ok(())
    }
}

fn matrix(rows: usize, cols: usize, dtype: ElementType) -> Result<Typed, Reason> {
    Ok((Shape::new(&[rows, cols]).map_err(|_| Reason::Overflow)?, dtype))
}

fn size(what: &'static str, expected: usize, actual: usize) -> Result<(), Reason> {
    if actual == expected { Ok(()) } else { Err(Reason::Size { what, expected, actual }) }
}

fn multiple(what: &'static str, actual: usize, of: &'static str, divisor: usize) -> Result<(), Reason> {
    if actual.is_multiple_of(divisor) {
        Ok(())
    } else {
        Err(Reason::NotAMultiple { what, actual, of, divisor })
    }
}

fn finite(what: &'static str, value: f32) -> Result<(), Reason> {
    if value.is_finite() { Ok(()) } else { Err(parameter(what, "finite", value)) }
}

fn parameter(what: &'static str, requirement: &'static str, actual: impl ToString) -> Reason {
    Reason::Parameter { what, requirement, actual: actual.to_string() }
}

fn wrong_params(op: TensorOp, params: &OpParams) -> Result<Typed, Reason> {
    let expected = match op {
        TensorOp::RmsNorm | TensorOp::Rope | TensorOp::Attention | TensorOp::SoftMax | TensorOp::View => {
            op.name()
        }
        _ => OpParams::None.name(),
    };
    Err(Reason::Params { expected, actual: params.name() })
}
