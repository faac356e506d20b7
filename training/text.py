"""Tokenizer, chat template, and the way a document becomes token ids."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

BOS = "<|begin_of_text|>"
END = "<|end_of_text|>"
EOT = "<|eot_id|>"
VOCAB_SIZE = 2560

# The split of Llama 3, so that the GGUF may call its pre-tokenizer "llama-bpe".
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The format of BitNet b1.58 2B-4T: "Role: text<|eot_id|>" for each message, then "Assistant: ".
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] | trim + '" + EOT + "' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)

Message = dict[str, str]
Document = str | list[Message]


def train_tokenizer(documents: Iterable[Document]) -> PreTrainedTokenizerFast:
    """Byte-level BPE of VOCAB_SIZE tokens over the texts of ``documents``.

    The special tokens take ids 0 to 2. Raises ValueError if the texts hold too few words.
    """
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))  # as llama-bpe does
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in (BOS, END, EOT)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(_plain_text, documents), trainer)
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise ValueError(f"the texts give only {tokenizer.get_vocab_size()} tokens")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=END,
        extra_special_tokens=[EOT],
        add_bos_token=True,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def _plain_text(document: Document) -> str:
    if isinstance(document, str):
        return document
    return "\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in document)


def render(tokenizer: PreTrainedTokenizerFast, document: Document) -> str:
    """The document as one text, without the begin and end tokens."""
    if isinstance(document, str):
        return document
    text = tokenizer.apply_chat_template(document, tokenize=False)
    return str(text).removeprefix(BOS)


def encode_documents(
    tokenizer: PreTrainedTokenizerFast, documents: Iterable[Document], seed: int
) -> Iterator[list[int]]:
    """Token ids of each document, from the begin token to the end token.

    The last answer of a conversation is encoded apart from what comes before it, because at
    inference time the prompt ends in "Assistant: " and the answer starts after that space.
    A conversation is cut after a random one of its answers so that every answer has its turn
    of being last.
    """
    rng = random.Random(f"cut-{seed}")

    def encode(text: str) -> list[int]:
        return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    bos, end = tokenizer.convert_tokens_to_ids([BOS, END])
    for document in documents:
        if isinstance(document, str):
            yield [bos, *encode(document), end]
            continue
        kept = document[: 2 * rng.randint(1, len(document) // 2)]
        prompt = tokenizer.apply_chat_template(
            kept[:-1], tokenize=False, add_generation_prompt=True
        )
        answer = kept[-1]["content"] + EOT
        yield [*encode(prompt), *encode(answer), end]


def pack_rows(encoded: Iterable[list[int]], rows: int, length: int) -> NDArray[np.uint16]:
    """Array (rows, length): every row starts with a begin token and holds whole documents,
    the last of which is cut off at the end of the row. Raises ValueError if they run out."""
    packed = np.empty((rows, length), dtype=np.uint16)
    row, filled = 0, 0
    for ids in encoded:
        part = ids[: length - filled]
        packed[row, filled : filled + len(part)] = part
        filled += len(part)
        if filled == length:
            row, filled = row + 1, 0
            if row == rows:
                return packed
    raise ValueError(f"the corpus fills only {row} of {rows} rows")
