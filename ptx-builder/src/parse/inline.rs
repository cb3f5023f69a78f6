//! Inline text: between two marker comments, of which the first lists what it assigns and reads.

use super::scope::Scope;
use crate::inst::{Guard, Inst, Kind, Operand};
use crate::module::Function;
use crate::print::register_token;

/// Inline text from the list in its marker, `[@!%p0] defs <- uses`, and its lines.
pub(super) fn inline(
    function: &Function,
    scope: &Scope<'_>,
    operands: &str,
    body: &str,
) -> Result<Inst, String> {
    let (defs, uses) = operands.split_once("<-").ok_or("expected `<-` between results and inputs")?;
    let register = |name: &str| scope.register(name).ok_or_else(|| format!("unknown register `{name}`"));
    let mut results = defs.split_whitespace().peekable();
    let guard = match results.next_if(|word| word.starts_with('@')) {
        Some(word) => {
            let negated = word.starts_with("@!");
            let pred = register(&word[1 + usize::from(negated)..])?;
            Some(Guard { pred, negated })
        }
        None => None,
    };
    let results = results.map(|name| register(name).map(Operand::Reg)).collect::<Result<Vec<_>, _>>()?;
    let count = u8::try_from(results.len()).map_err(|_| "too many results")?;
    let mut operands = results;
    for name in uses.split_whitespace() {
        operands.push(Operand::Reg(register(name)?));
    }
    let lines: Vec<&str> = body.strip_suffix('\n').unwrap_or(body).split('\n').collect();
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        let mut line = line.strip_prefix('\t').unwrap_or(line);
        if i == 0 && guard.is_some() {
            let (_, after) = line.split_once(' ').ok_or("expected a guard and an instruction")?;
            line = after;
        }
        push_numbered(&mut text, function, scope, line);
    }
    let kind = Kind::Inline { text: text.into_boxed_str(), defs: count };
    Ok(Inst { guard, kind, operands, comment: None })
}

/// A line of inline text with the printed names of registers replaced by their numbers.
fn push_numbered(text: &mut String, function: &Function, scope: &Scope<'_>, line: &str) {
    let mut rest = line;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let token = register_token(&rest[at..]);
        match scope.register(token).filter(|reg| function.names.contains_key(reg)) {
            Some(reg) => text.push_str(&reg.to_string()),
            None => text.push_str(token),
        }
        rest = &rest[at + token.len()..];
    }
    text.push_str(rest);
}
