//! Every file of the corpus: its header, the parser, the printer, the verifier.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ptx_builder::interp::Options;
use ptx_builder::{parse, print};
use ptx_filetests::{FILES, File, Header, Interpreter, ItemKind, Names, Run, check, evaluate};

/// Calls `check` for each file with its header, and fails with every failure.
fn for_each(check: impl Fn(&File, &Header) -> Result<(), String>) {
    let mut failures = Vec::new();
    for file in FILES {
        let run =
            || Header::parse(file.text).map_err(|e| e.to_string()).and_then(|header| check(file, &header));
        // A panic is one file's failure, and says which.
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("panics".into()));
        if let Err(message) = result {
            failures.push(format!("{}: {message}", file.name));
        }
    }
    assert!(failures.is_empty(), "{} files fail:\n{}", failures.len(), failures.join("\n"));
}

/// Evaluates what can be without running anything.
fn evaluate_all(run: &Run) -> Result<(), String> {
    let mut names = Names::new();
    for item in &run.items {
        let (elem, len) = match &item.kind {
            ItemKind::Buffer(elem, len) | ItemKind::Variable(elem, len) => (*elem, *len),
            ItemKind::Scalar(elem) => (*elem, 1),
            ItemKind::Keep | ItemKind::Struct(_) => continue,
        };
        if let Some(before) = &item.before {
            let data = evaluate(before, elem, len, &names).map_err(|e| format!("line {}: {e}", item.line))?;
            names.insert(item.name.clone(), data);
        }
    }
    for item in &run.items {
        if let (ItemKind::Buffer(elem, len), Some(after)) = (&item.kind, &item.after) {
            match evaluate(after, *elem, *len, &names) {
                // What an earlier launch left is known only once it has run.
                Err(e) if !e.contains("no value before the launch") => {
                    return Err(format!("line {}: {e}", item.line));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[test]
fn headers_are_understood_and_their_references_exist() {
    for_each(|_, header| match header {
        Header::Runs(runs) => runs.iter().try_for_each(evaluate_all),
        _ => Ok(()),
    });
}

#[test]
fn modules_parse_print_and_verify() {
    for_each(|file, header| match header {
        Header::Error { message, line, column } => match parse(file.text) {
            Ok(_) => Err("parses".into()),
            Err(e) if (e.line, e.column) == (*line, *column) && e.to_string().contains(message) => Ok(()),
            Err(e) => Err(format!("another error: {e}")),
        },
        Header::Refused { rule, message } => {
            let module = parse(file.text).map_err(|e| e.to_string())?;
            let Err(errors) = module.verify_foreign() else { return Err("verifies".into()) };
            let is_it = |f: &ptx_builder::Finding| {
                format!("{:?}", f.rule) == *rule && f.to_string().contains(message)
            };
            if errors.errors.iter().any(is_it) { Ok(()) } else { Err(format!("other errors: {errors}")) }
        }
        Header::Runs(runs) => {
            let module = parse(file.text).map_err(|e| e.to_string())?;
            let text = print(&module);
            let again = parse(&text).map_err(|e| format!("what is printed does not parse: {e}"))?;
            if again != module {
                return Err("what is printed parses to another module".into());
            }
            // Compilers read registers that nothing assigned, and padding.
            let verified = module.verify_foreign().map_err(|e| format!("does not verify: {e}"))?;
            for run in runs {
                if verified.module().kernels().all(|(_, kernel)| kernel.name != run.kernel) {
                    return Err(format!("no kernel `{}`", run.kernel));
                }
            }
            Ok(())
        }
    });
}

#[test]
fn the_interpreter_gives_the_right_answers() {
    for_each(|file, header| match header {
        Header::Runs(runs) => check(file.text, runs, &mut Interpreter::default()).map(drop),
        _ => Ok(()),
    });
}

#[test]
fn the_order_of_blocks_and_warps_does_not_matter() {
    for_each(|file, header| {
        let Header::Runs(runs) = header else { return Ok(()) };
        for seed in [1, 2] {
            let options = Options { seed, ..Options::default() };
            check(file.text, runs, &mut Interpreter::new(options))
                .map_err(|e| format!("seed {seed}: {e}"))?;
        }
        Ok(())
    });
}
