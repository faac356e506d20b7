"""The kernel language: a thin typed layer over LLVM IR, its targets, and the JIT.

Kernels are Python functions that write code through a `Function`; see `bitnet.kernels`.
"""

from bitnet.codegen import types
from bitnet.codegen.detect import available_targets, find_target, missing_features, target_names
from bitnet.codegen.function import Function, Var
from bitnet.codegen.memory import Buffer, Struct, StructRef
from bitnet.codegen.module import Module
from bitnet.codegen.target import Target
from bitnet.codegen.value import Dim, Value

__all__ = [
    "Buffer",
    "Dim",
    "Function",
    "Module",
    "Struct",
    "StructRef",
    "Target",
    "Value",
    "Var",
    "available_targets",
    "find_target",
    "missing_features",
    "target_names",
    "types",
]
