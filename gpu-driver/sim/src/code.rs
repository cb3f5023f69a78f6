//! Modules: from an image to kernels that can be launched, with the codes and the logs of a driver's compiler.

use std::borrow::Cow;
use std::ffi::CString;
use std::sync::Arc;

use gpu_driver::sys::CUresult;
use ptx_builder::interp::{InterpError, Kernel, LoadedProgram, Memory, Program};
use ptx_builder::{
    Call, Callee, Function, FunctionKind, Global, Kind, Module, PtxVersion, Space, Target, VerifyErrors,
};

use crate::profile::{DeviceProfile, THREADS_PER_BLOCK};

/// What `CU_FUNC_ATTRIBUTE_NUM_REGS` says where the kernel sets no limit: nothing here allocates registers.
const REGISTERS_PER_THREAD: u32 = 32;

/// A function that the driver provides, and the first version of it that does.
const SET_CONDITIONAL: &str = "cudaGraphSetConditional";
const SET_CONDITIONAL_SINCE: i32 = 12_040;

/// The others. The interpreter has no heap: who calls for memory on it is told so when it runs.
const PROVIDED: [&str; 4] = ["vprintf", "__assertfail", "malloc", "free"];

/// A module that is compiled, and in no memory yet.
pub(crate) struct Compiled {
    program: Program,
    kernels: Vec<String>,
    virtual_architecture: u32,
    const_bytes: u32,
    line: u32,
}

/// A module in a device's memory. Queued kernels keep it.
pub(crate) struct LoadedModule {
    program: LoadedProgram,
    pub kernels: Vec<Arc<Code>>,
}

/// A kernel that can be launched.
pub(crate) struct Code {
    kernel: Kernel,
    /// Keeps the module's variables.
    _program: LoadedProgram,
    /// Offset and size of each parameter in a parameter buffer.
    pub params: Vec<(usize, usize)>,
    pub static_shared: u32,
    pub local_bytes: u32,
    /// Bytes of the module's `.const` variables.
    pub const_bytes: u32,
    /// The name as programs read it.
    pub c_name: CString,
    /// Architecture that the text is for.
    pub virtual_architecture: u32,
}

/// What the compiler was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JitRequest {
    pub verbose: bool,
}

/// What the compiler said.
#[derive(Debug, Default)]
pub(crate) struct JitLog {
    pub info: String,
    pub error: String,
}

/// Architectures that text may be for and that no part here is as old as.
const OLD_TARGETS: [&str; 12] = [
    "sm_20", "sm_21", "sm_30", "sm_32", "sm_35", "sm_37", "sm_50", "sm_52", "sm_53", "sm_60", "sm_61",
    "sm_62",
];

/// Image magic numbers that are not PTX.
const ELF: &[u8] = b"\x7fELF";
const FAT_BINARY: [[u8; 4]; 2] = [0xba55_ed50_u32.to_le_bytes(), 0x4662_43b1_u32.to_le_bytes()];

/// Whether an image is machine code, which no interpreter of PTX runs. `start` is its first four bytes, or as many as
/// there are before a NUL.
pub(crate) fn is_machine_code(start: &[u8]) -> bool {
    start.starts_with(ELF) || FAT_BINARY.iter().any(|magic| start == magic)
}

impl Compiled {
    /// Compiles PTX for a device.
    pub(crate) fn new(
        text: &str,
        part: &DeviceProfile,
        cuda_version: i32,
        log: &mut JitLog,
    ) -> Result<Self, CUresult> {
        let header = Header::read(text).ok_or(CUresult::ERROR_INVALID_IMAGE)?;
        header.check(part, cuda_version, log)?;
        let module = ptx_builder::parse(&header.renamed(text)).map_err(|error| {
            log.fail(error.line, "error   ", &format!("{} at '{}'", error.message, error.text));
            CUresult::ERROR_INVALID_PTX
        })?;
        let named = Names::of(&module);
        let verified = module.verify_foreign().map_err(|errors| {
            named.report(text, &errors, log);
            CUresult::ERROR_INVALID_PTX
        })?;
        if let Some(name) = unresolved(verified.module(), cuda_version) {
            log.fail(header.line, "error   ", &format!("Unresolved extern function '{name}'"));
            return Err(CUresult::ERROR_INVALID_PTX);
        }
        let program = Program::new(&verified).map_err(|error| unfit(&error, header.line, log))?;
        let constants = verified.module().globals.iter().filter(|global| global.space == Space::Const);
        let const_bytes = u32::try_from(constants.map(Global::bytes).sum::<u64>()).unwrap_or(u32::MAX);
        let kernels = verified.module().functions.iter().filter(|f| f.kind == FunctionKind::Kernel);
        let kernels = kernels.map(|function| function.name.clone()).collect();
        Ok(Self {
            program,
            kernels,
            virtual_architecture: header.capability(),
            const_bytes,
            line: header.line,
        })
    }

    /// Loads it into a device's memory.
    pub(crate) fn load(
        &self,
        part: &DeviceProfile,
        memory: &Memory,
        request: JitRequest,
        log: &mut JitLog,
    ) -> Result<LoadedModule, CUresult> {
        let program = self.program.load(memory).map_err(|error| unfit(&error, self.line, log))?;
        let mut kernels = Vec::new();
        for name in &self.kernels {
            if let Some(kernel) = program.kernel(name) {
                let code = Code::new(kernel, &program, self.virtual_architecture, self.const_bytes);
                if request.verbose {
                    log.info.push_str(&format!(
                        "ptxas info    : Compiling entry function '{}' for 'sm_{}'\nptxas info    : Used {} registers, {} bytes smem\n",
                        code.name(), part.capability, code.registers(), code.static_shared,
                    ));
                }
                kernels.push(Arc::new(code));
            }
        }
        Ok(LoadedModule { program, kernels })
    }
}

/// A function that is called, and that neither the module nor the driver has.
fn unresolved(module: &Module, cuda_version: i32) -> Option<&str> {
    let provided = |name: &str| match name {
        SET_CONDITIONAL => cuda_version >= SET_CONDITIONAL_SINCE,
        name => PROVIDED.contains(&name),
    };
    let insts = module.functions.iter().flat_map(|function| &function.blocks).flat_map(|block| &block.insts);
    let called = insts.filter_map(|inst| match &inst.kind {
        Kind::Call(Call { callee: Callee::Function(id), .. }) => module.functions.get(id.index()),
        _ => None,
    });
    let missing = called.filter(|function| function.blocks.is_empty()).map(|function| function.name.as_str());
    missing.into_iter().find(|name| !provided(name))
}

/// What a driver says about a program that the interpreter does not take.
fn unfit(error: &InterpError, line: u32, log: &mut JitLog) -> CUresult {
    log.fail(line, "error   ", &error.to_string());
    match error {
        InterpError::Memory(_) => CUresult::ERROR_OUT_OF_MEMORY,
        InterpError::Undefined(_) => CUresult::ERROR_INVALID_PTX,
        _ => CUresult::ERROR_NOT_SUPPORTED,
    }
}

impl LoadedModule {
    /// Address and size of a variable.
    pub(crate) fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.program.global(name)
    }
}

impl Code {
    fn new(kernel: Kernel, program: &LoadedProgram, virtual_architecture: u32, const_bytes: u32) -> Self {
        let function = kernel.function();
        let mut end = 0usize;
        let params = function.params.iter().map(|param| {
            let offset = end.next_multiple_of(param.ty.align().max(1) as usize);
            end = offset + param.ty.bytes() as usize;
            (offset, param.ty.bytes() as usize)
        });
        let params = params.collect();
        let local =
            function.arrays.iter().filter(|array| array.space == Space::Local).map(|array| array.bytes());
        let local_bytes = u32::try_from(local.sum::<u64>()).unwrap_or(u32::MAX);
        let static_shared = kernel.static_shared_bytes();
        let _program = program.clone();
        // A name in PTX has no NUL.
        let c_name = CString::new(kernel.name()).unwrap_or_default();
        Self {
            c_name,
            params,
            static_shared,
            local_bytes,
            const_bytes,
            virtual_architecture,
            kernel,
            _program,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.kernel.name()
    }

    pub(crate) const fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    pub(crate) fn function(&self) -> &Function {
        self.kernel.function()
    }

    /// Registers per thread, as far as anybody knows.
    pub(crate) fn registers(&self) -> u32 {
        self.function().maxnreg.unwrap_or(REGISTERS_PER_THREAD).min(REGISTERS_PER_THREAD)
    }

    /// The most threads of a block.
    pub(crate) fn max_threads(&self) -> u32 {
        let function = self.function();
        let declared = function.reqntid.or(function.maxntid);
        declared
            .map_or(THREADS_PER_BLOCK, |[x, y, z]| x.saturating_mul(y).saturating_mul(z))
            .min(THREADS_PER_BLOCK)
    }
}

/// `.version` and `.target`, which decide before anything else is read.
struct Header<'a> {
    version: PtxVersion,
    version_word: &'a str,
    version_line: u32,
    target: &'a str,
    line: u32,
}

impl<'a> Header<'a> {
    /// `None` if the text does not begin as PTX does.
    fn read(text: &'a str) -> Option<Self> {
        let mut words = words(text);
        let (_, directive) = words.next()?;
        if directive != ".version" {
            return None;
        }
        let (version_line, version_word) = words.next()?;
        let (major, minor) = version_word.split_once('.')?;
        let version = PtxVersion::new(major.parse().ok()?, minor.parse().ok()?);
        let (line, target) =
            words.next().filter(|(_, word)| *word == ".target").and_then(|_| words.next())?;
        // Platforms may follow without a space.
        let target = target.split(',').next()?;
        Some(Self { version, version_word, version_line, target, line })
    }

    /// The architecture's number, or `u32::MAX` if it is larger; 0 if there is none.
    fn capability(&self) -> u32 {
        let number = self.target.strip_prefix("sm_").unwrap_or_default();
        let digits = number.chars().map_while(|c| c.to_digit(10));
        digits.fold(0, |number: u32, digit| number.saturating_mul(10).saturating_add(digit))
    }

    /// The text for the next known architecture, where its own is an old one or is specific to a family: that has
    /// what either has. Lines stay.
    fn renamed(&self, text: &'a str) -> Cow<'a, str> {
        let capability = self.capability();
        if capability == 0 || self.target.parse::<Target>().is_ok() {
            return Cow::Borrowed(text);
        }
        let known = match self.target.strip_suffix('f') {
            Some(specific) => format!("{specific}a").parse::<Target>().ok(),
            None if OLD_TARGETS.contains(&self.target) => {
                (capability..).find_map(|sm| format!("sm_{sm}").parse::<Target>().ok())
            }
            None => None,
        };
        let Some(known) = known else { return Cow::Borrowed(text) };
        let mut renamed = text.to_owned();
        // The later word first, so that the other keeps its place.
        let place = |word: &str| {
            let from = word.as_ptr().addr() - text.as_ptr().addr();
            from..from + word.len()
        };
        renamed.replace_range(place(self.target), &known.to_string());
        if self.version < known.ptx_version() {
            renamed.replace_range(place(self.version_word), &known.ptx_version().to_string());
        }
        Cow::Owned(renamed)
    }

    fn check(&self, part: &DeviceProfile, cuda_version: i32, log: &mut JitLog) -> Result<(), CUresult> {
        let newest = newest_ptx(cuda_version);
        if self.version > newest {
            let message = format!("Unsupported .version {}; current version is '{newest}'", self.version);
            log.fail(self.version_line, "fatal   ", &message);
            return Err(CUresult::ERROR_UNSUPPORTED_PTX_VERSION);
        }
        let capability = self.capability();
        let unfit = match self.target.chars().next_back() {
            Some('a') => capability != part.capability,
            Some('f') => capability / 10 != part.capability / 10,
            _ => false,
        };
        if capability > part.capability || unfit {
            log.fail(
                self.line,
                "fatal   ",
                &format!(
                    "Program with .target '{}' cannot be compiled to 'sm_{}'",
                    self.target, part.capability
                ),
            );
            return Err(CUresult::ERROR_NO_BINARY_FOR_GPU);
        }
        Ok(())
    }
}

/// Texts as one, for the newest of their versions and the largest of their architectures. What one declares and another
/// defines is the same. `None` if one does not begin as PTX does.
pub(crate) fn joined(texts: &[String]) -> Option<String> {
    if let [text] = texts {
        return Some(text.clone());
    }
    let headers = texts.iter().map(|text| Header::read(text)).collect::<Option<Vec<_>>>()?;
    let version = headers.iter().map(|header| header.version).max()?;
    let target = headers.iter().max_by_key(|header| (header.capability(), header.target.len()))?.target;
    let mut joined = format!(".version {version}\n.target {target}\n.address_size 64\n");
    for (text, header) in texts.iter().zip(&headers) {
        let end_of = |word: &str| word.as_ptr().addr() + word.len() - text.as_ptr().addr();
        let after = &text[end_of(header.target)..];
        // What belongs to the target goes to the end of its line.
        let body = after.split_once('\n').map_or("", |(_, body)| body);
        let mut words = words(body);
        let size = words.next().filter(|(_, word)| *word == ".address_size").and_then(|_| words.next());
        let start = size.map_or(0, |(_, word)| word.as_ptr().addr() + word.len() - body.as_ptr().addr());
        joined.push_str(&body[start..]);
        joined.push('\n');
    }
    Some(joined)
}

/// Words of a text with their lines, comments left out.
fn words(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let mut in_comment = false;
    text.lines().zip(1..).flat_map(move |(line, number)| {
        let mut rest = line;
        let mut found = Vec::new();
        loop {
            if in_comment {
                let Some((_, after)) = rest.split_once("*/") else { break };
                in_comment = false;
                rest = after;
            }
            let end = ["//", "/*"].iter().filter_map(|mark| rest.find(mark)).min().unwrap_or(rest.len());
            found.extend(rest[..end].split_whitespace().map(|word| (number, word)));
            if !rest[end..].starts_with("/*") {
                break;
            }
            in_comment = true;
            rest = &rest[end + 2..];
        }
        found
    })
}

/// The newest PTX that the compiler of a driver reads, by the release notes of the PTX ISA.
fn newest_ptx(cuda_version: i32) -> PtxVersion {
    let (major, minor) = (cuda_version / 1000, cuda_version % 1000 / 10);
    let small = |n: i32| u8::try_from(n).unwrap_or(u8::MAX);
    match (major, minor) {
        (..11, _) => PtxVersion::new(6, 5),
        (11, _) => PtxVersion::new(7, small(minor)),
        (12, ..=4) => PtxVersion::new(8, small(minor)),
        (12, 5 | 6) => PtxVersion::new(8, 5),
        (12, _) => PtxVersion::new(8, small(minor - 1)),
        _ => PtxVersion::new(small(major - 4), small(minor)),
    }
}

impl JitLog {
    fn fail(&mut self, line: u32, kind: &str, message: &str) {
        self.error.push_str(&format!("ptxas application ptx input, line {line}; {kind}: {message}\n"));
        self.error.push_str("ptxas fatal   : Ptx assembly aborted due to errors\n");
    }
}

/// Names of the functions of a module, to find lines for what the verifier says.
struct Names(Vec<String>);

impl Names {
    fn of(module: &Module) -> Self {
        Self(module.functions.iter().map(|function| function.name.clone()).collect())
    }

    fn report(&self, text: &str, errors: &VerifyErrors, log: &mut JitLog) {
        for error in &errors.errors {
            let line = self.line_of(text, &error.entity, error.inst.as_deref());
            let place = line.map_or_else(String::new, |line| format!(", line {line}"));
            log.error.push_str(&format!("ptxas application ptx input{place}; error   : {}\n", error.message));
        }
        log.error.push_str("ptxas fatal   : Ptx assembly aborted due to errors\n");
    }

    /// The line with the instruction, as far as it is printed as it was written; else where its function begins. None if
    /// the text has no such function.
    fn line_of(&self, text: &str, entity: &str, inst: Option<&str>) -> Option<usize> {
        let name = self.0.iter().find(|name| entity.split(' ').next() == Some(name.as_str()))?;
        let starts = |line: &str| line.contains(name) && (line.contains(".entry") || line.contains(".func"));
        let first = text.lines().position(starts)?;
        let squeeze = |line: &str| line.split_whitespace().collect::<String>();
        let wanted = inst.map(squeeze).filter(|inst| !inst.is_empty());
        let exact = wanted.and_then(|wanted| {
            let mut lines = text.lines().enumerate().skip(first);
            lines.find(|(_, line)| squeeze(line).trim_end_matches(';') == wanted.trim_end_matches(';'))
        });
        Some(exact.map_or(first, |(at, _)| at) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_found_behind_comments() {
        let text = "// made by hand\n/* over\n two lines */ .version 8.3 // here\n.target sm_90a, debug\n";
        let header = Header::read(text).unwrap();
        assert_eq!((header.version, header.version_line), (PtxVersion::new(8, 3), 3));
        assert_eq!((header.target, header.line), ("sm_90a", 4));
        assert!(
            Header::read("").is_none()
                && Header::read("no PTX").is_none()
                && Header::read(".version x").is_none()
        );
    }

    #[test]
    fn architectures_of_any_number_are_newer_than_none() {
        let capability =
            |target: &str| Header::read(&format!(".version 8.8 .target {target}")).unwrap().capability();
        assert_eq!(["sm_90a", "sm_5", "sm_", "ptx"].map(capability), [90, 5, 0, 0]);
        assert_eq!(
            ["sm_4294967295", "sm_4294967296", "sm_99999999999999999999a"].map(capability),
            [u32::MAX; 3]
        );
    }

    #[test]
    fn architectures_that_nothing_is_generated_for_are_renamed() {
        let renamed = |text: &'static str| Header::read(text).unwrap().renamed(text);
        assert_eq!(renamed(".version 8.8\n.target sm_52\n"), ".version 8.8\n.target sm_70\n");
        assert_eq!(renamed(".version 4.3\n.target sm_30,debug"), ".version 6.0\n.target sm_70,debug");
        assert_eq!(renamed(".version 8.8 .target sm_100f"), ".version 8.8 .target sm_100a");
        for text in [".version 8.8 .target sm_75", ".version 8.8 .target sm_5", ".version 8.8 .target ptx"] {
            assert_eq!(renamed(text), text);
        }
    }

    #[test]
    fn cuda_versions_read_the_ptx_of_their_release() {
        let newest = [11_080, 12_000, 12_040, 12_060, 12_080, 12_090, 13_000, 13_020].map(newest_ptx);
        let expected = [(7, 8), (8, 0), (8, 4), (8, 5), (8, 7), (8, 8), (9, 0), (9, 2)];
        assert_eq!(newest, expected.map(|(major, minor)| PtxVersion::new(major, minor)));
    }

    #[test]
    fn machine_code_is_not_ptx() {
        assert!(is_machine_code(b"\x7fELF") && is_machine_code(&0xba55_ed50_u32.to_le_bytes()));
        assert!(!is_machine_code(b".ver") && !is_machine_code(b""));
    }
}
