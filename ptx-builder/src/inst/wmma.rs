//! Tensor-core instructions whose fragments have no fixed layout: `wmma`. What a register of a fragment holds is
//! the device's business, and the same for all instructions of a kernel with the same shape and types.

use super::space::Space;
use super::{Arg, Form, MatrixElement, Role, Signature, What, Words, named};
use crate::target::Requires;
use crate::ty::Ty;
use std::fmt;

named! {
    /// Rows and columns of D, and K: D = A * B + C, where A is M x K and B is K x N.
    WmmaShape {
        /// 16 x 16, of halves and bytes.
        M16N16K16 = "m16n16k16",
        /// 8 x 32, of halves and bytes.
        M8N32K16 = "m8n32k16",
        /// 32 x 8, of halves and bytes.
        M32N8K16 = "m32n8k16",
        /// 16 x 16, of tf32.
        M16N16K8 = "m16n16k8",
        /// 8 x 8, of doubles.
        M8N8K4 = "m8n8k4",
        /// 8 x 8, of 4-bit integers.
        M8N8K32 = "m8n8k32",
    }
}

impl WmmaShape {
    /// M, N and K.
    pub const fn dimensions(self) -> (u8, u8, u8) {
        match self {
            Self::M16N16K16 => (16, 16, 16),
            Self::M8N32K16 => (8, 32, 16),
            Self::M32N8K16 => (32, 8, 16),
            Self::M16N16K8 => (16, 16, 8),
            Self::M8N8K4 => (8, 8, 4),
            Self::M8N8K32 => (8, 8, 32),
        }
    }
}

named! {
    /// One of the matrices of D = A * B + C.
    WmmaMatrix {
        /// The first factor.
        A = "a",
        /// The second factor.
        B = "b",
        /// What is added.
        C = "c",
        /// The result.
        D = "d",
    }
}

named! {
    /// How a matrix lies in memory.
    MatrixLayout {
        /// Row after row.
        Row = "row",
        /// Column after column.
        Col = "col",
    }
}

impl MatrixElement {
    /// The type of a register of a fragment.
    const fn register(self) -> Ty {
        match self {
            Self::F32 => Ty::F32,
            Self::F64 => Ty::F64,
            Self::S32 => Ty::S32,
            _ => Ty::B32,
        }
    }

    /// Is there a shape with factors of this type?
    const fn multiplies_as(self, shape: WmmaShape) -> bool {
        use WmmaShape::{M8N8K4, M8N8K32, M8N32K16, M16N16K8, M16N16K16, M32N8K16};
        match self {
            Self::F16 | Self::BF16 | Self::S8 | Self::U8 => matches!(shape, M16N16K16 | M8N32K16 | M32N8K16),
            Self::TF32 => matches!(shape, M16N16K8),
            Self::F64 => matches!(shape, M8N8K4),
            Self::S4 | Self::U4 => matches!(shape, M8N8K32),
            _ => false,
        }
    }

    /// Is there a shape with sums of this type?
    const fn adds_as(self, shape: WmmaShape) -> bool {
        use WmmaShape::{M8N8K4, M8N8K32, M8N32K16, M16N16K8, M16N16K16, M32N8K16};
        match self {
            Self::F16 => matches!(shape, M16N16K16 | M8N32K16 | M32N8K16),
            Self::F32 => matches!(shape, M16N16K16 | M8N32K16 | M32N8K16 | M16N16K8),
            Self::S32 => matches!(shape, M16N16K16 | M8N32K16 | M32N8K16 | M8N8K32),
            Self::F64 => matches!(shape, M8N8K4),
            _ => false,
        }
    }

    fn requires(self, shape: WmmaShape) -> Requires {
        match self {
            Self::BF16 | Self::TF32 | Self::F64 => Requires::new(7, 0, 80),
            Self::S8 | Self::U8 => Requires::new(6, 3, 72),
            Self::S4 | Self::U4 => Requires::new(6, 3, 75),
            // Where these are sums, what multiplies says more.
            _ if shape == WmmaShape::M16N16K16 => Requires::new(6, 0, 70),
            Self::S32 if shape == WmmaShape::M8N8K32 => Requires::new(6, 3, 75),
            _ if shape == WmmaShape::M16N16K8 => Requires::new(7, 0, 80),
            _ => Requires::new(6, 1, 70),
        }
    }
}

/// The registers of a thread for a matrix.
fn fragment(shape: WmmaShape, matrix: WmmaMatrix, element: MatrixElement) -> (Ty, u8) {
    let (m, n, k) = shape.dimensions();
    let (rows, columns) = match matrix {
        WmmaMatrix::A => (m, k),
        WmmaMatrix::B => (k, n),
        WmmaMatrix::C | WmmaMatrix::D => (m, n),
    };
    let ty = element.register();
    // Factors of halves have more registers than elements.
    if element == MatrixElement::F16 && matches!(matrix, WmmaMatrix::A | WmmaMatrix::B) {
        return (ty, 8);
    }
    let bits = u32::from(rows) * u32::from(columns) * element.bits();
    (ty, u8::try_from(bits / 32 / ty.bits()).unwrap_or(u8::MAX))
}

/// `wmma.load.a.sync.aligned.row.m16n16k16.shared.f16 {r..}, [p]{, stride}`, or `wmma.store.d`: a matrix whose rows or
/// columns begin so many elements apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WmmaMove {
    /// A, B or C, which are loaded, or D, which is stored.
    pub matrix: WmmaMatrix,
    /// How it lies in memory.
    pub layout: MatrixLayout,
    /// The shape of the product.
    pub shape: WmmaShape,
    /// `global`, `shared` or generic.
    pub space: Space,
    /// What it consists of.
    pub element: MatrixElement,
}

impl WmmaMove {
    /// The registers of a thread.
    pub(crate) fn fragment(self) -> (Ty, u8) {
        fragment(self.shape, self.matrix, self.element)
    }

    pub(super) fn signature(self) -> Signature {
        let (ty, n) = self.fragment();
        let address = Arg::one(What::Address(self.space));
        let stride = Arg::value(Ty::U32).form(Form::Optional);
        let fragment = Arg::one(What::Reg(ty)).vector(n);
        if self.matrix == WmmaMatrix::D {
            return Signature::new(&[address, fragment, stride]);
        }
        Signature::new(&[Arg { role: Role::Def, ..fragment }, address, stride])
    }

    pub(super) fn requires(self) -> Requires {
        self.element.requires(self.shape)
    }

    pub(super) fn problems(self, report: &mut dyn FnMut(String)) {
        let Self { matrix, layout, shape, space, element } = self;
        let exists = match matrix {
            WmmaMatrix::A | WmmaMatrix::B => element.multiplies_as(shape),
            WmmaMatrix::C | WmmaMatrix::D => element.adds_as(shape),
        };
        if !exists {
            let (name, shape, element) = (matrix.name(), shape.name(), element.name());
            report(format!("there is no matrix {name} of .{element} of the shape {shape}"));
        }
        if !matches!(space, Space::Global | Space::Shared | Space::Generic) {
            report(format!("no matrices in .{} memory", space.name()));
        }
        let along = matches!(
            (matrix, layout),
            (WmmaMatrix::A, MatrixLayout::Row) | (WmmaMatrix::B, MatrixLayout::Col)
        );
        if element.bits() < 8 && !along {
            report("matrices of 4-bit integers have the elements of a sum in a row".to_owned());
        }
    }

    pub(super) fn parse(matrices: &[WmmaMatrix], words: &mut Words<'_>) -> Result<Self, String> {
        let matrix = words.need("a matrix", |word| {
            WmmaMatrix::from_name(word).filter(|matrix| matrices.contains(matrix))
        })?;
        words.expect("sync")?;
        words.expect("aligned")?;
        let layout = words.need("`.row` or `.col`", MatrixLayout::from_name)?;
        let shape = parse_shape(words)?;
        let space = Space::parse(words);
        let element = words.need("a type of matrices", MatrixElement::from_name)?;
        Ok(Self { matrix, layout, shape, space, element })
    }
}

fn parse_shape(words: &mut Words<'_>) -> Result<WmmaShape, String> {
    if words.eat("m8n8k128") {
        return Err("matrices of single bits are not supported".to_owned());
    }
    words.need("the shape of a matrix", WmmaShape::from_name)
}

impl fmt::Display for WmmaMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.matrix == WmmaMatrix::D { "store" } else { "load" };
        let (matrix, layout, shape) = (self.matrix.name(), self.layout.name(), self.shape.name());
        let (space, element) = (self.space.dotted(), self.element.name());
        write!(f, "wmma.{what}.{matrix}.sync.aligned.{layout}.{shape}{space}.{element}")
    }
}

/// `wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {d..}, {a..}, {b..}, {c..}`, with the types of the factors
/// between those of D and C unless they are halves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WmmaProduct {
    /// How A lay in memory.
    pub a: MatrixLayout,
    /// How B lay in memory.
    pub b: MatrixLayout,
    /// The shape.
    pub shape: WmmaShape,
    /// The elements of D.
    pub to: MatrixElement,
    /// The elements of A and of B.
    pub factors: MatrixElement,
    /// The elements of C.
    pub from: MatrixElement,
    /// Clamp sums of integers.
    pub satfinite: bool,
}

impl WmmaProduct {
    /// The numbers of registers of a thread: of D, A, B and C.
    pub(crate) fn fragments(self) -> [u8; 4] {
        let Self { shape, to, factors, from, .. } = self;
        [(WmmaMatrix::D, to), (WmmaMatrix::A, factors), (WmmaMatrix::B, factors), (WmmaMatrix::C, from)]
            .map(|(matrix, element)| fragment(shape, matrix, element).1)
    }

    pub(super) fn signature(self) -> Signature {
        let [d, a, b, c] = self.fragments();
        let reg = |element: MatrixElement, n| Arg::one(What::Reg(element.register())).vector(n);
        Signature::new(&[
            Arg { role: Role::Def, ..reg(self.to, d) },
            reg(self.factors, a),
            reg(self.factors, b),
            reg(self.from, c),
        ])
    }

    pub(super) fn requires(self) -> Requires {
        self.factors.requires(self.shape)
    }

    pub(super) fn problems(self, report: &mut dyn FnMut(String)) {
        use MatrixElement::{BF16, F16, F32, F64, S4, S8, S32, TF32, U4, U8};
        let sums = matches!(
            (self.factors, self.to, self.from),
            (F16, F16 | F32, F16 | F32)
                | (BF16 | TF32, F32, F32)
                | (F64, F64, F64)
                | (S8 | U8 | S4 | U4, S32, S32)
        );
        if !sums || !self.factors.multiplies_as(self.shape) {
            report(format!("there is no `{self}`"));
        }
        if self.satfinite && self.to != S32 {
            report("only sums of integers are clamped".to_owned());
        }
        if self.factors.bits() < 8 && (self.a, self.b) != (MatrixLayout::Row, MatrixLayout::Col) {
            report("matrices of 4-bit integers have the elements of a sum in a row".to_owned());
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        words.expect("sync")?;
        words.expect("aligned")?;
        let mut layout = || words.need("`.row` or `.col`", MatrixLayout::from_name);
        let (a, b) = (layout()?, layout()?);
        let shape = parse_shape(words)?;
        let element = |words: &mut Words<'_>| words.need("a type of matrices", MatrixElement::from_name);
        let to = element(words)?;
        // Doubles are rounded to nearest, which may be said.
        let _ = to == MatrixElement::F64 && words.eat("rn");
        let second = element(words)?;
        let (factors, from) = match words.take(MatrixElement::from_name) {
            None => (MatrixElement::F16, second),
            Some(third) if third == second => (second, element(words)?),
            Some(_) => return Err("both factors of `wmma` are of one type".to_owned()),
        };
        let _ = to == MatrixElement::F64 && words.eat("rn");
        Ok(Self { a, b, shape, to, factors, from, satfinite: words.eat("satfinite") })
    }
}

impl fmt::Display for WmmaProduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b, shape) = (self.a.name(), self.b.name(), self.shape.name());
        write!(f, "wmma.mma.sync.aligned.{a}.{b}.{shape}.{}", self.to.name())?;
        if self.factors != MatrixElement::F16 {
            write!(f, ".{0}.{0}", self.factors.name())?;
        }
        write!(f, ".{}{}", self.from.name(), if self.satfinite { ".satfinite" } else { "" })
    }
}
