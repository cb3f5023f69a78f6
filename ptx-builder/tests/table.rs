//! The instruction table: rows are distinct, forms are gated, versions are the lowest possible.

use ptx_builder::testing::forms;
use ptx_builder::{Kind, Module, Op, PtxVersion, Rule, Target, TyKind, all_ops_module};
use std::collections::HashMap;

#[test]
fn all_lists_every_operation_once_and_in_order() {
    for (i, op) in Op::ALL.iter().enumerate() {
        assert_eq!(*op as usize, i);
        assert_eq!(op.info().op, *op);
        assert_eq!(op.info().name, format!("{op:?}"));
    }
}

#[test]
fn every_operation_has_a_form_and_no_two_forms_read_the_same() {
    let mut seen: HashMap<String, Kind> = HashMap::new();
    for op in Op::ALL {
        let forms = forms(*op);
        assert!(!forms.is_empty(), "{op:?} has no form");
        for kind in forms {
            assert_eq!(kind.op(), *op);
            // The operands tell these apart.
            let by_operands = matches!(
                kind,
                Kind::Pack { .. } | Kind::Unpack { .. } | Kind::Call(_) | Kind::Mbarrier(_) | Kind::Wgmma(_)
            );
            if !by_operands
                && let Some(other) = seen.insert(kind.to_string(), kind.clone())
                && other != kind
            {
                panic!("{kind:?} and {other:?} are both written `{kind}`");
            }
        }
    }
}

#[test]
fn literals_are_not_offered_for_half_precision() {
    for op in Op::ALL {
        let Some(row) = op.regular() else { continue };
        let halves = row.types.iter().filter(|ty| ty.kind() == TyKind::SmallFloat).count();
        assert!(halves == 0 || halves == row.types.len(), "{op:?} mixes register classes in one row");
    }
}

/// What a target lacks is refused with both names; what it has is accepted.
#[test]
fn forms_are_gated_by_target() {
    let newest = [Target::SM_90A, Target::SM_100A].map(all_ops_module);
    for function in newest.iter().flat_map(|module| &module.functions[1..]) {
        for target in Target::all() {
            // The callee comes first, and the variables have its address.
            let functions = vec![newest[0].functions[0].clone(), function.clone()];
            let module = Module { target: *target, functions, ..newest[0].clone() };
            let lacking = function.insts().filter(|(_, inst)| !inst.requires().met_by(*target)).count();
            match module.verify() {
                Ok(_) => assert_eq!(lacking, 0, "{} on {target}", function.name),
                Err(errors) => {
                    assert_eq!(errors.errors.len(), lacking, "{target}: {errors}");
                    for error in errors.errors {
                        assert_eq!(error.rule, Rule::Target);
                        assert!(error.message.ends_with(&format!("the module targets {target}")), "{error}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_version_is_the_lowest_that_target_and_operations_need() {
    let version = |target: Target, build: fn(&mut ptx_builder::KernelBuilder)| {
        let mut module = Module::new(target);
        module.kernel("k", build);
        module.version().to_string()
    };
    let nothing = |_: &mut ptx_builder::KernelBuilder| {};
    let expected = [
        (Target::SM_75, "6.3"),
        (Target::SM_80, "7.0"),
        (Target::SM_86, "7.1"),
        (Target::SM_89, "7.8"),
        (Target::SM_90, "7.8"),
        (Target::SM_90A, "8.0"),
        (Target::SM_100A, "8.6"),
        (Target::SM_120A, "8.7"),
    ];
    assert_eq!(expected.map(|(target, _)| target), Target::all());
    for (target, text) in expected {
        assert_eq!(version(target, nothing), text);
    }
    assert_eq!(version(Target::SM_75, |k| _ = k.tanh_approx(1.0)), "7.0");
    assert_eq!(version(Target::SM_75, |k| _ = k.rcp_approx(1.0)), "6.3");
    assert_eq!(
        version(Target::SM_75, |k| {
            let x = k.param_ptr("x", 4);
            k.load::<ptx_builder::F32>(ptx_builder::Space::Global, ptx_builder::Load::STREAM, x);
        }),
        "7.4"
    );
    assert_eq!(version(Target::SM_80, |k| _ = k.special(ptx_builder::SpecialReg::ClusterCtaRank)), "7.8");
}

#[test]
fn targets_parse_print_and_fit_devices() {
    for target in Target::all() {
        assert_eq!(target.to_string().parse(), Ok(*target));
    }
    assert!(Target::all().is_sorted());
    for bad in ["", "sm_", "sm_60", "sm_80a", "sm_090", "sm_+90", "compute_80", "sm_90aa"] {
        let error = bad.parse::<Target>().unwrap_err();
        assert!(error.to_string().starts_with(&format!("unknown target `{bad}`")), "{error}");
    }
    let fits = |major, minor| Target::for_capability(major, minor).map(|target| target.to_string());
    assert_eq!(fits(7, 0), None);
    assert_eq!(fits(7, 5).as_deref(), Some("sm_75"));
    assert_eq!(fits(8, 7).as_deref(), Some("sm_86"));
    assert_eq!(fits(8, 9).as_deref(), Some("sm_89"));
    assert_eq!(fits(9, 0).as_deref(), Some("sm_90a"));
    assert_eq!(fits(10, 0).as_deref(), Some("sm_100a"));
    assert_eq!(fits(10, 3).as_deref(), Some("sm_90"));
    assert_eq!(fits(12, 0).as_deref(), Some("sm_120a"));
    assert_eq!(fits(12, 1).as_deref(), Some("sm_90"));
    assert_eq!(fits(u32::MAX, 0), None);
    assert!(Target::SM_90.runs_on(12, 0) && !Target::SM_90A.runs_on(12, 0) && !Target::SM_90.runs_on(8, 9));
    assert!(PtxVersion::new(7, 8) < PtxVersion::new(8, 0));
}
