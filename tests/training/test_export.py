"""A small random model in both exported forms is the model that was trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bitnet.models.checkpoint import open_checkpoint

torch = pytest.importorskip("torch", reason="the training pipeline needs torch")
pytest.importorskip("transformers", reason="the training pipeline needs transformers")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, at its import
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        BitNetForCausalLM,
        PreTrainedTokenizerFast,
    )

    from training import export, model, stories, text
    from training.evaluate import perplexity, write_held_out

LAYERS = 4
CHAT = [
    {"role": "user", "content": "Tell me a story about a fox."},
    {"role": "assistant", "content": "Once upon a time, there was a fox.\n\nIt was happy."},
    {"role": "user", "content": "Who was happy?"},
]


@pytest.fixture(autouse=True, scope="module")
def _run_uncompiled() -> Iterator[None]:
    """transformers compiles its quantisers on first use, which takes longer than these tests."""
    with torch._dynamo.config.patch(disable=True):
        yield


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return text.train_tokenizer(stories.documents(1, 5000))


@pytest.fixture(scope="module")
def trained() -> BitNetForCausalLM:
    torch.manual_seed(0)
    built = model.build(model.story_config(LAYERS)).eval()
    with torch.no_grad():
        embedding = built.model.embed_tokens.weight
        embedding.copy_(embedding.half())
        for name, parameter in built.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return built


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    trained: BitNetForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
) -> Path:
    folder = tmp_path_factory.mktemp("huggingface")
    export.export_huggingface(trained, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def gguf(
    tmp_path_factory: pytest.TempPathFactory,
    trained: BitNetForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    export.export_gguf(trained, tokenizer, "tiny", path)
    return path


def test_packed_folder_gives_the_logits_of_the_trained_model(
    folder: Path, trained: BitNetForCausalLM
) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, text.VOCAB_SIZE, (1, 64))
    with torch.inference_mode():
        expected, actual = trained(ids).logits[0], loaded(ids).logits[0]
    # An activation on a rounding tie may fall the other way, which moves a logit by about 1e-2.
    assert (actual - expected).abs().max() <= 6e-2 * expected.abs().max()
    assert (actual - expected).abs().median() <= 1e-3 * expected.abs().max()


def test_gguf_and_folder_hold_the_same_weights_and_shape(folder: Path, gguf: Path) -> None:
    with open_checkpoint(folder) as packed, open_checkpoint(gguf) as single:
        assert single.spec == packed.spec
        assert single.spec.architecture == export.ARCHITECTURE
        for name, (rows, _) in single.spec.ternary_shapes().items():
            one, other = single.ternary(name), packed.ternary(name)
            assert one.scale == other.scale
            np.testing.assert_array_equal(one.codes(0, rows), other.codes(0, rows))
        for name in single.spec.dense_shapes():
            one, other = single.dense(name), packed.dense(name)
            assert one.kind == ("f16" if name == "token_embd.weight" else "f32")
            np.testing.assert_array_equal(one.float32(), other.float32())


def test_gguf_fits_the_size_of_the_bundled_model(gguf: Path) -> None:
    assert gguf.stat().st_size < 3_000_000


def test_all_three_tokenizers_render_and_encode_a_chat_alike(
    folder: Path, gguf: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    rendered = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    ids = tokenizer.backend_tokenizer.encode(rendered, add_special_tokens=False).ids
    loaded = AutoTokenizer.from_pretrained(folder)
    assert loaded.apply_chat_template(CHAT, add_generation_prompt=True).input_ids == ids
    for path in (folder, gguf):
        with open_checkpoint(path) as checkpoint:
            own = checkpoint.tokenizer
            assert own.apply_chat_template(CHAT) == rendered
            assert own.encode_chat(CHAT) == ids
            assert own.add_bos
            assert own.eos_ids == {1, 2}
            assert own.decode(ids, skip_special=False) == rendered


def test_generation_prompt_is_encoded_as_in_training(tokenizer: PreTrainedTokenizerFast) -> None:
    chat = CHAT[:2]
    (encoded,) = text.encode_documents(tokenizer, [chat], seed=1)
    prompt = tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True).input_ids
    assert encoded[: len(prompt)] == prompt
    assert tokenizer.decode(encoded[len(prompt) :]) == chat[1]["content"] + text.EOT + text.END


def test_rows_start_with_a_begin_token_and_are_full(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = text.encode_documents(tokenizer, stories.documents(1, 40), seed=1)
    rows = text.pack_rows(encoded, rows=4, length=513)
    assert (rows[:, 0] == tokenizer.bos_token_id).all()
    with pytest.raises(ValueError, match="fills only 0 of 9 rows"):
        text.pack_rows([], rows=9, length=513)


def test_random_weights_are_as_good_as_guessing(
    folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    held_out = tmp_path / "heldout.jsonl"
    write_held_out(tokenizer, 1, held_out)
    lines = held_out.read_text().splitlines()
    held_out.write_text("\n".join(lines[:3]))
    value, tokens = perplexity(folder, held_out)
    assert tokens > 300
    assert text.VOCAB_SIZE / 2 < value < text.VOCAB_SIZE * 2
