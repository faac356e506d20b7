"""The model that is converted, as the new file will hold it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.closing import Closing
from bitnet.conversion.metadata import folder_metadata, kept_metadata
from bitnet.conversion.output import Output
from bitnet.conversion.tables import TableType, table_pieces
from bitnet.conversion.vocabulary import gguf_vocabulary
from bitnet.errors import InvalidArgumentError, InvalidModelError
from bitnet.formats import sniff
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_types import tensor_bytes
from bitnet.formats.gguf_writer import TensorData, WritableValue
from bitnet.models import open_checkpoint
from bitnet.models.spec import RopePairing
from bitnet.models.tensors import DenseTensor, TableKind, TernaryTensor
from bitnet.models.ternary_tensors import FloatTensor, I2STensor
from bitnet.program.workers import Workers, team_size
from bitnet.quant import i2s
from bitnet.quant.i2s import SourceLayout
from bitnet.quant.ternary import TRAILER_BYTES

EMBEDDING, HEAD = "token_embd.weight", "output.weight"

Array = npt.NDArray[Any]


class Origin(Closing):
    """An open model, a GGUF file or a Hugging Face folder, and threads to convert it with.

    source_layout: "arm64" for I2_S tensors that an ARM build of bitnet.cpp has written.
    embed, head: how to store the tables of the embedding and of the output head; None as they are.
        An embedding that is the head too stays that, unless they shall differ.
    llama_pairing: which pairs Llama models of the new format rotate.

    Use as a context manager. Raises as `open_checkpoint`, and InvalidArgumentError.
    """

    def __init__(
        self,
        path: Path,
        *,
        source_layout: SourceLayout = "x86",
        embed: TableType | None = None,
        head: TableType | None = None,
        llama_pairing: RopePairing = "interleaved",
    ) -> None:
        self.path = path
        self.checkpoint = open_checkpoint(path)
        self.file = GGUFFile(path) if sniff(path) == "gguf" else None
        """The source, where it is a GGUF file."""
        self._source_layout = source_layout
        own = self.checkpoint.spec
        pairing = llama_pairing if own.architecture == "llama" else own.rope_pairing
        self._turned = own.rope_pairing != pairing
        self._tables = self._find_tables(embed, head)
        self.spec = replace(
            own,
            tied_head=HEAD not in self._tables,
            rope_pairing=pairing,
        )
        """Of the new file."""
        self.workers = Workers(team_size(None, self.checkpoint.size_bytes))

    def close(self) -> None:
        self.workers.close()
        self.checkpoint.close()
        if self.file is not None:
            self.file.close()

    @property
    def files(self) -> list[Path]:
        """Those that it may be in."""
        return list(self.checkpoint.path.iterdir() if self.file is None else self.file.files)

    def metadata(self) -> dict[str, WritableValue]:
        """What the new file is to say, but of the types of its tensors."""
        if self.file is not None:
            return kept_metadata(self.file.metadata)
        folder = self.checkpoint.path
        described = folder_metadata(folder, self.checkpoint.name, self.spec)
        return described | gguf_vocabulary(folder, self.spec)

    def ternary(self, name: str) -> TernaryTensor:
        """A linear layer; raises as `Checkpoint.ternary`."""
        tensor = self.checkpoint.ternary(name)
        if self._source_layout == "arm64":
            if not isinstance(tensor, I2STensor):
                raise InvalidArgumentError(f"{name} is not I2_S, which the layout arm64 is of")
            tensor = replace(tensor, source=cache(partial(_from_arm64, tensor)))
        for part, n_heads in (("attn_q", self.spec.n_heads), ("attn_k", self.spec.n_kv_heads)):
            if self._turned and name.endswith(f".{part}.weight"):
                return TurnedTensor(tensor, n_heads, self.spec.rope_pairing)
        return tensor

    def table(self, name: str) -> DenseTensor:
        """The embedding or the head, whole, as it is to be stored."""
        source, kind = self._tables[name]
        tensor = self.checkpoint.dense(source)
        if kind == tensor.kind:
            return tensor
        row_bytes = tensor_bytes(kind.upper(), (1, self.spec.hidden_size))
        raw, done = np.empty((self.spec.vocab_size, row_bytes), np.uint8), 0
        for piece in self._pieces(name):
            raw[done : done + len(piece)] = piece
            done += len(piece)
        return DenseTensor(name, raw.view("<f2") if kind == "f16" else raw, kind)

    def same_head(self) -> bool:
        """Whether the head is stored as in the source."""
        source, kind = self._tables[EMBEDDING if self.spec.tied_head else HEAD]
        return kind == self.checkpoint.dense(source).kind

    def kind(self, name: str) -> TableKind:
        """How a float tensor is to be stored."""
        if name in self._tables:
            return self._tables[name][1]
        # Other engines want float32 norms.
        return "f32" if self.file is None else self.checkpoint.dense(name).kind

    def dense(self, output: Output, name: str) -> TensorData:
        """A float tensor to write."""
        shape, kind = self.spec.dense_shapes()[name], self.kind(name).upper()
        return output.tensor(name, shape, kind, partial(self._pieces, name), self.release)

    def check(self, path: Path, weight_types: frozenset[str]) -> None:
        """Raise InvalidModelError unless the file at `path` holds this model in these types.

        weight_types: see `Checkpoint.weight_types`.
        """
        with open_checkpoint(path) as written:
            if (written.spec, written.weight_types) != (self.spec, weight_types):
                raise InvalidModelError(path, "is another model than was to be written")

    def release(self) -> None:
        """Give back what is mapped."""
        self.checkpoint.release()
        if self.file is not None:
            self.file.release()

    def _pieces(self, name: str) -> Iterable[Array]:
        if name in self._tables:
            source, kind = self._tables[name]
            table = self.checkpoint.dense(source)
            return table_pieces(table, self.spec.hidden_size, kind, self.workers)
        tensor = self.checkpoint.dense(name)
        return [tensor.data if self.file is not None else tensor.float32()]

    def _find_tables(
        self, embed: TableType | None, head: TableType | None
    ) -> dict[str, tuple[str, TableKind]]:
        """Tensor of the new file -> that of the source, and how to store it."""
        embedding: TableKind = embed or self.checkpoint.dense(EMBEDDING).kind
        if head is not None and not self.checkpoint.spec.has_head:
            raise InvalidArgumentError("the model has no output head to store in another way")
        tables: dict[str, tuple[str, TableKind]] = {EMBEDDING: (EMBEDDING, embedding)}
        if not self.checkpoint.spec.tied_head:
            tables[HEAD] = (HEAD, head or self.checkpoint.dense(HEAD).kind)
        elif head is not None and head != embedding:
            tables[HEAD] = (EMBEDDING, head)
        return tables


@dataclass(frozen=True)
class TurnedTensor:
    """q or k of a Llama model that rotates the other pairs: (i, i + d/2) or (2i, 2i + 1)."""

    tensor: TernaryTensor
    n_heads: int
    pairing: RopePairing
    """That it is turned for."""

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def shape(self) -> tuple[int, int]:
        return self.tensor.shape

    @property
    def scale(self) -> float | npt.NDArray[np.float32]:
        scale = self.tensor.scale
        if isinstance(scale, np.ndarray):
            return scale[self._rows(0, self.shape[0])]
        return scale

    def codes(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        rows = self._rows(start, stop)
        if not rows.size:
            return self.tensor.codes(start, stop)
        first = int(rows.min())
        return np.ascontiguousarray(self.tensor.codes(first, int(rows.max()) + 1)[rows - first])

    def stored(self) -> list[Any]:
        return []

    def _rows(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Where the rows are in the source."""
        size = self.shape[0] // self.n_heads
        head, row = np.divmod(np.arange(start, stop), size)
        step = 2 if self.pairing == "interleaved" else size // 2
        return np.asarray(head * size + row % step * (size // step) + row // step)


def has_row_scales(tensor: TernaryTensor) -> bool:
    # Floats have one scale, and finding it takes reading all of them.
    return not isinstance(tensor, FloatTensor) and isinstance(tensor.scale, np.ndarray)


def _from_arm64(tensor: I2STensor) -> Array:
    data = tensor.source()
    try:
        codes = i2s.from_arm64(data[:-TRAILER_BYTES])
    except InvalidArgumentError as error:
        raise InvalidModelError(tensor.path, str(error), tensor=tensor.name) from error
    return np.concatenate([codes, data[-TRAILER_BYTES:]])
