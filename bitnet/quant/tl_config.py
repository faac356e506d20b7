"""The block sizes of TL1 and TL2 tensors, which such a tensor cannot be read without.

bitnet.cpp generates its kernels for a few shapes and keeps the sizes chosen for them in a
`kernel_config.ini`, one section for each shape; they are not in the model files:

    [Kernels_0]
    m = 3200
    k = 8640
    bm = 160
    bk = 96
    bmm = 32
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bitnet.errors import InvalidArgumentError

TLName = Literal["TL1", "TL2"]
Shape = tuple[int, int]

CONFIG_NAME = "kernel_config.ini"
MAX_CONFIG_BYTES = 1 << 16
MAX_LINE_CHARS = 1 << 10
MAX_SIZE = 1 << 31
_SHAPE_KEYS, _BLOCK_KEYS = ("m", "k"), ("bm", "bk", "bmm")


@dataclass(frozen=True)
class Blocks:
    """How a matrix is cut, by the names of the file: into blocks of bm rows and bk columns.

    bmm: rows that a block holds next to each other; also called bm, in small letters, where the
        others are BM and BY.
    """

    bm: int
    bk: int
    bmm: int

    def __post_init__(self) -> None:
        for key in _BLOCK_KEYS:
            if not 0 < getattr(self, key) < MAX_SIZE:
                raise InvalidArgumentError(f"{key} is {getattr(self, key)}, not 1 to {MAX_SIZE}")


@dataclass(frozen=True)
class Cut:
    """How tensors of a type and so many columns are cut."""

    name: TLName
    columns: int
    blocks: Blocks

    @property
    def pair_columns(self) -> int:
        """How many of the columns are stored as pairs: all of TL1, the last ones of TL2."""
        return self.columns if self.name == "TL1" else self.columns % self.blocks.bk

    @property
    def suffix(self) -> str:
        """A name for code that depends on it."""
        b = self.blocks
        return f"{self.name.lower()}_{self.columns}_{b.bm}_{b.bk}_{b.bmm}"


def _table(*rows: tuple[int, int, int, int, int]) -> dict[Shape, Blocks]:
    return {(m, k): Blocks(bm, bk, bmm) for m, k, bm, bk, bmm in rows}


# What bitnet.cpp generates its kernels with: for 1bitLLM's large and 3B, and for Llama 3 8B.
PRESETS: dict[TLName, dict[Shape, Blocks]] = {
    "TL1": _table(
        (1536, 4096, 256, 128, 32),
        (1536, 1536, 128, 64, 64),
        (4096, 1536, 256, 128, 32),
        (3200, 8640, 160, 64, 32),
        (3200, 3200, 320, 128, 64),
        (8640, 3200, 320, 64, 32),
        (14336, 4096, 256, 128, 32),
        (4096, 14336, 128, 64, 64),
        (1024, 4096, 256, 128, 32),
        (4096, 4096, 128, 64, 64),
    ),
    "TL2": _table(
        (1536, 4096, 256, 96, 32),
        (1536, 1536, 128, 192, 32),
        (4096, 1536, 256, 96, 32),
        (3200, 8640, 160, 96, 32),
        (3200, 3200, 320, 96, 32),
        (8640, 3200, 320, 96, 32),
        (14336, 4096, 256, 96, 32),
        (4096, 14336, 128, 96, 32),
        (1024, 4096, 256, 96, 32),
        (4096, 4096, 128, 96, 32),
    ),
}


def read_config(text: str) -> dict[Shape, Blocks]:
    """The block sizes in the text of a `kernel_config.ini`, by shape (rows, columns).

    Raises InvalidArgumentError that names the section and the key.
    """
    # The library's time for a line grows with the square of its length.
    if max(map(len, text.splitlines()), default=0) > MAX_LINE_CHARS:
        raise InvalidArgumentError(f"a line has more than {MAX_LINE_CHARS} characters")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text, CONFIG_NAME)
    except configparser.Error as error:
        raise InvalidArgumentError(f"{error}".replace("\n", " ")) from error
    found: dict[Shape, Blocks] = {}
    for section in parser.sections():
        numbers = {key: _number(parser[section], key) for key in (*_SHAPE_KEYS, *_BLOCK_KEYS)}
        shape = (numbers["m"], numbers["k"])
        blocks = Blocks(*(numbers[key] for key in _BLOCK_KEYS))
        if found.setdefault(shape, blocks) != blocks:
            raise InvalidArgumentError(f"[{section}] gives other sizes for {shape} than before")
    return found


def write_config(blocks: Mapping[Shape, Blocks]) -> str:
    """The text of a `kernel_config.ini` that `read_config` makes `blocks` of."""
    lines = []
    for number, ((m, k), b) in enumerate(blocks.items()):
        pairs = {"m": m, "k": k, "bm": b.bm, "bk": b.bk, "bmm": b.bmm}
        lines += [f"[Kernels_{number}]", *(f"{key} = {n}" for key, n in pairs.items()), ""]
    return "\n".join(lines)


def _number(section: configparser.SectionProxy, key: str) -> int:
    value = section.get(key)
    if value is None or not (
        value.isascii() and value.isdigit() and len(value) < len("2147483648")
    ):
        raise InvalidArgumentError(f"[{section.name}] {key} is {value!r}, not a positive number")
    return int(value)
