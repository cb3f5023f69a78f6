//! One rejected module per rule of the verifier, and a check that no rule lacks one.

use ptx_builder::{
    Address, ArrayId, AtomOrder, Base, BlockId, BulkCompletion, BulkCopy, Call, CallParamId, Callee, Cmp,
    CreatePolicy, F32, FuncId, Function, FunctionKind, Global, GlobalId, Inst, KernelBuilder, Kind,
    LevelTwoEviction, Linkage, MatrixElement, Mbarrier, MbarrierOp, Module, Op, Operand, Param, ParamId,
    ParamTy, PrototypeId, RegClass, RegId, Regular, Relocation, Rule, Scope, Set, Setp, Slct, Space, St,
    SymbolId, Target, TargetsId, Ty, U32, U64, VerifyErrors, Wgmma, parse,
};
use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static SEEN: RefCell<BTreeSet<Rule>> = const { RefCell::new(BTreeSet::new()) };
}

fn kernel(build: impl FnOnce(&mut KernelBuilder)) -> Module {
    let mut module = Module::new(Target::SM_80);
    module.kernel("k", |k| {
        k.reqntid(128, 1, 1);
        build(k);
    });
    module
}

fn edited(build: impl FnOnce(&mut KernelBuilder), edit: impl FnOnce(&mut Function)) -> Module {
    let mut module = kernel(build);
    edit(&mut module.functions[0]);
    module
}

/// The module breaks this rule and no other, and the message says so.
#[track_caller]
fn rejected(module: Module, rule: Rule, message: &str) {
    let errors = errors_of(module);
    assert!(errors.errors.iter().all(|error| error.rule == rule), "{errors}");
    assert!(errors.to_string().contains(message), "expected `{message}` in:\n{errors}");
    SEEN.with(|seen| seen.borrow_mut().insert(rule));
}

#[track_caller]
fn errors_of(module: Module) -> VerifyErrors {
    match module.clone().verify() {
        Ok(_) => panic!("accepted:\n{module}"),
        Err(errors) => errors,
    }
}

#[track_caller]
fn accepted(module: Module) {
    if let Err(errors) = module.clone().verify() {
        panic!("{errors}\n{module}");
    }
}

fn name() {
    rejected(edited(|_| {}, |f| f.name = "9lives".into()), Rule::Name, "`9lives` cannot be a symbol");
    let elsewhere = edited(|_| {}, |f| f.linkage = Linkage::Extern);
    rejected(elsewhere, Rule::Name, "what is defined elsewhere has no body");
    rejected(edited(|_| {}, |f| f.linkage = Linkage::Common), Rule::Name, ".common is for variables");
    rejected(kernel(|k| _ = k.param::<U32>("WARP_SZ")), Rule::Name, "`WARP_SZ` cannot be a symbol");
    let labelled = |name: &'static str| {
        kernel(|k| {
            k.declare_param::<U32>(name);
            let label = k.label();
            k.place(label, "x");
        })
    };
    accepted(labelled("L2_x"));
    accepted(labelled("L1"));
    rejected(labelled("L0_x"), Rule::Name, "`L0_x` is a label of the text");
    let mut symbol = labelled("n");
    symbol.kernel("L0_x", |k| k.reqntid(1, 1, 1));
    rejected(symbol, Rule::Name, "`L0_x` is a label of the text of `k`");
    let twice = kernel(|k| {
        k.declare_param::<U32>("n");
        k.shared::<F32>("n", 4);
    });
    rejected(twice, Rule::Name, "the name `n` is taken");
    let mut same = kernel(|_| {});
    same.kernel("k", |k| k.reqntid(1, 1, 1));
    rejected(same, Rule::Name, "the name `k` is taken");
    let hidden = kernel(|k| _ = k.shared::<F32>("k", 4));
    rejected(hidden, Rule::Name, "the name `k` is taken");
    let spaced = kernel(|k| {
        let tid = k.tid_x();
        k.name(tid, "a b");
    });
    rejected(spaced, Rule::Name, "`a b` cannot be the name of a register");
    let undeclared = edited(|_| {}, |f| _ = f.names.insert(RegId::new(RegClass::B32, 3), "x".into()));
    rejected(undeclared, Rule::Name, "%r3 is named but not declared");
    let label = edited(|_| {}, |f| f.blocks[0].name = Some("a-b".into()));
    rejected(label, Rule::Name, "`a-b` cannot be the name of a block");
}

fn comment() {
    let with = |text: &'static str| kernel(|k| k.comment(text));
    rejected(with("größer"), Rule::Comment, "not printable ASCII");
    rejected(with("inline: %r0 <- %r1"), Rule::Comment, "marker of inline text");
    accepted(with("// /* inline */ ; } L0:"));
}

fn launch_bounds() {
    rejected(kernel(|k| k.reqntid(1024, 2, 1)), Rule::LaunchBounds, "1024 x 2 x 1");
    rejected(kernel(|k| k.reqntid(1, 1, 65)), Rule::LaunchBounds, "1 x 1 x 65");
    rejected(kernel(|k| k.reqntid(0, 1, 1)), Rule::LaunchBounds, "0 x 1 x 1");
    rejected(kernel(|k| k.reqntid(u32::MAX, u32::MAX, 2)), Rule::LaunchBounds, "4294967295 x 4294967295 x 2");
    rejected(kernel(|k| k.maxntid(64, 1, 1)), Rule::LaunchBounds, "exclude each other");
    rejected(kernel(|k| k.minnctapersm(0)), Rule::LaunchBounds, ".minnctapersm is between 1 and 32");
    rejected(kernel(|k| k.maxnreg(8)), Rule::LaunchBounds, ".maxnreg is between 24 and 255");
    let free = edited(|k| k.minnctapersm(2), |f| f.reqntid = None);
    rejected(free, Rule::LaunchBounds, "has no effect without");
    let device = edited(|_| {}, |f| f.kind = FunctionKind::Device);
    rejected(device, Rule::LaunchBounds, "performance directives belong to kernels");
    let unbounded = edited(|_| {}, |f| f.reqntid = None).verify().unwrap();
    assert_eq!(unbounded.notes()[0].rule, Rule::LaunchBounds);
}

fn parameter() {
    let empty = kernel(|k| _ = k.declare_param_bytes("p", 0, 4));
    rejected(empty, Rule::Parameter, "parameter `p` is empty");
    rejected(kernel(|k| _ = k.declare_param_bytes("p", 8, 3)), Rule::Parameter, "aligned to 3 bytes");
    rejected(
        kernel(|k| _ = k.declare_param_bytes("p", 32768, 4)),
        Rule::Parameter,
        "32768 bytes of parameters",
    );
    rejected(kernel(|k| _ = k.param_ptr("p", 0)), Rule::Parameter, "cannot be aligned to 0 bytes");
    let half = edited(|k| _ = k.declare_param::<U32>("n"), |f| f.params[0].ty = ParamTy::Scalar(Ty::F16x2));
    rejected(half, Rule::Parameter, "cannot be a .f16x2");
    let word = |name: &str| Param { name: name.into(), ty: ParamTy::Scalar(Ty::U32) };
    let two = edited(
        |_| {},
        |f| (f.kind, f.reqntid, f.returns) = (FunctionKind::Device, None, vec![word("a"), word("b")]),
    );
    rejected(two, Rule::Parameter, "at most one result");
}

fn array() {
    rejected(kernel(|k| _ = k.shared::<F32>("t", 0)), Rule::Array, "array `t` is empty");
    rejected(kernel(|k| _ = k.shared::<F32>("t", 12289)), Rule::Array, "49156 bytes of static shared memory");
    rejected(kernel(|k| _ = k.local::<F32>("t", 200_000)), Rule::Array, "800000 bytes of local memory");
    rejected(kernel(|k| _ = k.shared_aligned::<F32>("t", 4, 6)), Rule::Array, "cannot be aligned to 6 bytes");
    accepted(kernel(|k| _ = k.shared_aligned::<F32>("t", 4, 2)));
    rejected(kernel(|k| _ = k.dynamic_shared(12)), Rule::Array, "cannot be aligned to 12 bytes");
    let global = edited(|k| _ = k.shared::<F32>("t", 4), |f| f.arrays[0].space = Space::Global);
    rejected(global, Rule::Array, "cannot be in global memory");
}

fn register_count() {
    let many = edited(|_| {}, |f| f.registers[RegClass::F32 as usize] = ptx_builder::MAX_REGISTERS + 1);
    rejected(many, Rule::RegisterCount, "1048577 .f32 registers");
}

fn variable() -> Global {
    Global {
        name: "v".into(),
        linkage: Linkage::Visible,
        space: Space::Global,
        ty: Ty::U64,
        len: 2,
        align: 8,
        init: vec![],
        relocations: vec![],
    }
}

fn global() {
    let with = |edit: &dyn Fn(&mut Global)| {
        let mut module = kernel(|_| {});
        let mut global = variable();
        edit(&mut global);
        module.globals.push(global);
        module
    };
    let address =
        |offset, symbol| Relocation { offset, symbol, addend: 0, generic: true, bytes: 8, first: 0 };
    accepted(with(&|g| g.init = vec![1; 16]));
    let refused = |edit: &dyn Fn(&mut Global), message| rejected(with(edit), Rule::Global, message);
    refused(&|g| g.space = Space::Local, "cannot be in local memory");
    refused(&|g| g.ty = Ty::F16, "cannot have elements of type .f16");
    refused(&|g| g.len = 0, "is empty");
    refused(&|g| g.align = 3, "of .u64 cannot be aligned to 3 bytes");
    accepted(with(&|g| g.align = 4));
    refused(&|g| (g.space, g.len) = (Space::Const, 10_000), "has 80000 bytes, at most 65536 can be");
    refused(&|g| g.init = vec![1; 24], "an initial value of 24 bytes, more than its 16");
    refused(&|g| g.init = vec![1; 12], "ends within an element");
    refused(
        &|g| g.init = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        "ends with an element of zeros",
    );
    refused(&|g| (g.space, g.init) = (Space::Shared, vec![1; 8]), "cannot have an initial value");
    refused(&|g| (g.linkage, g.init) = (Linkage::Extern, vec![1; 8]), "cannot have an initial value");
    refused(&|g| g.relocations = vec![address(0, SymbolId::Global(GlobalId(0)))], "not declared before it");
    refused(&|g| g.relocations = vec![address(0, SymbolId::Function(FuncId(0)))], "not declared before it");
    let mut device = with(&|g| g.relocations = vec![address(4, SymbolId::Function(FuncId(1)))]);
    device.functions.push(Function::device("f"));
    rejected(device.clone(), Rule::Global, "which is no element of .u64");
    device.globals[0].relocations[0].offset = 16;
    rejected(device.clone(), Rule::Global, "overlaps another or the end");
    device.globals[0].relocations[0].offset = 0;
    accepted(device.clone());
    device.globals[0].init = vec![1; 8];
    rejected(device, Rule::Global, "has bytes under the address at 0");
}

fn call() {
    let word = |name: &str, ty| Param { name: name.into(), ty: ParamTy::Scalar(ty) };
    let calling = |edit: &dyn Fn(&mut Module, &mut Call)| {
        let mut module = kernel(|_| {});
        let mut callee = Function::device("callee");
        callee.params.push(word("x", Ty::U32));
        module.functions.push(callee);
        module.functions[0].call_params.push(word("argument", Ty::U32));
        let callee = Callee::Function(FuncId(1));
        let mut call = Call { uni: false, callee, returns: vec![], args: vec![CallParamId(0)] };
        edit(&mut module, &mut call);
        module.functions[0].blocks[0].insts.insert(0, Inst::new(Kind::Call(call), vec![]));
        module
    };
    accepted(calling(&|_, _| {}));
    let refused =
        |edit: &dyn Fn(&mut Module, &mut Call), message| rejected(calling(edit), Rule::Call, message);
    refused(&|_, call| call.callee = Callee::Function(FuncId(0)), "`k` is a kernel");
    refused(&|_, call| call.callee = Callee::Function(FuncId(7)), "function function7 is not declared");
    refused(&|_, call| call.args.clear(), "0 arguments are given, `callee` has 1");
    refused(&|_, call| call.returns.push(CallParamId(0)), "1 results are given, `callee` has 0");
    refused(&|_, call| call.args[0] = CallParamId(1), "call parameter call_param1 is not declared");
    let wide = |m: &mut Module, _: &mut Call| m.functions[0].call_params[0].ty = ParamTy::Scalar(Ty::U64);
    refused(&wide, "a variable of 8 bytes aligned to 8, where 4 bytes aligned to 4");
    let missing = calling(&|_, call| call.callee = Callee::Pointer(PrototypeId(0)));
    let errors = errors_of(missing).to_string();
    assert!(errors.contains("prototype prototype0 is not declared"), "{errors}");
    let sets = |k: &mut KernelBuilder| {
        k.reqntid(32, 1, 1);
        let handle = k.param::<U64>("handle");
        k.graph_set_conditional(handle, 1);
    };
    let setting = |edit: &dyn Fn(&mut Module)| {
        let mut module = Module::new(Target::SM_80);
        module.kernel("k", sets);
        edit(&mut module);
        module
    };
    accepted(setting(&|_| {}));
    let refused = |edit: &dyn Fn(&mut Module), message| rejected(setting(edit), Rule::Call, message);
    let call = |module: &mut Module, edit: &dyn Fn(&mut Call)| {
        for inst in &mut module.functions[1].blocks[0].insts {
            if let Kind::Call(call) = &mut inst.kind {
                edit(call);
            }
        }
    };
    let one = |m: &mut Module| call(m, &|call| call.args.truncate(1));
    refused(&one, "1 arguments are given, `cudaGraphSetConditional` has 2");
    let swapped = |m: &mut Module| call(m, &|call| call.args.reverse());
    refused(&swapped, "a variable of 4 bytes aligned to 4, where 8 bytes aligned to 8");
    let result = |m: &mut Module| call(m, &|call| call.returns.push(CallParamId(1)));
    refused(&result, "1 results are given, `cudaGraphSetConditional` has 0");
    // A declaration that is there already is taken, even if it is of something else.
    let mut other = Module::new(Target::SM_80);
    other.functions.push(Function::device("cudaGraphSetConditional"));
    other.kernel("k", sets);
    rejected(other, Rule::Call, "2 arguments are given, `cudaGraphSetConditional` has 0");
}

fn ret() -> Inst {
    Inst::new(Kind::Regular(Regular::new(Op::Ret, None)), vec![])
}

fn block() {
    rejected(edited(|_| {}, |f| f.blocks.clear()), Rule::Block, "the kernel has no blocks");
    let inside = edited(|_| {}, |f| f.blocks[0].insts.insert(0, ret()));
    rejected(inside, Rule::Block, "must be the last instruction of its block");
    let hidden = edited(
        |k| _ = k.tid_x(),
        |f| {
            let tail = f.blocks[0].insts.split_off(1);
            f.blocks.push(ptx_builder::Block { name: None, insts: tail });
        },
    );
    rejected(hidden, Rule::Block, "the text would join it");
    let empty = edited(|_| {}, |f| f.blocks.insert(0, ptx_builder::Block::default()));
    let errors = errors_of(empty);
    assert!(errors.errors[0].message.contains("would disappear"), "{errors}");
}

fn termination() {
    let open = edited(|k| k.barrier(), |f| _ = f.blocks[0].insts.pop());
    rejected(open, Rule::Termination, "control runs off the end");
    let guarded = kernel(|k| {
        let tid = k.tid_x();
        let p = k.eq(tid, 0);
        let end = k.label();
        k.bra_if(p, end);
        k.place(end, "end");
    });
    accepted(guarded.clone());
    let mut guarded = guarded;
    guarded.functions[0].blocks[1].insts.clear();
    rejected(guarded, Rule::Termination, "control runs off the end");
}

fn exit() {
    rejected(kernel(|k| k.loop_(|_, _| {})), Rule::Exit, "no exit can be reached");
    let dead = kernel(|k| {
        k.ret();
        k.barrier();
        k.push(Kind::Regular(Regular::new(Op::Ret, None)), vec![]);
    });
    assert_eq!(dead.verify().unwrap().notes()[0].rule, Rule::Exit);
}

fn operand_kind() {
    let label = kernel(|k| {
        let nowhere = k.label();
        k.bra(nowhere);
    });
    rejected(label, Rule::OperandKind, "was never placed");
    let twice = kernel(|k| {
        let two_places = k.label();
        k.bra(two_places);
        k.place(two_places, "first");
        k.place(two_places, "second");
    });
    rejected(twice, Rule::OperandKind, "was never placed, or twice");
    let add = |operands: Vec<Operand>| {
        kernel(|k| k.push(Kind::Regular(Regular::new(Op::Add, Some(Ty::U32))), operands))
    };
    let r0 = Operand::Reg(RegId::new(RegClass::B32, 0));
    rejected(
        add(vec![r0, Operand::Int(1), Operand::Int(2)]),
        Rule::OperandKind,
        "register %r0 is not declared",
    );
    let declared = |operands: Vec<Operand>| {
        kernel(|k| {
            k.tid_x();
            k.push(Kind::Regular(Regular::new(Op::Add, Some(Ty::U32))), operands);
        })
    };
    rejected(declared(vec![r0, r0]), Rule::OperandKind, "operands are missing");
    rejected(declared(vec![r0, r0, r0, r0]), Rule::OperandKind, "1 operands too many");
    rejected(declared(vec![Operand::Int(1), r0, r0]), Rule::OperandKind, "expected a register");
    rejected(
        declared(vec![r0, r0, Operand::Label(BlockId(0))]),
        Rule::OperandKind,
        "a register or a literal",
    );
    let address = Operand::Addr(Address { base: Base::Param(ParamId(0)), offset: 0 });
    rejected(declared(vec![r0, r0, address]), Rule::OperandKind, "a register or a literal");
    let load = edited(
        |k| {
            let t = k.shared::<U32>("t", 4);
            k.ld_shared::<U32>(t);
        },
        |f| {
            f.blocks[0].insts[0].operands[1] =
                Operand::Addr(Address { base: Base::Array(ArrayId(1)), offset: 0 })
        },
    );
    rejected(load, Rule::OperandKind, "array array1 is not declared");
    let inline = kernel(|k| k.inline("mov.u32 %r5, 1;", &[], &[]));
    rejected(inline, Rule::OperandKind, "register %r5 is not declared");
}

fn operand_type() {
    let float = edited(
        |k| {
            let x = k.imm::<F32>(1.0);
            k.add(x, 1.0);
        },
        |f| f.blocks[0].insts[1].kind = Kind::Regular(Regular::new(Op::Add, Some(Ty::U32))),
    );
    rejected(float, Rule::OperandType, "%f0 is a .f32 register, which .u32 does not agree with");
    let narrow = kernel(|k| {
        let address = k.tid_x();
        k.atom::<U32>(ptx_builder::Atomic::GLOBAL, ptx_builder::AtomOp::Add, address, 1);
    });
    rejected(narrow, Rule::OperandType, "is no address in global memory");
    let local = edited(
        |k| {
            let t = k.shared::<U32>("t", 4);
            k.ld_shared::<U32>(t);
        },
        |f| f.arrays[0].space = Space::Local,
    );
    rejected(local, Rule::OperandType, "`t` is in local, not in shared memory");
    let mixed = edited(
        |k| {
            let x = k.param_ptr("x", 4);
            k.ld_global_v2::<ptx_builder::U8>(x);
        },
        |f| f.blocks[0].insts[2].operands[1] = Operand::Reg(RegId::new(RegClass::B64, 0)),
    );
    rejected(mixed, Rule::OperandType, "the registers of a vector have one width");
}

fn literal_range() {
    let wide = edited(|k| _ = k.imm::<U32>(1), |f| f.blocks[0].insts[0].operands[1] = Operand::Int(1 << 32));
    rejected(wide, Rule::LiteralRange, "4294967296 is not in the range 0..=4294967295 of .u32");
    let negative = edited(|k| _ = k.imm::<U32>(1), |f| f.blocks[0].insts[0].operands[1] = Operand::Int(-1));
    rejected(negative, Rule::LiteralRange, "-1 is not in the range");
}

fn instruction_form() {
    let form = |kind: Kind| {
        edited(
            |k| {
                let tid = k.tid_x();
                k.add(tid, 1);
            },
            |f| f.blocks[0].insts[1].kind = kind,
        )
    };
    let regular = |op, ty| Kind::Regular(Regular::new(op, ty));
    rejected(form(regular(Op::Add, Some(Ty::B32))), Rule::InstructionForm, "`add` has no form for .b32");
    rejected(form(regular(Op::Add, None)), Rule::InstructionForm, "`add` needs a type");
    let errors = errors_of(form(regular(Op::Ld, None)));
    assert!(errors.to_string().contains("Ld is not a regular instruction"), "{errors}");
    let setp = edited(
        |k| {
            let tid = k.tid_x();
            k.lt(tid, 1);
        },
        |f| {
            f.blocks[0].insts[1].kind =
                Kind::Setp(Setp { cmp: Cmp::Ltu, combine: None, ftz: false, ty: Ty::U32 })
        },
    );
    rejected(setp, Rule::InstructionForm, "integers are never NaN");
    rejected(kernel(|k| k.bar_sync(16)), Rule::InstructionForm, "barriers are numbered 0 to 15");
    rejected(kernel(|k| k.inline("a {", &[], &[])), Rule::InstructionForm, "unbalanced braces");
    rejected(kernel(|k| k.inline("mov.u32 %r0_x, 1;", &[], &[])), Rule::InstructionForm, "not `%r0_x`");
    let wide = kernel(|k| {
        let x = k.param_ptr("x", 16);
        k.load_v4::<ptx_builder::F64>(Space::Global, ptx_builder::Load::WEAK, x);
    });
    let errors = errors_of(wide);
    assert!(errors.to_string().contains("at most 16 bytes, not 32"), "{errors}");
    let field = kernel(|k| {
        let tid = k.tid_x();
        k.bfe(tid, 256, 1);
    });
    rejected(field, Rule::InstructionForm, "bit fields are between 0 and 255");
}

fn target() {
    rejected(
        kernel(|k| k.grid_dependency_wait()),
        Rule::Target,
        "`griddepcontrol.wait` needs sm_90, the module targets sm_80",
    );
    let mut forward = kernel(|k| k.setmaxnreg_dec(40));
    for target in [Target::SM_90A, Target::SM_100A, Target::SM_120A] {
        forward.target = target;
        accepted(forward.clone());
    }
    forward.target = Target::SM_90;
    rejected(forward, Rule::Target, "needs sm_90a, the module targets sm_90");
}

fn clusters() {
    let sized = |size| {
        let mut module = edited(|_| {}, |f| f.reqnctapercluster = Some(size));
        module.target = Target::SM_90;
        module
    };
    accepted(sized([2, 2, 1]));
    rejected(sized([4, 4, 2]), Rule::LaunchBounds, "no cluster has the size 4 x 4 x 2");
    rejected(sized([0, 1, 1]), Rule::LaunchBounds, "no cluster has the size 0 x 1 x 1");
    // One block modulo 2^64.
    rejected(
        sized([998_724_481, 1_119_412_321, 33]),
        Rule::LaunchBounds,
        "no cluster has the size 998724481",
    );
    let mut both = sized([2, 1, 1]);
    both.functions[0].maxclusterrank = Some(2);
    rejected(both, Rule::LaunchBounds, "exclude each other");
    let mut explicit = edited(|_| {}, |f| (f.explicitcluster, f.maxclusterrank) = (true, Some(8)));
    explicit.target = Target::SM_90;
    accepted(explicit);
    let mut old = sized([2, 1, 1]);
    old.target = Target::SM_80;
    rejected(old, Rule::Target, "clusters need sm_90, the module targets sm_80");
}

fn parameters_of_functions() {
    let param = |name: &str| Param { name: name.into(), ty: ParamTy::Scalar(Ty::U32) };
    let returning = edited(|_| {}, |f| f.returns.push(param("r")));
    rejected(returning, Rule::Parameter, "a kernel does not return to a caller");
    let at = |base| Operand::Addr(Address { base, offset: 0 });
    let store = |base| {
        let kind = Kind::St(St::plain(Space::Param, Ty::U32));
        edited(
            |k| _ = k.declare_param::<U32>("n"),
            |f| f.blocks[0].insts.insert(0, Inst::new(kind, vec![at(base), Operand::Int(1)])),
        )
    };
    rejected(store(Base::Param(ParamId(0))), Rule::OperandType, "only results and arguments of calls");
    rejected(store(Base::CallParam(CallParamId(0))), Rule::OperandKind, "call parameter call_param0 is not");
    let load = edited(
        |k| _ = k.param::<U32>("n"),
        |f| {
            (f.kind, f.reqntid) = (FunctionKind::Device, None);
            f.returns.push(param("r"));
            f.blocks[0].insts[0].operands[1] = at(Base::Return(ParamId(0)));
        },
    );
    rejected(load, Rule::OperandType, "results are stored to, not loaded");
    let table = edited(
        |k| _ = k.tid_x(),
        |f| {
            let kind = Kind::BrxIdx { uni: false, targets: TargetsId(0) };
            let index = Operand::Reg(RegId::new(RegClass::B32, 0));
            f.blocks[0].insts[1] = Inst::new(kind, vec![index]);
        },
    );
    rejected(table.clone(), Rule::OperandKind, "the table targets0 is not declared");
    let with = |targets: Vec<BlockId>| {
        let mut module = table.clone();
        module.functions[0].branch_targets.push(targets);
        module
    };
    rejected(with(vec![]), Rule::OperandKind, "the table targets0 is empty");
    rejected(with(vec![BlockId(7)]), Rule::OperandKind, "a label of the table was never placed");
}

fn instruction_families() {
    let form = |kind: Kind, message: &str| {
        let operands = vec![];
        let module = kernel(|k| k.push(kind, operands));
        let errors = errors_of(module).to_string();
        assert!(errors.contains(message), "expected `{message}` in:\n{errors}");
    };
    let barrier = Mbarrier { op: MbarrierOp::Init, space: Space::Shared, order: None, count: false };
    form(Kind::Mbarrier(Mbarrier { space: Space::Global, ..barrier }), "no mbarrier.init in global memory");
    form(Kind::Mbarrier(Mbarrier { count: true, ..barrier }), "mbarrier.init has no optional count");
    let order = Some((AtomOrder::Release, Scope::Cta));
    form(Kind::Mbarrier(Mbarrier { order, ..barrier }), "does not take this order and scope");
    let copy = BulkCopy {
        to: Space::Global,
        from: Space::Shared,
        completion: BulkCompletion::Group,
        multicast: false,
        cache_hint: false,
    };
    form(
        Kind::BulkCopy(BulkCopy { from: Space::Global, ..copy }),
        "no bulk copy from global to global memory",
    );
    form(Kind::BulkCopy(BulkCopy { multicast: true, ..copy }), "go to several blocks");
    let both = BulkCopy { to: Space::SharedCluster, completion: BulkCompletion::Mbarrier, ..copy };
    form(Kind::BulkCopy(BulkCopy { cache_hint: true, ..both }), "cache policies belong to global memory");
    let policy = CreatePolicy { primary: LevelTwoEviction::First, secondary: Some(LevelTwoEviction::Last) };
    form(Kind::CreatePolicy(policy), "the secondary priority is");
    form(Kind::Slct(Slct { ty: Ty::U8, by: Ty::S32, ftz: false }), "slct has no form for .u8");
    form(Kind::Slct(Slct { ty: Ty::U32, by: Ty::S32, ftz: true }), "slct does not choose by .s32");
    let test = Setp { cmp: Cmp::Eq, combine: None, ftz: false, ty: Ty::U32 };
    form(Kind::Set(Set { test, to: Ty::B32 }), "no set from .u32 to .b32");
    let (f16, s8) = (MatrixElement::F16, MatrixElement::S8);
    let product = Wgmma { n: 64, satfinite: false, d: Ty::F32, a: f16, b: f16, registers: false };
    form(Kind::Wgmma(Wgmma { b: s8, ..product }), "no product of .f16 and .s8 matrices is a .f32 one");
    form(Kind::Wgmma(Wgmma { d: Ty::S32, ..product }), "no product of .f16 and .f16 matrices is a .s32 one");
    form(Kind::Wgmma(Wgmma { n: 264, ..product }), "no product of these elements has 264 columns");
    form(Kind::Wgmma(Wgmma { n: 0, ..product }), "has 0 columns");
    form(Kind::Wgmma(Wgmma { n: 40, d: Ty::S32, a: s8, b: s8, ..product }), "has 40 columns");
    form(Kind::Wgmma(Wgmma { satfinite: true, ..product }), "only integers are clamped");
    let elect = vec![Operand::Reg(RegId::new(RegClass::B32, 0)), Operand::None, Operand::Int(-1)];
    let errors = errors_of(kernel(|k| k.push(Kind::Elect, elect))).to_string();
    assert!(errors.contains("elect.sync has a predicate for its result"), "{errors}");
}

/// Literals that assemblers refuse.
#[test]
fn literals_of_families() {
    let header = ".version 8.6\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n\
        .reg .pred %p<1>;\n.reg .b32 %r<2>;\n.reg .b64 %rd<2>;\n.shared .align 16 .b8 s[64];\nld.param.u64 %rd0, [p];\n";
    let errors = |text: &str| {
        let module = parse(&format!("{header}{text}\nret;\n}}\n")).unwrap_or_else(|e| panic!("{e}"));
        module.verify_foreign().err().map(|errors| errors.to_string())
    };
    let bulk = "a multiple of 16 bytes, less than 1 MiB";
    let parity = "parity of mbarrier.test_wait.parity is 0 or 1";
    for (text, literal, wrong, message) in [
        ("cp.async.bulk.global.shared::cta.bulk_group [%rd0], [s], @;", "1048560", "1048576", bulk),
        ("cp.async.bulk.global.shared::cta.bulk_group [%rd0], [s], @;", "16", "8", bulk),
        ("cp.async.bulk.prefetch.L2.global [%rd0], @;", "0", "-16", bulk),
        ("createpolicy.fractional.L2::evict_last.b64 %rd1, @;", "1.0", "1.5", "above 0 and at most 1"),
        ("createpolicy.fractional.L2::evict_last.b64 %rd1, @;", "0.5", "0.0", "above 0 and at most 1"),
        ("createpolicy.fractional.L2::evict_last.b64 %rd1, @;", "0.5", "0f7FC00000", "above 0 and at most 1"),
        ("mbarrier.test_wait.parity.shared.b64 %p0, [s], @;", "1", "2", parity),
        ("mbarrier.arrive.shared.b64 %rd1, [s], @;", "1", "0", "counts at least one arrival"),
        ("mbarrier.arrive_drop.noComplete.shared.b64 %rd1, [s], @;", "1", "0", "counts at least one arrival"),
        ("wgmma.wait_group.sync.aligned @;", "63", "64", "between 0 and 63"),
        (
            "wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16 {%r0, %r1}, %rd0, %rd0, 0, @, 1, 0, 1;",
            "-1",
            "0",
            "A is multiplied with 1 or -1",
        ),
        (
            "wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16 {%r0, %r1}, %rd0, %rd0, !%p0, -1, @, 0, 1;",
            "1",
            "2",
            "B is multiplied with 1 or -1",
        ),
        (
            "wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16 {%r0, %r1}, {%r0, %r0, %r0, %r0}, %rd0, %p0, -1, 1, @;",
            "1",
            "-1",
            "transposed is a literal, 0 or 1",
        ),
    ] {
        assert_eq!(errors(&text.replace('@', literal)), None, "{text}");
        let found = errors(&text.replace('@', wrong)).unwrap_or_default();
        assert!(found.contains(message), "{text} with {wrong}: {found}");
    }
}

fn inline_text() {
    let verified = kernel(|k| k.inline("membar.cta;", &[], &[])).verify().unwrap();
    let [note] = verified.notes() else { panic!("{:?}", verified.notes()) };
    assert_eq!(note.rule, Rule::InlineText);
    assert_eq!(note.inst.as_deref(), Some("membar.cta;"));
    SEEN.with(|seen| seen.borrow_mut().insert(Rule::InlineText));
}

fn definition() {
    let never = kernel(|k| {
        let x = k.fresh::<U32>();
        k.add(x, 1);
    });
    rejected(never, Rule::Definition, "%r0 is read, but not assigned on every path before");
    let one_side = kernel(|k| {
        let x = k.fresh::<U32>();
        let n = k.param::<U32>("n");
        let p = k.eq(n, 0);
        k.if_(p, |k| k.push(Kind::Mov(Ty::U32), vec![Operand::Reg(x.id()), Operand::Int(1)]));
        k.add(x, 1);
    });
    rejected(one_side, Rule::Definition, "%r0 is read");
    let both_sides = kernel(|k| {
        let x = k.fresh::<U32>();
        let n = k.param::<U32>("n");
        let p = k.eq(n, 0);
        let assign =
            |k: &mut KernelBuilder| k.push(Kind::Mov(Ty::U32), vec![Operand::Reg(x.id()), Operand::Int(1)]);
        k.if_else(p, assign, assign);
        k.add(x, 1);
    });
    accepted(both_sides);
    let loop_body = kernel(|k| {
        let n = k.param::<U32>("n");
        let mut last = None;
        k.for_range(0, n, 1, |k, i| last = Some(k.add(i, 1)));
        k.add(last.unwrap(), 1);
    });
    rejected(loop_body, Rule::Definition, "is read");
    let guarded = |other: bool, same: bool| {
        kernel(|k| {
            let n = k.param::<U32>("n");
            let p = k.eq(n, 0);
            let x = k.guarded(p, |k| k.get(n));
            if other {
                k.guarded(!p, |k| k.push(Kind::Mov(Ty::U32), vec![Operand::Reg(x.id()), Operand::Int(1)]));
            }
            if same {
                k.guarded(p, |k| k.add(x, 1));
            } else {
                k.add(x, 1);
            }
        })
    };
    rejected(guarded(false, false), Rule::Definition, "is read");
    accepted(guarded(false, true));
    accepted(guarded(true, false));
    let retargeted = kernel(|k| {
        let acc = k.var::<U32>(0);
        let mut leaked = None;
        k.update(acc, |k, acc| {
            let sum = k.add(acc, 1);
            leaked = Some(sum);
            sum
        });
        k.add(leaked.unwrap(), 1);
    });
    rejected(retargeted, Rule::Definition, "is read");
}

fn bounds() {
    let shared = |offset: i32| {
        kernel(|k| {
            let t = k.shared::<F32>("t", 8);
            k.ld_shared_v4::<F32>(t + offset);
        })
    };
    accepted(shared(16));
    rejected(shared(32), Rule::Bounds, "bytes 32..48 are outside of `t` of 32 bytes");
    rejected(shared(-16), Rule::Bounds, "bytes -16..0 are outside");
    let through_register = kernel(|k| {
        let t = k.shared::<F32>("t", 8);
        let base = k.shared_base(t);
        k.st_shared::<F32>(base + 32, 1.0);
    });
    rejected(through_register, Rule::Bounds, "bytes 32..36 are outside of `t`");
    let param = kernel(|k| {
        let p = k.declare_param_bytes("p", 16, 8);
        k.ld_param_at::<ptx_builder::U64>(p, 16);
    });
    rejected(param, Rule::Bounds, "bytes 16..24 are outside of `p` of 16 bytes");
    let dynamic = kernel(|k| {
        let base = k.dynamic_shared(16);
        k.ld_shared::<F32>(base + 1024);
        k.ld_shared::<F32>(base + -4);
    });
    rejected(dynamic, Rule::Bounds, "bytes -4..0 are outside of `dynamic_smem`");
}

fn alignment() {
    let global = |align: u32, offset: i32| {
        kernel(|k| {
            let x = k.param_ptr("x", align);
            k.ld_global_v4::<F32>(x + offset);
        })
    };
    accepted(global(16, 16));
    rejected(global(16, 8), Rule::Alignment, "16 bytes at a multiple of 16 plus 8 is misaligned");
    rejected(global(4, 0), Rule::Alignment, "than the alignment of 4 that parameter `x` declares");
    let indexed = |bytes: u32, offset: i32| {
        kernel(|k| {
            let x = k.param_ptr("x", 16);
            let tid = k.tid_x();
            let at = k.ptr_index(x, tid, bytes);
            k.ld_global_v4::<F32>(at + offset);
        })
    };
    accepted(indexed(16, 32));
    // The index may be a multiple of four: nothing is known.
    accepted(indexed(4, 0));
    rejected(indexed(16, 4), Rule::Alignment, "plus 4 is misaligned");
    let shared = kernel(|k| {
        let t = k.shared_aligned::<F32>("t", 8, 4);
        k.ld_shared_v4::<F32>(t);
    });
    rejected(shared, Rule::Alignment, "the alignment of 4 that `t` declares");
    let looped = kernel(|k| {
        let x = k.param_ptr("x", 16);
        let n = k.param::<U32>("n");
        k.for_range(0, n, 4, |k, i| {
            let at = k.ptr_index(x, i, 4);
            k.ld_global_v4::<F32>(at + 8);
        });
    });
    rejected(looped, Rule::Alignment, "16 bytes at a multiple of 16 plus 8 is misaligned");
}

fn divergent_barrier() {
    let under = |divergent: bool| {
        kernel(|k| {
            let who = if divergent { k.tid_x() } else { k.ctaid_x() };
            let p = k.eq(who, 0);
            k.if_(p, |k| k.barrier());
        })
    };
    accepted(under(false));
    rejected(under(true), Rule::DivergentBarrier, "depends on `@!%p0 bra L2_endif;`");
    let early_exit = kernel(|k| {
        let tid = k.tid_x();
        let p = k.ge(tid, 100);
        k.ret_if(p);
        k.barrier();
        let q = k.ge(tid, 50);
        k.if_(q, |k| k.ret());
        k.barrier();
    });
    accepted(early_exit);
    let after_meeting = kernel(|k| {
        let tid = k.tid_x();
        let p = k.eq(tid, 0);
        k.if_else(p, |k| k.warp_sync(1), |k| k.warp_sync(u32::MAX - 1));
        k.barrier();
    });
    accepted(after_meeting);
    let looped = |divergent: bool| {
        kernel(|k| {
            let start = if divergent { k.tid_x() } else { k.ctaid_x() };
            k.for_range(start, 512, 128, |k, _| k.barrier());
        })
    };
    accepted(looped(false));
    rejected(looped(true), Rule::DivergentBarrier, "differs between them");
    let through_variable = kernel(|k| {
        let tid = k.tid_x();
        let p = k.eq(tid, 0);
        let flag = k.var::<U32>(0);
        k.if_(p, |k| k.set(flag, 1));
        let q = k.eq(flag, 1);
        k.if_(q, |k| k.barrier());
    });
    rejected(through_variable, Rule::DivergentBarrier, "differs between them");
    let guarded = kernel(|k| {
        let lane = k.laneid();
        let p = k.eq(lane, 0);
        k.guarded(p, |k| k.barrier());
    });
    rejected(guarded, Rule::DivergentBarrier, "the guard %p0 differs");
    let reduced = kernel(|k| {
        let lane = k.laneid();
        let p = k.eq(lane, 0);
        let any = k.bar_any(0, p);
        k.if_(any, |k| k.barrier());
    });
    accepted(reduced);
    let counted = kernel(|k| {
        let tid = k.tid_x();
        let p = k.lt(tid, 64);
        k.if_(p, |k| k.bar_sync_count(1, 64));
    });
    accepted(counted);
}

fn grid_dependency() {
    let with = |build: fn(&mut KernelBuilder)| {
        let mut module = kernel(build);
        module.target = Target::SM_90;
        module
    };
    rejected(with(|k| k.grid_launch_dependents()), Rule::GridDependency, "on its own dependencies never");
    let sometimes = with(|k| {
        k.grid_launch_dependents();
        let n = k.param::<U32>("n");
        let p = k.eq(n, 0);
        k.ret_if(p);
        k.grid_dependency_wait();
    });
    rejected(sometimes, Rule::GridDependency, "only on some paths");
    let always = with(|k| {
        k.grid_launch_dependents();
        k.grid_dependency_wait();
    });
    assert!(always.functions[0].waits_on_grid_dependency());
    accepted(always);
    assert!(!with(|_| {}).functions[0].waits_on_grid_dependency());
}

#[test]
fn every_rule_has_a_rejected_module() {
    for case in [
        name,
        comment,
        launch_bounds,
        parameter,
        array,
        global,
        call,
        register_count,
        block,
        termination,
        exit,
        operand_kind,
        operand_type,
        literal_range,
        instruction_form,
        target,
        clusters,
        parameters_of_functions,
        instruction_families,
        inline_text,
        definition,
        bounds,
        alignment,
        divergent_barrier,
        grid_dependency,
    ] {
        case();
    }
    let seen = SEEN.with(|seen| seen.borrow().clone());
    let missing: Vec<&Rule> = Rule::ALL.iter().filter(|rule| !seen.contains(rule)).collect();
    assert!(missing.is_empty(), "rules without a rejected module: {missing:?}");
}

#[test]
fn errors_accumulate_with_entity_and_instruction() {
    let module = kernel(|k| {
        let x = k.fresh::<U32>();
        k.add(x, 1);
        k.grid_dependency_wait();
        k.bar_sync(99);
    });
    let errors = errors_of(module);
    assert_eq!(errors.errors.len(), 2);
    assert_eq!(errors.errors[0].entity, "k L0:1");
    assert_eq!(errors.errors[0].inst.as_deref(), Some("griddepcontrol.wait;"));
    assert_eq!(errors.errors[1].inst.as_deref(), Some("bar.sync 99;"));
    assert!(errors.to_string().starts_with("the module is not valid, 2 errors found\n"), "{errors}");
}
