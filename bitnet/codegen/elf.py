"""The functions in an ELF object file, and where they are once it is loaded.

Reads just enough of a 64-bit little-endian object: its section headers and its symbol table.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bitnet.codegen.jit import Library
from bitnet.errors import UnsupportedOperationError

_FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_SYMBOL_TABLE = 2
_FUNCTION = 2


@dataclass(frozen=True)
class Symbol:
    """A function: its place within its section, or in memory, and its size in bytes."""

    name: str
    section: int
    address: int
    size: int


def function_symbols(image: bytes) -> list[Symbol]:
    """The functions of an object file, internal ones too; addresses are within their sections.

    Raises UnsupportedOperationError for other kinds of object file.
    """
    if not image.startswith(_MAGIC):
        raise UnsupportedOperationError("only ELF object files have their functions listed")
    header = _FILE_HEADER.unpack_from(image)
    start, entry_size, count = header[6], header[11], header[12]
    sections = [_SECTION_HEADER.unpack_from(image, start + i * entry_size) for i in range(count)]
    symbols = []
    for section in sections:
        _, kind, _, _, offset, size, names = section[:7]
        if kind != _SYMBOL_TABLE:
            continue
        texts = sections[names][4]
        for at in range(offset, offset + size, _SYMBOL.size):
            name, info, _, where, value, length = _SYMBOL.unpack_from(image, at)
            if info & 15 == _FUNCTION:
                end = image.index(b"\0", texts + name)
                symbols.append(Symbol(image[texts + name : end].decode(), where, value, length))
    return symbols


def loaded_functions(library: Library, exported: str) -> list[Symbol]:
    """The functions in the section of the function `exported`, with their addresses in memory."""
    symbols = function_symbols(library.image)
    known = next(s for s in symbols if s.name == exported)
    moved = library.address(exported) - known.address
    return [
        Symbol(s.name, s.section, s.address + moved, s.size)
        for s in symbols
        if s.section == known.section
    ]
