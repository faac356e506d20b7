"""Small random models laid out exactly as the published families are, with a tokenizer of the kind.

The keys of their config.json are those of the hub; sizes, and ids of tokens, are scaled down.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, decoders, pre_tokenizers
from tokenizers import Tokenizer as Encoder
from tokenizers.processors import TemplateProcessing

from bitnet.models.tokenizer_files import open_tokenizer
from tests.parity.cases import Case
from tests.tokenizers.conftest import CONTROLS, train_byte_level, train_sentencepiece

BOS, EOS, EOT = 400, 401, 402  # of the byte-level tokenizers
BYTE_LEVEL_VOCAB = 416  # padded
SENTENCEPIECE_VOCAB = 402
LENGTHS = (20, 9, 1)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' "
    "+ message['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A published repository, and the model that stands for it."""

    repository: str
    case: Case
    tokenizer: Literal["byte-level", "sentencepiece"] = "byte-level"
    ends: tuple[int, ...] = (EOS,)
    """eos_token_id of generation_config.json."""
    repeated: str = ""
    """What config.json has once more at its end."""


_BITNET = {
    "auto_map": {
        "AutoConfig": "configuration_bitnet.BitNetConfig",
        "AutoModelForCausalLM": "modeling_bitnet.BitNetForCausalLM",
    },
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "initializer_range": 0.02,
    "use_cache": True,
}
_1BITLLM = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.02,
    "pad_token_id": 400,
    "pretraining_tp": 1,
    "rope_scaling": None,
    "transformers_version": "4.39.0",
    "use_cache": True,
}
_LLAMA = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": BOS,
    "eos_token_id": EOT,
    "initializer_range": 0.02,
    "is_bitnet_config": True,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "rope_scaling": None,
    "use_cache": True,
}
_LLAMA3 = {
    **_LLAMA,
    "quantization_config": {"modules_to_not_convert": None, "quant_method": "bitnet"},
    "rope_interleaved": False,
}
_FALCON = {**_LLAMA, "eos_token_id": EOS}


def _case(name: str, style: Any, sizes: tuple[int, ...], **settings: Any) -> Case:
    hidden, ffn, heads, kv_heads = sizes
    return Case(
        name=name,
        style=style,
        seed=len(name),
        layers=1,
        hidden=hidden,
        ffn=ffn,
        heads=heads,
        kv_heads=kv_heads,
        lengths=LENGTHS,
        **{"vocab": BYTE_LEVEL_VOCAB, **settings},
    )


_B158 = {"theta": 500000.0, "published": _BITNET}
_SIZES_3B = (200, 540, 2, 2)  # heads of 100; 540 is, like 8640, no multiple of 128

FAMILIES = (
    Family(
        "microsoft/bitnet-b1.58-2B-4T",
        _case("2b-4t", "b1.58-packed", (256, 768, 4, 1), **_B158),
        ends=(EOS, EOT),
    ),
    Family(
        "microsoft/bitnet-b1.58-2B-4T-bf16",
        _case("2b-4t-bf16", "b1.58-latent", (256, 768, 4, 1), **_B158),
        ends=(EOS, EOT),
    ),
    Family(
        "1bitLLM/bitnet_b1_58-large",
        _case(
            "1bitllm-large",
            "1bitllm",
            (384, 1024, 4, 4),
            dtype="f32",
            vocab=SENTENCEPIECE_VOCAB,
            published=_1BITLLM,
        ),
        "sentencepiece",
        (2,),
    ),
    Family(
        "1bitLLM/bitnet_b1_58-3B",
        _case(
            "1bitllm-3b",
            "1bitllm",
            _SIZES_3B,
            dtype="f16",
            vocab=SENTENCEPIECE_VOCAB,
            published=_1BITLLM,
        ),
        "sentencepiece",
        (2,),
    ),
    Family(
        "HF1BitLLM/Llama3-8B-1.58-100B-tokens",
        _case(
            "llama3-8b",
            "llama-packed",
            (256, 896, 4, 1),
            theta=500000.0,
            tied=False,
            published=_LLAMA3,
        ),
        ends=(EOS, EOT),
        repeated='"quantization_config": {"quant_method": "bitnet"}',
    ),
    Family(
        "tiiuae/Falcon3-1B-Instruct-1.58bit",
        _case(
            "falcon3-1b",
            "llama-packed",
            (512, 1024, 2, 1),
            head_dim=256,
            eps=1e-6,
            tied=False,
            published={**_FALCON, "rope_theta": 1000042, "bos_token_id": None},
        ),
    ),
    Family(
        "tiiuae/Falcon3-10B-Base-1.58bit",
        _case(
            "falcon3-10b",
            "llama-packed",
            (256, 1920, 1, 1),
            head_dim=256,
            eps=1e-6,
            tied=False,
            published={**_FALCON, "rope_theta": 1000042},
        ),
    ),
    Family(
        "tiiuae/Falcon-E-1B-Base",
        _case(
            "falcon-e-1b",
            "llama-packed",
            (256, 1024, 2, 1),
            head_dim=128,
            tied=False,
            published={**_FALCON, "rope_theta": 1000000},
        ),
    ),
)


def write_small_files(family: Family, folder: Path) -> None:
    """What a folder has besides the tensors; `folder` has its config.json."""
    if family.repeated:
        config = folder / "config.json"
        config.write_text(f"{config.read_text().rstrip().removesuffix('}')}, {family.repeated}}}\n")
    ends = family.ends if len(family.ends) > 1 else family.ends[0]
    generation = {"_from_model_config": True, "eos_token_id": ends}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    if family.tokenizer == "byte-level":
        train_byte_level("llama-bpe", folder)
        settings = {"bos_token": CONTROLS[0], "eos_token": CONTROLS[1]}
        settings |= {"chat_template": CHAT_TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    else:
        _write_sentencepiece(folder)


def _write_sentencepiece(folder: Path) -> None:
    """As 1bitLLM has it: with a tokenizer.json beside the model, and two tokens more in it."""
    (folder / "tokenizer.model").write_bytes(train_sentencepiece(True, byte_fallback=True))
    encoder = Encoder.from_str(open_tokenizer(folder).to_json())
    encoder.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in ("<pad>", "</line>")]
    )
    encoder.normalizer = None
    encoder.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    encoder.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    encoder.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    encoder.save(str(folder / "tokenizer.json"))
    (folder / "added_tokens.json").write_text(json.dumps({"</line>": 401, "<pad>": 400}))
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "add_prefix_space": True,
        "additional_special_tokens": ["</line>"],
        "bos_token": "<s>",
        "eos_token": "</s>",
        "legacy": False,
        "pad_token": "<pad>",
        "tokenizer_class": "BitnetTokenizer",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
