"""Text to token ids and back, from what a model's files carry."""

from __future__ import annotations

from bitnet.tokenizers.tokenizer import StreamDecoder, Tokenizer

__all__ = ["StreamDecoder", "Tokenizer"]
