//! Text to tokens. Whatever the bytes, every token has a position and lexing ends.

use super::ParseError;

/// Where a token starts: line and column (in characters), from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pos {
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token<'a> {
    /// An identifier, directive, register or mnemonic: letters, digits, `_`, `$`, `%`, `.` and `::`.
    Word(&'a str),
    /// What starts with a digit.
    Number(&'a str),
    /// One character.
    Punct(char),
    /// What stands between double quotes.
    Text(&'a str),
    /// The text of a `//` comment on a line of its own.
    Comment(&'a str),
    /// Inline text between its markers: what the first marker lists, and the lines.
    Inline {
        operands: &'a str,
        body: &'a str,
    },
    End,
}

impl Token<'_> {
    /// As it appears in a message.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Word(text) | Self::Number(text) => (*text).to_owned(),
            Self::Punct(c) => c.to_string(),
            Self::Text(text) => format!("\"{text}\""),
            Self::Comment(text) => format!("//{text}"),
            Self::Inline { .. } => "inline text".to_owned(),
            Self::End => "end of file".to_owned(),
        }
    }
}

/// What opens and closes inline text, as comments.
pub(crate) const INLINE_OPEN: &str = " inline:";
pub(crate) const INLINE_CLOSE: &str = " end inline";

pub(super) struct Lexer<'a> {
    text: &'a str,
    offset: usize,
    line: u32,
    line_start: usize,
    column: u32,
}

impl<'a> Lexer<'a> {
    pub(super) fn tokens(text: &'a str) -> Result<Vec<(Pos, Token<'a>)>, ParseError> {
        let mut lexer = Self { text, offset: 0, line: 1, line_start: 0, column: 1 };
        let mut tokens = Vec::with_capacity(text.len() / 4);
        loop {
            let (pos, token) = lexer.next()?;
            tokens.push((pos, token));
            if token == Token::End {
                return Ok(tokens);
            }
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    fn pos(&self) -> Pos {
        Pos { line: self.line, column: self.column }
    }

    /// Moves on, counting lines.
    fn advance(&mut self, bytes: usize) -> &'a str {
        let taken = &self.text[self.offset..self.offset + bytes];
        for (i, _) in taken.match_indices('\n') {
            self.line = self.line.saturating_add(1);
            self.line_start = self.offset + i + 1;
            self.column = 1;
        }
        let last_line = taken.rsplit('\n').next().unwrap_or_default();
        self.column =
            self.column.saturating_add(u32::try_from(last_line.chars().count()).unwrap_or(u32::MAX));
        self.offset += bytes;
        taken
    }

    fn next(&mut self) -> Result<(Pos, Token<'a>), ParseError> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            self.advance(blank);
            let pos = self.pos();
            let rest = self.rest();
            let Some(first) = rest.chars().next() else { return Ok((pos, Token::End)) };
            if rest.starts_with("//") {
                let own_line = self.text[self.line_start..self.offset].trim().is_empty();
                let comment = &self.advance(rest.find('\n').unwrap_or(rest.len()))[2..];
                match comment.strip_prefix(INLINE_OPEN) {
                    Some(operands) if own_line => return Ok((pos, self.inline(pos, operands)?)),
                    _ if own_line => return Ok((pos, Token::Comment(comment))),
                    _ => continue,
                }
            }
            if let Some(inside) = rest.strip_prefix("/*") {
                let Some(end) = inside.find("*/") else {
                    return Err(ParseError::new(pos, "/*", "this comment never ends"));
                };
                self.advance(end + 4);
                continue;
            }
            if first == '"' {
                let inside = &rest[1..];
                let end = inside.find(['"', '\n']).filter(|end| inside[*end..].starts_with('"'));
                let Some(end) = end else {
                    return Err(ParseError::new(pos, "\"", "this text never ends on its line"));
                };
                self.advance(end + 2);
                return Ok((pos, Token::Text(&inside[..end])));
            }
            let token = match first {
                '0'..='9' => Token::Number(self.advance(number(rest))),
                '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    Token::Number(self.advance(number(rest)))
                }
                'a'..='z' | 'A'..='Z' | '_' | '$' | '%' | '.' => Token::Word(self.advance(word(rest))),
                _ => {
                    self.advance(first.len_utf8());
                    Token::Punct(first)
                }
            };
            return Ok((pos, token));
        }
    }

    /// After the opening marker: the lines up to the closing one.
    fn inline(&mut self, pos: Pos, operands: &'a str) -> Result<Token<'a>, ParseError> {
        self.advance(usize::from(self.rest().starts_with('\n')));
        let rest = self.rest();
        let mut end = 0;
        for line in rest.split_inclusive('\n') {
            if line.trim().strip_prefix("//").is_some_and(|comment| comment == INLINE_CLOSE) {
                let body = self.advance(end);
                self.advance(line.trim_end_matches('\n').len());
                return Ok(Token::Inline { operands, body });
            }
            end += line.len();
        }
        Err(ParseError::new(pos, "// inline:", "this inline text never ends"))
    }
}

fn run(text: &str, accept: impl Fn(char) -> bool) -> usize {
    text.find(|c| !accept(c)).unwrap_or(text.len())
}

/// The length of a number, the sign of a decimal exponent included.
fn number(text: &str) -> usize {
    let length = run(text, |c| c.is_ascii_alphanumeric() || c == '.');
    let decimal = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match (text[..length].strip_suffix(['e', 'E']), text[length..].strip_prefix(['+', '-'])) {
        (Some(before), Some(after)) if decimal(before) && after.starts_with(|c: char| c.is_ascii_digit()) => {
            length + 1 + run(after, |c| c.is_ascii_digit())
        }
        _ => length,
    }
}

/// The length of a word: `::` belongs to it, a single colon does not. Another directive or type may follow a directive
/// without a blank.
fn word(text: &str) -> usize {
    let directive = text.starts_with('.');
    let mut length = usize::from(directive);
    loop {
        let accept =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%') || c == '.' && !directive;
        length += run(&text[length..], accept);
        if !text[length..].starts_with("::") {
            return length.max(1);
        }
        length += 2;
    }
}
