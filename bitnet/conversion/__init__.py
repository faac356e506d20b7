"""Rewriting a model in another format: `bitnet convert`, `bitnet quantize-embeddings`.

    native           a GGUF file whose matrices are used where they are mapped (`native`)
    i2_s ... iq2_bn  a GGUF file of that ternary type, which other engines read too (`exchange`)
    hf               a Hugging Face folder (`huggingface`)

What a GGUF file says of the tokenizer of a folder comes from `vocabulary`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from bitnet.conversion.embeddings import quantize_embeddings
from bitnet.conversion.exchange import ExchangeType, write_exchange
from bitnet.conversion.huggingface import write_huggingface
from bitnet.conversion.native import write_native
from bitnet.conversion.origin import Origin
from bitnet.conversion.output import Output
from bitnet.conversion.tables import TableType, check_table_type
from bitnet.errors import InvalidArgumentError
from bitnet.quant.i2s import SourceLayout
from bitnet.quant.tiled import TiledName

__all__ = ["Target", "convert", "quantize_embeddings"]

Target = Literal["native", ExchangeType, "hf"]


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    to: Target = "native",
    *,
    layout: TiledName | None = None,
    embed: TableType | None = None,
    head: TableType | None = None,
    source_layout: SourceLayout = "x86",
    tl_config: str | os.PathLike[str] | None = None,
    split_size: int | None = None,
    overwrite: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Write the model `source`, a GGUF file or a Hugging Face folder, to `out` in another format.

    to: the format. Codes and scales stay the same, but tq1_0, tq2_0 and iq1_bn round scales to
        float16.
    layout: in which the ternary weights of a native file will be multiplied, "b3" (if None) or
        "2bit"; see `quant.tiled`.
    embed, head: how to store the tables of the embedding and of the output head; None as they are.
        An embedding that is the head too stays that, unless the two shall differ.
    source_layout: "arm64" for a file whose I2_S tensors were written by an ARM build of bitnet.cpp;
        no file says so itself.
    tl_config: a ``kernel_config.ini`` with the block sizes for tl1 and tl2. Without it, or for
        shapes that it lacks, a tensor keeps its own, or gets those that bitnet.cpp comes with, or
        usual ones, for which kernels of bitnet.cpp would have to be generated. The file tells them.
    split_size: write a GGUF file for other engines that would take more bytes in parts of up to
        this many, a larger tensor in one of its own: for `out` NAME.gguf, NAME-00001-of-00002.gguf
        and so on. What fits is one file, `out` itself.
    overwrite: whether `out` may exist, and parts of it if `split_size` is given: all are replaced.
        A folder only if all in it is from such a conversion.
    progress: called with the share that is written, 0 to 1.

    `out` appears when all of it is written and was read again. Raises what `bitnet.load` does for
    the source, UnsupportedModelError for weights that have no form in the new format,
    InvalidArgumentError for the rest.
    """
    source, out = Path(source), Path(out)
    _check("to", to, get_args(Target))
    _check("layout", layout, (None, *get_args(TiledName)))
    _check("source_layout", source_layout, get_args(SourceLayout))
    for table in (embed, head):
        if table is not None:
            check_table_type(table)
    if layout is not None and to != "native":
        raise InvalidArgumentError(f"layout is for native files; {to} has its own")
    if tl_config is not None and to not in ("tl1", "tl2"):
        raise InvalidArgumentError(f"tl_config is for tl1 and tl2, not for {to}")
    if split_size is not None and to in ("native", "hf"):
        raise InvalidArgumentError(f"split_size is for GGUF files for other engines, not for {to}")
    if to == "hf":
        if embed is not None or head is not None:
            raise InvalidArgumentError("embed and head are for GGUF files; folders hold floats")
        with Origin(source, source_layout=source_layout, llama_pairing="halves") as origin:
            write_huggingface(origin, out, overwrite=overwrite, progress=progress)
        return
    with Origin(source, source_layout=source_layout, embed=embed, head=head) as origin:
        output = Output(
            out,
            origin.files,
            overwrite=overwrite,
            progress=progress,
            max_file_bytes=split_size,
        )
        if to == "native":
            write_native(origin, output, layout or "b3")
        else:
            config = None if tl_config is None else Path(tl_config)
            write_exchange(origin, output, to, config)


def _check(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        names = ", ".join(str(item) for item in known if item is not None)
        raise InvalidArgumentError(f"{name} must be one of {names}, not {value!r}")
