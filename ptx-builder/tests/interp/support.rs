//! Running a kernel of one test.

use ptx_builder::interp::{Finding, FindingKind, Kernel, Launch, Memory, Options, Program, Report, launch};
use ptx_builder::{KernelBuilder, Module, Reg, Target, U32, U64};

/// A kernel `k` on sm_90a with a first parameter `out`.
pub fn module(build: impl FnOnce(&mut KernelBuilder, Reg<U64>)) -> Module {
    let mut module = Module::new(Target::SM_90A);
    module.kernel("k", |k| {
        k.maxntid(1024, 1, 1);
        let out = k.param_ptr("out", 16);
        build(k, out);
    });
    module
}

/// `out[index] = value`.
pub fn put(k: &mut KernelBuilder, out: Reg<U64>, index: Reg<U32>, value: Reg<U32>) {
    let at = k.ptr_index(out, index, 4);
    k.st_global::<U32>(at, value);
}

/// What a launch needs beside the kernel.
#[derive(Clone)]
pub struct Setup {
    pub grid: u32,
    pub block: u32,
    pub cluster: u32,
    pub dynamic: u32,
    pub options: Options,
}

impl Default for Setup {
    fn default() -> Self {
        let options = Options { fuel: 1 << 22, ..Options::default() };
        Self { grid: 1, block: 32, cluster: 1, dynamic: 0, options }
    }
}

impl Setup {
    pub fn block(block: u32) -> Self {
        Self { block, ..Self::default() }
    }

    /// Launches a kernel with `out` of that many words, zero before.
    pub fn run_on(&self, memory: &Memory, kernel: &Kernel, words: usize) -> (Report, Vec<u32>) {
        self.run_with(memory, kernel, &vec![0; words], &[])
    }

    /// The same with what `out` is before, and further parameters.
    fn run_with(
        &self,
        memory: &Memory,
        kernel: &Kernel,
        before: &[u32],
        further: &[Vec<u8>],
    ) -> (Report, Vec<u32>) {
        let before: Vec<u8> = before.iter().flat_map(|word| word.to_le_bytes()).collect();
        let out = memory.alloc(before.len() as u64).unwrap();
        memory.write(out, &before).unwrap();
        let mut params = vec![out.to_le_bytes().to_vec()];
        params.extend_from_slice(further);
        let what = Launch {
            kernel,
            grid: [self.grid, 1, 1],
            block: [self.block, 1, 1],
            cluster: [self.cluster, 1, 1],
            dynamic_shared: self.dynamic,
            params: &params,
        };
        let report = launch(memory, &what, &self.options).unwrap();
        let mut result = before;
        memory.read(out, &mut result).unwrap();
        let words = result.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
        (report, words.collect())
    }

    /// Verifies, loads and launches the kernel `k`.
    pub fn report(&self, module: Module, words: usize) -> (Report, Vec<u32>) {
        self.report_with(module, words, &[])
    }

    /// The same with further parameters.
    pub fn report_with(&self, module: Module, words: usize, further: &[Vec<u8>]) -> (Report, Vec<u32>) {
        self.report_from(module, &vec![0; words], further)
    }

    /// The same with what `out` is before.
    fn report_from(&self, module: Module, before: &[u32], further: &[Vec<u8>]) -> (Report, Vec<u32>) {
        let verified = module.verify_foreign().unwrap();
        let memory = Memory::new();
        let loaded = Program::new(&verified).unwrap().load(&memory).unwrap();
        self.run_with(&memory, &loaded.kernel("k").unwrap(), before, further)
    }

    /// The same, where nothing may be found.
    pub fn clean(&self, module: Module, words: usize) -> Vec<u32> {
        self.clean_from(module, &vec![0; words])
    }

    /// The same with what `out` is before.
    pub fn clean_from(&self, module: Module, before: &[u32]) -> Vec<u32> {
        let (report, out) = self.report_from(module, before, &[]);
        let found: Vec<String> = report.all().map(ToString::to_string).collect();
        assert!(report.is_clean(), "{}", found.join("\n"));
        out
    }

    /// The same, where something of a kind has to be found.
    pub fn finds(&self, module: Module, kind: FindingKind) -> Finding {
        self.finds_in(module, 1024, kind)
    }

    /// The same with `out` of that many words.
    pub fn finds_in(&self, module: Module, words: usize, kind: FindingKind) -> Finding {
        let (report, _) = self.report(module, words);
        let all: Vec<String> = report.all().map(ToString::to_string).collect();
        let found = report.all().find(|finding| finding.kind == kind).cloned();
        found.unwrap_or_else(|| panic!("no {kind:?} in {all:?}"))
    }
}
