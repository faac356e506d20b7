"""Rewriting a model as a Hugging Face folder, which transformers loads.

BitNet models become BitNetForCausalLM, those of 1bitLLM too, with its SiLU: the classes that they
were published with were never part of transformers. Llama models become LlamaForCausalLM, embedding
models Qwen3Model or Gemma3TextModel, whose linear layers norm their input as `use_rms_norm` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.conversion.huggingface_settings import LinearClass, settings_files
from bitnet.conversion.new_folder import new_folder
from bitnet.conversion.origin import Origin, has_row_scales
from bitnet.conversion.output import Written
from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.formats.safetensors import SafetensorsFolder
from bitnet.formats.safetensors_writer import MAX_FILE_BYTES, TensorData, write_safetensors
from bitnet.models import open_checkpoint
from bitnet.models.embedders import stored_minus_one
from bitnet.models.huggingface_checkpoint import module_names
from bitnet.models.tensors import DenseTensor, FloatKind, TernaryTensor, is_float
from bitnet.quant.ternary import pack_quarters

_ROWS_AT_ONCE = 4096  # of a table
_WEIGHTS_AT_ONCE = 1 << 20  # that a thread packs

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]


def write_huggingface(
    origin: Origin,
    out: Path,
    *,
    overwrite: bool,
    progress: Callable[[float], None],
    max_file_bytes: int = MAX_FILE_BYTES,
) -> None:
    """Write the model as the folder `out`; tables in blocks become floats of the same values.

    origin: opened for the rotary pairs "halves". overwrite: whether `out` may exist; see
    `new_folder`. Raises as `convert`, naming the tensor that has no form there.
    """
    folder = _Folder(origin, progress)
    with new_folder(out, origin.path, overwrite=overwrite) as aside:
        folder.write(aside, max_file_bytes)


class _Folder:
    """The tensors and small files of the new folder; tensors are made as they are written."""

    def __init__(self, origin: Origin, progress: Callable[[float], None]) -> None:
        self._origin = origin
        self._written = Written(progress)
        spec, path = origin.spec, origin.path
        if spec.sub_norms and spec.q_size != spec.hidden_size:
            raise UnsupportedModelError(
                path, f"heads {spec.q_size} wide in all, not {spec.hidden_size}: not a BitNet model"
            )
        if spec.hidden_size % spec.n_heads and not spec.input_norms:
            raise UnsupportedModelError(
                path,
                f"width {spec.hidden_size} is no multiple of {spec.n_heads} heads, as "
                "transformers wants it",
            )
        self._ternary = {name: origin.ternary(name) for name in spec.ternary_shapes()}
        self._scales = {name: self._scale(tensor) for name, tensor in self._ternary.items()}

    def write(self, folder: Path, max_file_bytes: int) -> None:
        """Write all files into `folder`, and read them again."""
        tensors = [*self._tensors()]
        self._written.total = sum(tensor.nbytes for tensor in tensors)
        narrow = all(tensor.dtype in ("BF16", "U8") for tensor in tensors)
        files = settings_files(self._origin, self._convention, "bfloat16" if narrow else "float32")
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        write_safetensors(folder, tensors, max_file_bytes)
        self._verify(folder, "tokenizer.json" in files)

    def _verify(self, path: Path, has_tokenizer: bool) -> None:
        """Raise InvalidModelError if a folder is another model or holds other bytes than given."""
        with open_checkpoint(path) as written, SafetensorsFolder(path) as files:
            scales = {name: written.ternary(name).scale for name in self._scales}
            if written.spec != self._origin.spec or scales != self._scales:
                raise InvalidModelError(path, "is another model than was to be written")
            if has_tokenizer:
                written.tokenizer  # noqa: B018  # raises if it cannot be read

            def compare(name: str) -> None:
                data = files.data(name).reshape(-1).view(np.uint8)
                self._written.compare(path, name, data, files.release)

            self._origin.workers.run_all(partial(compare, name) for name in self._written.names)

    # -- tensors ----------------------------------------------------------------------------

    def _tensors(self) -> Iterator[TensorData]:
        for name in self._origin.spec.dense_shapes():
            yield self._dense(name)
        for name in self._ternary:
            yield self._packed(name)
            yield self._weight_scale(name)

    def _tensor(
        self, name: str, dtype: str, shape: tuple[int, ...], make: Callable[[], Iterator[Array]]
    ) -> TensorData:
        data = self._written.stream(name, make, self._origin.release)
        return TensorData(name, dtype, shape, data)

    def _module(self, name: str) -> str:
        return module_names(name, self._origin.spec.architecture)[0]

    def _dense(self, name: str) -> TensorData:
        spec = self._origin.spec
        tensor, shape = self._origin.checkpoint.dense(name), spec.dense_shapes()[name]
        if stored_minus_one(spec.architecture, name):
            tensor = self._minus_one(tensor)
        kind = tensor.kind if is_float(tensor.kind) else _lossless(_float_pieces(tensor))

        def make() -> Iterator[Array]:
            if tensor.kind == kind:
                yield tensor.data
            else:
                yield from (_as_kind(piece, kind) for piece in _float_pieces(tensor))

        return self._tensor(f"{self._module(name)}.weight", kind.upper(), shape, make)

    def _minus_one(self, tensor: DenseTensor) -> DenseTensor:
        values = tensor.float32()
        less = values - np.float32(1)
        if np.any(less + np.float32(1) != values):
            raise UnsupportedModelError(
                self._origin.path, "less 1, its values are no float32", tensor=tensor.name
            )
        return DenseTensor(tensor.name, less, "f32")

    def _packed(self, name: str) -> TensorData:
        tensor = self._ternary[name]
        rows, columns = tensor.shape
        if rows % 4:
            raise self._unsupported(tensor, f"{rows} rows cannot be packed by four")

        def make() -> Iterator[Array]:
            yield self._pack(tensor)

        return self._tensor(f"{self._module(name)}.weight", "U8", (rows // 4, columns), make)

    def _pack(self, tensor: TernaryTensor) -> Array:
        rows, columns = tensor.shape
        quarter = rows // 4
        out = np.empty((quarter, columns), np.uint8)
        step = max(1, _WEIGHTS_AT_ONCE // (4 * columns))

        def pack(start: int) -> None:
            stop = min(start + step, quarter)
            parts = [tensor.codes(i * quarter + start, i * quarter + stop) for i in range(4)]
            out[start:stop] = pack_quarters(np.concatenate(parts))

        self._origin.workers.run_all(partial(pack, start) for start in range(0, quarter, step))
        return out

    def _weight_scale(self, name: str) -> TensorData:
        scale = np.float32(self._scales[name])
        value = _inverse(scale) if self._convention == "bitlinear" else scale
        stored = np.array([value], np.float32)
        kind: FloatKind = "bf16" if _is_bf16(stored) else "f32"

        def make() -> Iterator[Array]:
            yield _as_kind(stored, kind)

        return self._tensor(f"{self._module(name)}.weight_scale", kind.upper(), (1,), make)

    # -- scales -----------------------------------------------------------------------------

    @cached_property
    def _convention(self) -> LinearClass:
        """How weight_scale is meant: published Llama models divide by it, BitNet multiplies.

        A scale that is no float32 after a division, which only models made otherwise have, must be
        multiplied by.
        """
        divisible = all(_inverse(np.float32(s)) is not None for s in self._scales.values())
        return "bitlinear" if divisible and not self._origin.spec.sub_norms else "autobitlinear"

    def _scale(self, tensor: TernaryTensor) -> float:
        if has_row_scales(tensor):
            scales = np.unique(tensor.scale)
            if scales.size > 1:
                raise self._unsupported(
                    tensor, "its rows have scales of their own; such folders have one a tensor"
                )
            scale = float(scales[0])
        else:
            scale = float(tensor.scale)
        if scale == 0:
            raise self._unsupported(tensor, "its scale is 0; such folders have positive ones")
        return scale

    def _unsupported(self, tensor: TernaryTensor, rule: str) -> UnsupportedModelError:
        return UnsupportedModelError(self._origin.path, rule, tensor=tensor.name)


def _float_pieces(tensor: DenseTensor) -> Iterator[F32]:
    for start in range(0, len(tensor.data), _ROWS_AT_ONCE):
        rows = tensor.data[start : start + _ROWS_AT_ONCE]
        yield DenseTensor(tensor.name, rows, tensor.kind).float32()


def _lossless(pieces: Iterator[F32]) -> FloatKind:
    """The first of f16, bf16 and f32 that holds all values."""
    kinds: list[FloatKind] = ["f16", "bf16"]
    for piece in pieces:
        kinds = [kind for kind in kinds if (_is_f16 if kind == "f16" else _is_bf16)(piece)]
        if not kinds:
            return "f32"
    return kinds[0]


def _is_f16(values: F32) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.all(values.astype(np.float16).astype(np.float32) == values))


def _is_bf16(values: F32) -> bool:
    return not np.any(values.view(np.uint32) & np.uint32(0xFFFF))


def _as_kind(values: F32, kind: FloatKind) -> Array:
    """The values, which `kind` holds, as it."""
    if kind == "bf16":
        return (values.view(np.uint32) >> np.uint32(16)).astype("<u2")
    return values.astype("<f2" if kind == "f16" else "<f4", copy=False)


def _inverse(scale: np.float32) -> np.float32 | None:
    """A number whose reciprocal in float32 is `scale`, one of bfloat16 if there is one."""
    near = np.float32(1) / scale
    steps = np.arange(-2, 3, dtype=np.int64)
    bits = int(near.view(np.uint32))
    for unit in (1 << 16, 1):
        for value in ((bits // unit + steps) * unit).astype(np.uint32).view(np.float32):
            if np.isfinite(value) and value > 0 and np.float32(1) / value == scale:
                return np.float32(value)
    return None
