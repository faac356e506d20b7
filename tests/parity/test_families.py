"""Models laid out as each published family is load, agree with transformers, and are converted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitnet
from bitnet.conversion import convert
from bitnet.errors import UnsupportedModelError
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import TensorData, WritableValue, write_gguf
from bitnet.models import open_checkpoint
from tests.parity.agreement import judge
from tests.parity.expected import Expected
from tests.parity.families import BOS, EOS, EOT, FAMILIES, Family, write_small_files
from tests.tokenizers.torture import TEXTS

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # what torch and transformers warn of is theirs
]


@pytest.fixture(params=FAMILIES, ids=lambda family: family.repository)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


def make(random_models: Any, family: Family, folder: Path) -> list[Expected]:
    """Write the folder; gives what transformers computes."""
    expected, _ = random_models.write(family.case, folder)
    write_small_files(family, folder)
    return expected


def run(path: Path, expected: list[Expected]) -> list[Any]:
    with bitnet.load(path, kv="f32") as model:
        return [model.logits(sequence.ids) for sequence in expected]


def assert_same_tokens(ours: Path, theirs: Path) -> None:
    with open_checkpoint(ours) as new, open_checkpoint(theirs) as old:
        assert new.tokenizer.eos_ids == old.tokenizer.eos_ids
        assert new.tokenizer.bos_id == old.tokenizer.bos_id
        assert new.tokenizer.add_bos == old.tokenizer.add_bos
        assert new.tokenizer.chat_template == old.tokenizer.chat_template
        for text in TEXTS.values():
            for parse_special in (False, True):
                ids = old.tokenizer.encode(text, parse_special=parse_special)
                assert new.tokenizer.encode(text, parse_special=parse_special) == ids
                assert new.tokenizer.decode(ids) == old.tokenizer.decode(ids)


def assert_transformers_has_the_same_tokens(folder: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    with open_checkpoint(folder) as checkpoint:
        ours = checkpoint.tokenizer
        assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_id, ours.eos_id)
        for text in TEXTS.values():
            ids = ours.encode(text, add_bos=ours.add_bos, parse_special=True)
            assert theirs(text).input_ids == ids
            assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)
        if ours.chat_template is not None:
            chat = [{"role": "user", "content": "hi"}]
            text = theirs.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            assert text == ours.apply_chat_template(chat)


def test_families(random_models: Any, family: Family, tmp_path: Path) -> None:
    published = tmp_path / "published"
    expected = make(random_models, family, published)
    logits = run(published, expected)
    judge(logits, expected, family.case.layers)
    with open_checkpoint(published) as checkpoint:
        assert {*family.ends} <= checkpoint.tokenizer.eos_ids

    source, to_gguf = published, tmp_path / "model.gguf"
    if family.case.ffn % 128:
        with pytest.raises(UnsupportedModelError, match="multiple of 128"):
            convert(published, to_gguf, "i2_s")
    else:
        convert(published, to_gguf, "i2_s")
        assert_same_tokens(to_gguf, published)
        judge(run(to_gguf, expected), expected, family.case.layers)
        source = to_gguf
    convert(source, tmp_path / "written", "hf")
    assert_same_tokens(tmp_path / "written", published)
    assert_transformers_has_the_same_tokens(tmp_path / "written")
    for mine, theirs in zip(run(tmp_path / "written", expected), logits, strict=True):
        np.testing.assert_array_equal(mine, theirs)


# As the converter of bitnet.cpp writes it into every file.
OLD_TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ 'Human: ' + message['content'] + '\n\nBITNETAssistant: '"
    " + eos_token }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def write_official_gguf(folder: Path, path: Path) -> None:
    """The model in `folder` with the keys and types of the official GGUF file of 2B-4T."""
    convert(folder, path.with_name("new.gguf"), "i2_s")
    with GGUFFile(path.with_name("new.gguf")) as file:
        tensors = []
        for name, info in file.tensors.items():
            data = file.data(name)
            if name == "token_embd.weight":
                wide = data.view("<u2").astype(np.uint32) << 16
                tensors.append(TensorData(name, info.shape, "F16", wide.view("<f4").astype("<f2")))
            else:
                tensors.append(TensorData(name, info.shape, info.type, data))
        stored = file.metadata.stored
        arch = "bitnet-b1.58"
        numbers = ("vocab_size", "context_length", "embedding_length", "block_count")
        numbers += ("feed_forward_length", "rope.dimension_count", "attention.head_count")
        numbers += ("attention.head_count_kv", "attention.layer_norm_rms_epsilon", "rope.freq_base")
        tokens = stored["tokenizer.ggml.tokens"]
        keys: dict[str, WritableValue] = {
            "general.architecture": arch,
            "general.name": "bitnet2b",
            **{f"{arch}.{key}": stored[f"{arch}.{key}"] for key in numbers},
            "general.file_type": 40,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": np.zeros(len(tokens), np.float32),
            "tokenizer.ggml.token_type": stored["tokenizer.ggml.token_type"],
            "tokenizer.ggml.merges": stored["tokenizer.ggml.merges"],
            "tokenizer.ggml.bos_token_id": BOS,
            "tokenizer.ggml.eos_token_id": EOS,
            "tokenizer.ggml.padding_token_id": EOS,
            "tokenizer.ggml.add_bos_token": True,
            "tokenizer.chat_template": OLD_TEMPLATE,
            "general.quantization_version": 2,
        }
        assert len(keys) == 24
        assert {tensor.type for tensor in tensors} == {"I2_S", "F32", "F16"}
        write_gguf(path, keys, tensors)


def test_the_official_gguf_file(random_models: Any, tmp_path: Path) -> None:
    family = FAMILIES[0]
    expected = make(random_models, family, tmp_path / "published")
    official, written = tmp_path / "official.gguf", tmp_path / "written"
    write_official_gguf(tmp_path / "published", official)
    with open_checkpoint(official) as checkpoint:
        tokenizer = checkpoint.tokenizer
        assert tokenizer.eos_ids == {EOS, EOT}
        text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}])
        assert text == "<|begin_of_text|>User: hi<|eot_id|>Assistant: "
    convert(official, written, "hf")
    assert_same_tokens(written, official)
    logits = random_models.transformers_logits(written, [sequence.ids for sequence in expected])
    theirs = [replace(e, logits=mine) for e, mine in zip(expected, logits, strict=True)]
    judge(run(official, expected), theirs, family.case.layers)
    with open_checkpoint(tmp_path / "published") as folder:
        for text in TEXTS.values():
            assert tokenizer.encode(text) == folder.tokenizer.encode(text)
