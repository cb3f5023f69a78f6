"""Prints the PTX that Triton makes of a kernel.

compile.py SOURCE KERNEL ARCH WARPS [NAME=TYPE | NAME=NUMBER]...

SOURCE is a module with the kernel; TYPE is one of Triton's signatures, with an `a` behind it for what is a multiple of
16. No GPU is needed.
"""

import importlib
import os
import sys

os.environ["TRITON_DISABLE_LINE_INFO"] = "1"
os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

source, kernel, arch, warps, *parameters = sys.argv[1:]
sys.path.insert(0, os.path.dirname(os.path.abspath(source)))
function = getattr(importlib.import_module(os.path.basename(source).removesuffix(".py")), kernel)
names = function.arg_names
signature, constants, attributes = {}, {}, {}
for parameter in parameters:
    name, value = parameter.split("=")
    index = names.index(name)
    if value.isdigit():
        constants[(index,)] = int(value)
        value = "constexpr"
    elif value.endswith("a"):
        attributes[(index,)] = [["tt.divisibility", 16]]
        value = value.removesuffix("a")
    signature[name] = value
signature = {name: signature[name] for name in names}
result = triton.compile(
    ASTSource(fn=function, signature=signature, constexprs=constants, attrs=attributes),
    target=GPUTarget("cuda", int(arch), 32),
    options={"num_warps": int(warps), "ptx_version": 80},
)
print(f"shared: {result.metadata.shared} bytes", file=sys.stderr)
print(result.asm["ptx"])
