//! The header of a file: comment lines that say what to run and what comes out. `README.md` is its reference.

use thiserror::Error;

use crate::data::Elem;
use crate::expr::{Expr, Lexer, Token};

/// A directive that is not understood.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("line {line}: {message}")]
pub struct FormatError {
    /// The line of the file, from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

/// What the header of a file asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum Header {
    /// The launches, in order, on one load of the module.
    Runs(Vec<Run>),
    /// The parser refuses the text.
    Error {
        /// Part of the message.
        message: String,
        /// Where.
        line: u32,
        /// Where.
        column: u32,
    },
    /// The text parses; the verifier refuses it with a finding of this rule.
    Refused {
        /// The rule's name.
        rule: String,
        /// Part of the finding.
        message: String,
    },
}

/// One launch.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// The line of the directive.
    pub line: u32,
    /// The kernel's name.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Parameters in order, and module variables.
    pub items: Vec<Item>,
    /// The text that the kernel prints.
    pub prints: Option<String>,
    /// The kind of the fault that stops the launch. It is looked for by the interpreter only.
    pub fault: Option<String>,
    /// Kinds of the findings that the interpreter has, none if empty.
    pub finds: Vec<String>,
}

/// A parameter or a module variable of a launch.
#[derive(Clone, PartialEq, Debug)]
pub struct Item {
    /// The line of the directive.
    pub line: u32,
    /// The name: for expressions and messages, and for `keep` of a later launch.
    pub name: String,
    /// What it is.
    pub kind: ItemKind,
    /// What it holds before; memory without this was never written.
    pub before: Option<Expr>,
    /// What it holds afterwards; memory without this is not changed.
    pub after: Option<Expr>,
    /// How exactly.
    pub tolerance: Tolerance,
    /// Whether only the values matter, not their order.
    pub unordered: bool,
}

/// What an [`Item`] is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ItemKind {
    /// Device memory, passed by address.
    Buffer(Elem, usize),
    /// The memory of an earlier launch, passed by address.
    Keep,
    /// A scalar.
    Scalar(Elem),
    /// A structure by value: its fields in order, laid out as in C.
    Struct(Vec<(Elem, usize)>),
    /// A variable of the module, not a parameter.
    Variable(Elem, usize),
}

/// How close a number has to be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Tolerance {
    /// Every bit; a NaN for any NaN.
    Exact,
    /// |got - want| <= t (1 + |want|).
    Within(f64),
    /// At most this many representable values away.
    Ulps(u64),
}

impl Header {
    /// Reads the comment block that the file begins with.
    ///
    /// # Errors
    /// A directive that is not understood, or none at all: such a file would test nothing.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut runs: Vec<Run> = Vec::new();
        let mut within_run = false;
        let mut refusal = None;
        for (number, line) in (1u32..).zip(text.lines()) {
            let Some(comment) = line.strip_prefix("//") else { break };
            let at = |message: String| FormatError { line: number, message };
            if let Some(rest) = comment.strip_prefix(" run:") {
                runs.push(parse_run(number, rest).map_err(at)?);
                within_run = true;
            } else if let Some(rest) = comment.strip_prefix(" error:") {
                refusal = Some(parse_error(rest).map_err(at)?);
            } else if let Some(rest) = comment.strip_prefix(" refused:") {
                let (rule, message) =
                    rest.trim().split_once(": ").ok_or_else(|| at("expected `RULE: TEXT`".into()))?;
                refusal = Some(Self::Refused { rule: rule.into(), message: message.into() });
            } else if let (true, Some(run), Some(rest)) =
                (within_run, runs.last_mut(), comment.strip_prefix("   "))
            {
                parse_item(number, rest, run).map_err(at)?;
            } else {
                within_run = false;
            }
        }
        match refusal {
            Some(_) if !runs.is_empty() => {
                Err(FormatError { line: 1, message: "a file that is refused cannot be run".into() })
            }
            Some(refusal) => Ok(refusal),
            None if runs.is_empty() => {
                Err(FormatError { line: 1, message: "no `// run:`, `// error:` or `// refused:`".into() })
            }
            None => Ok(Self::Runs(runs)),
        }
    }
}

fn parse_error(rest: &str) -> Result<Header, String> {
    let expected = || "expected `TEXT at LINE:COLUMN`".to_owned();
    let (message, place) = rest.trim().rsplit_once(" at ").ok_or_else(expected)?;
    let (line, column) = place.split_once(':').ok_or_else(expected)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| expected());
    Ok(Header::Error { message: message.to_owned(), line: number(line)?, column: number(column)? })
}

fn parse_run(line: u32, rest: &str) -> Result<Run, String> {
    let mut words = rest.split_whitespace();
    let kernel = words.next().ok_or("expected a kernel's name")?.to_owned();
    let mut run = Run {
        line,
        kernel,
        grid: [0; 3],
        block: [0; 3],
        cluster: [1; 3],
        shared: 0,
        items: Vec::new(),
        prints: None,
        fault: None,
        finds: Vec::new(),
    };
    for word in words {
        let (key, value) =
            word.split_once('=').ok_or_else(|| format!("expected `key=value`, found `{word}`"))?;
        match key {
            "grid" => run.grid = parse_dims(value)?,
            "block" => run.block = parse_dims(value)?,
            "cluster" => run.cluster = parse_dims(value)?,
            "shared" => {
                run.shared = value.parse().map_err(|_| format!("`{value}` is not a number of bytes"))?
            }
            _ => return Err(format!("unknown key `{key}`")),
        }
    }
    if run.grid.contains(&0) || run.block.contains(&0) {
        return Err("grid and block are needed, with no dimension of zero".into());
    }
    Ok(run)
}

/// `4`, `(4)`, `(4,2)` or `(4,2,1)`.
fn parse_dims(text: &str) -> Result<[u32; 3], String> {
    let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).unwrap_or(text);
    let mut dims = [1; 3];
    let mut parts = inner.split(',');
    for (dim, part) in dims.iter_mut().zip(&mut parts) {
        *dim = part.parse().map_err(|_| format!("`{part}` is not a size"))?;
    }
    if parts.next().is_some() { Err(format!("`{text}` has more than three sizes")) } else { Ok(dims) }
}

fn parse_item(line: u32, rest: &str, run: &mut Run) -> Result<(), String> {
    let (word, rest) = rest.trim().split_once(' ').ok_or("expected a directive with operands")?;
    let rest = rest.trim();
    match word {
        "prints" => {
            let text =
                rest.strip_prefix('"').and_then(|t| t.strip_suffix('"')).ok_or("expected a quoted text")?;
            run.prints = Some(text.replace("\\n", "\n"));
        }
        "fault" => run.fault = Some(rest.to_owned()),
        "finds" => run.finds.extend(rest.split_whitespace().map(str::to_owned)),
        "in" | "out" | "inout" | "arg" | "keep" | "var" => {
            let mut lexer = Lexer::new(rest)?;
            let item = ItemParser { line, word, lexer: &mut lexer }.item()?;
            lexer.end()?;
            if run.items.iter().any(|other| other.name == item.name) {
                return Err(format!("`{}` is named twice", item.name));
            }
            run.items.push(item);
        }
        _ => return Err(format!("unknown directive `{word}`")),
    }
    Ok(())
}

struct ItemParser<'a> {
    line: u32,
    word: &'a str,
    lexer: &'a mut Lexer,
}

impl ItemParser<'_> {
    fn item(&mut self) -> Result<Item, String> {
        let name = self.lexer.name()?;
        let kind = if self.word == "keep" {
            ItemKind::Keep
        } else {
            self.lexer.expect(":")?;
            self.kind()?
        };
        // `= before`, `-> after`; an output has no `before`, so that its `=` reads as what comes out.
        let mut before = if self.lexer.accept("=") { Some(Expr::parse(self.lexer)?) } else { None };
        let mut after = if self.lexer.accept("->") { Some(Expr::parse(self.lexer)?) } else { None };
        if self.word == "out" {
            if after.is_some() {
                return Err("`out` has no value before: `= EXPECTED`".into());
            }
            after = before.take();
        }
        let (mut tolerance, mut unordered) = (Tolerance::Exact, false);
        if self.lexer.accept("~") {
            tolerance = match self.lexer.next() {
                Some(Token::Float(t)) => Tolerance::Within(t),
                Some(Token::Int(n)) if n > 0 && self.lexer.accept_name("ulp") => Tolerance::Ulps(n as u64),
                _ => return Err("expected `~ 1e-5` or `~ 2 ulp`".into()),
            };
        }
        if self.lexer.accept_name("unordered") {
            unordered = true;
        }
        let complete = match self.word {
            "in" | "arg" => before.is_some() && after.is_none(),
            "out" => after.is_some(),
            "inout" => before.is_some() && after.is_some(),
            "keep" => before.is_none(),
            _ => before.is_some() || after.is_some(),
        };
        if !complete {
            return Err(format!("`{}` needs other values than these", self.word));
        }
        Ok(Item { line: self.line, name, kind, before, after, tolerance, unordered })
    }

    fn kind(&mut self) -> Result<ItemKind, String> {
        if self.word == "arg" {
            if !self.lexer.accept("{") {
                return Ok(ItemKind::Scalar(self.elem()?));
            }
            let mut fields = Vec::new();
            while !self.lexer.accept("}") {
                let elem = self.elem()?;
                let len = if self.lexer.accept("[") { self.len()? } else { 1 };
                fields.push((elem, len));
                self.lexer.accept(",");
            }
            return Ok(ItemKind::Struct(fields));
        }
        let elem = self.elem()?;
        self.lexer.expect("[")?;
        let len = self.len()?;
        Ok(if self.word == "var" { ItemKind::Variable(elem, len) } else { ItemKind::Buffer(elem, len) })
    }

    fn elem(&mut self) -> Result<Elem, String> {
        let name = self.lexer.name()?;
        Elem::named(&name).ok_or_else(|| format!("unknown type `{name}`"))
    }

    /// `1000]` or `10*17]`.
    fn len(&mut self) -> Result<usize, String> {
        let mut len = 1usize;
        loop {
            let factor = match self.lexer.next() {
                Some(Token::Int(n)) => usize::try_from(n).ok(),
                _ => None,
            };
            len = factor
                .and_then(|n| len.checked_mul(n))
                .filter(|&n| n <= 1 << 24)
                .ok_or("expected a length")?;
            if self.lexer.accept("]") {
                return Ok(len);
            }
            self.lexer.expect("*")?;
        }
    }
}
