"""The readers of files as functions of bytes, for a fuzzer and for the files in `corpus`.

Each may refuse the bytes with an error of bitnet, whose text a terminal can show. Anything else
that is raised is a bug, and so is a run of more than five seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from bitnet.cli import settings
from bitnet.errors import BitNetError
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_metadata import Metadata
from bitnet.formats.safetensors import INDEX_FILE, SINGLE_FILE, SafetensorsFolder
from bitnet.models import Checkpoint, open_checkpoint
from bitnet.models.tl_blocks import BlockSizes
from bitnet.models.tokenizer_files import open_tokenizer
from bitnet.quant.tl_config import CONFIG_NAME
from bitnet.tokenizers import Tokenizer
from bitnet.tokenizers.chat_template import ChatTemplate

# Between the files of a folder in one piece of bytes.
SEPARATOR = b"\xff\xfe\n"
MAX_ERROR_CHARS = 4096
TENSORS = 4
ROWS = 4
TEXT = "Hello  world,\n it's 12345 \t été 🙂<s></s>▁a"
CHAT = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hi "},
    {"role": "assistant", "content": "Hello"},
)


def fuzz_gguf(data: bytes) -> None:
    """A GGUF file: header and metadata, the first tensors, and what a model is made of."""
    with folder({"model.gguf": data}) as path:
        with refusals(), GGUFFile(path / "model.gguf") as file:
            for name in islice(file.tensors, TENSORS):
                with refusals():
                    assert file.data(name).size == file.tensors[name].nbytes
        with refusals():
            use_checkpoint(path / "model.gguf")


def fuzz_safetensors(data: bytes) -> None:
    """A safetensors file and its first tensors."""
    with folder({SINGLE_FILE: data}) as path, refusals(), SafetensorsFolder(path) as opened:
        for name in islice(opened.tensors, TENSORS):
            assert opened.data(name).shape == opened.tensors[name].shape


def fuzz_huggingface(data: bytes) -> None:
    """A folder: config.json, then one safetensors file or an index and two."""
    config, *weights = data.split(SEPARATOR, 3)
    names = [SINGLE_FILE] if len(weights) == 1 else [INDEX_FILE, "x.safetensors", "y.safetensors"]
    files = {"config.json": config, **dict(zip(names, weights, strict=False))}
    with folder(files) as path, refusals():
        use_checkpoint(path)


def fuzz_tokenizer_json(data: bytes) -> None:
    """A tokenizer.json, and perhaps the two other files beside it."""
    names = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    with folder(dict(zip(names, data.split(SEPARATOR, 2), strict=False))) as path, refusals():
        use_tokenizer(open_tokenizer(path / "tokenizer.json"))


def fuzz_tokenizer_model(data: bytes) -> None:
    """A tokenizer.model, of SentencePiece or tiktoken."""
    with folder({"tokenizer.model": data}) as path, refusals():
        use_tokenizer(open_tokenizer(path / "tokenizer.model"))


def fuzz_chat_template(data: bytes) -> None:
    """The Jinja source of a chat template."""
    with refusals():
        template = ChatTemplate("m.gguf", data.decode("utf-8", "replace"))
        template.render(CHAT, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")


def fuzz_settings(data: bytes) -> None:
    """Settings as TOML, settings as JSON, and a kernel_config.ini."""
    names = ("config.toml", "config.json", CONFIG_NAME)
    with folder(dict(zip(names, data.split(SEPARATOR, 2), strict=False))) as path:
        for name in names[:2]:
            with refusals():
                settings.read(path / name, {}).values()
        with refusals():
            BlockSizes(path / "model.gguf", Metadata("m", {})).find("w", "TL1", (128, 128))


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "gguf": fuzz_gguf,
    "safetensors": fuzz_safetensors,
    "huggingface": fuzz_huggingface,
    "tokenizer_json": fuzz_tokenizer_json,
    "tokenizer_model": fuzz_tokenizer_model,
    "chat_template": fuzz_chat_template,
    "settings": fuzz_settings,
}


@contextmanager
def refusals() -> Iterator[None]:
    """Let errors of bitnet pass whose text is fit to be shown."""
    try:
        yield
    except BitNetError as error:
        text = str(error)
        assert text.isprintable(), f"not to be shown: {text!r}"
        assert len(text) <= MAX_ERROR_CHARS, f"{len(text)} characters: {text[:200]!r}"


@contextmanager
def folder(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder with these files."""
    with TemporaryDirectory(prefix="bitnet-fuzz-") as name:
        path = Path(name)
        for file, data in files.items():
            (path / file).write_bytes(data)
        yield path


def use_checkpoint(path: Path) -> None:
    with open_checkpoint(path) as checkpoint:
        use_tensors(checkpoint)
        use_tokenizer(checkpoint.tokenizer)


def use_tensors(checkpoint: Checkpoint) -> None:
    for name, (rows, columns) in islice(checkpoint.spec.ternary_shapes().items(), TENSORS):
        with refusals():
            tensor = checkpoint.ternary(name)
            assert tensor.codes(0, min(rows, ROWS)).shape == (min(rows, ROWS), columns)
            assert tensor.scale is not None
            tensor.stored()
    for name in islice(checkpoint.spec.dense_shapes(), TENSORS):
        with refusals():
            checkpoint.dense(name).float32()


def use_tokenizer(tokenizer: Tokenizer) -> None:
    for parse_special in (False, True):
        with refusals():
            ids = tokenizer.encode(TEXT, parse_special=parse_special)
            tokenizer.decode(ids, skip_special=False)
            for id in ids:
                tokenizer.piece(id)
    with refusals():
        tokenizer.encode_chat(CHAT)
