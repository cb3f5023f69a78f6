//! The expressions of a header: numbers, names, lists and functions.

/// An expression.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// An integer of any size.
    Int(i128),
    /// A number.
    Float(f64),
    /// A parameter's value before the launch.
    Name(String),
    /// The values of all members, one after the other.
    List(Vec<Expr>),
    /// A generator or a reference, with its arguments.
    Call(String, Vec<Expr>),
}

impl Expr {
    pub(crate) fn parse(lexer: &mut Lexer) -> Result<Self, String> {
        match lexer.next() {
            Some(Token::Int(value)) => Ok(Self::Int(value)),
            Some(Token::Float(value)) => Ok(Self::Float(value)),
            Some(Token::Punct("[")) => Ok(Self::List(Self::list(lexer, "]")?)),
            Some(Token::Name(name)) => match name.as_str() {
                "nan" => Ok(Self::Float(f64::NAN)),
                "inf" => Ok(Self::Float(f64::INFINITY)),
                _ if lexer.accept("(") => Ok(Self::Call(name, Self::list(lexer, ")")?)),
                _ => Ok(Self::Name(name)),
            },
            found => Err(format!("expected an expression, found {}", describe(found.as_ref()))),
        }
    }

    fn list(lexer: &mut Lexer, close: &str) -> Result<Vec<Self>, String> {
        let mut members = Vec::new();
        while !lexer.accept(close) {
            if !members.is_empty() {
                lexer.expect(",")?;
            }
            members.push(Self::parse(lexer)?);
        }
        Ok(members)
    }
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Token {
    Int(i128),
    Float(f64),
    Name(String),
    Punct(&'static str),
}

fn describe(token: Option<&Token>) -> String {
    match token {
        None => "the end of the line".into(),
        Some(Token::Int(v)) => format!("`{v}`"),
        Some(Token::Float(v)) => format!("`{v}`"),
        Some(Token::Name(v)) => format!("`{v}`"),
        Some(Token::Punct(v)) => format!("`{v}`"),
    }
}

/// The tokens of one line.
pub(crate) struct Lexer {
    tokens: std::vec::IntoIter<Token>,
}

const PUNCTUATION: [&str; 13] = ["->", "(", ")", "[", "]", "{", "}", ",", ":", "=", "~", "*", ";"];

impl Lexer {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let after_sign = rest.strip_prefix('-').unwrap_or(rest);
            if after_sign.starts_with(|c: char| c.is_ascii_digit())
                || after_sign.len() < rest.len() && after_sign.starts_with("inf")
            {
                let sign = rest.len() - after_sign.len();
                let mut end = sign;
                let bytes = rest.as_bytes();
                while end < bytes.len() {
                    let exponent_sign = matches!(bytes[end], b'-' | b'+')
                        && matches!(bytes[end - 1], b'e' | b'E')
                        && !rest[sign..].starts_with("0x");
                    if !(bytes[end].is_ascii_alphanumeric()
                        || matches!(bytes[end], b'.' | b'_')
                        || exponent_sign)
                    {
                        break;
                    }
                    end += 1;
                }
                tokens.push(number(&rest[..end])?);
                rest = &rest[end..];
            } else if is_name(first) {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                tokens.push(Token::Name(rest[..end].to_owned()));
                rest = &rest[end..];
            } else {
                let punct = PUNCTUATION.iter().find(|p| rest.starts_with(**p));
                let punct = punct.ok_or_else(|| format!("unexpected `{first}`"))?;
                tokens.push(Token::Punct(punct));
                rest = &rest[punct.len()..];
            }
            rest = rest.trim_start();
        }
        Ok(Self { tokens: tokens.into_iter() })
    }

    pub(crate) fn next(&mut self) -> Option<Token> {
        self.tokens.next()
    }

    pub(crate) fn accept(&mut self, punct: &str) -> bool {
        let found = matches!(self.tokens.as_slice().first(), Some(Token::Punct(p)) if *p == punct);
        if found {
            self.tokens.next();
        }
        found
    }

    pub(crate) fn accept_name(&mut self, name: &str) -> bool {
        let found = matches!(self.tokens.as_slice().first(), Some(Token::Name(n)) if n == name);
        if found {
            self.tokens.next();
        }
        found
    }

    pub(crate) fn expect(&mut self, punct: &str) -> Result<(), String> {
        if self.accept(punct) {
            return Ok(());
        }
        Err(format!("expected `{punct}`, found {}", describe(self.tokens.as_slice().first())))
    }

    pub(crate) fn name(&mut self) -> Result<String, String> {
        match self.tokens.next() {
            Some(Token::Name(name)) => Ok(name),
            found => Err(format!("expected a name, found {}", describe(found.as_ref()))),
        }
    }

    pub(crate) fn end(&self) -> Result<(), String> {
        match self.tokens.as_slice().first() {
            None => Ok(()),
            found => Err(format!("unexpected {}", describe(found))),
        }
    }
}

/// `12`, `-3`, `0xff`, `1.5`, `2e-3`, `-inf`.
fn number(text: &str) -> Result<Token, String> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let sign = if negative { -1 } else { 1 };
    let int = match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok(),
        None => digits.parse::<i128>().ok(),
    };
    if let Some(value) = int.filter(|v| *v <= i128::from(u64::MAX)) {
        return Ok(Token::Int(sign * value));
    }
    text.parse::<f64>().map(Token::Float).map_err(|_| format!("`{text}` is not a number"))
}
