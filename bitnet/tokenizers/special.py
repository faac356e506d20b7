"""What is known about tokens and templates by name, whatever file they come from."""

from __future__ import annotations

from bitnet.tokenizers.templates import TEMPLATES

# Control tokens that end a turn or a text even where a model's files declare only one of them.
END_TOKENS = frozenset(
    {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "</s>"}
    | {"<end_of_turn>", "<｜end▁of▁sentence｜>"}  # noqa: RUF001  # DeepSeek's letters
)

# In the template that bitnet.cpp's converter writes into every file, a placeholder under which the
# model never ends its turn.
_PLACEHOLDER = "BITNETAssistant"


def own_templates(architecture: str, templates: dict[str, str]) -> dict[str, str]:
    """Return the templates, by name, of a model whose files carry `templates`."""
    default = templates.get("default")
    missing = default is None or _PLACEHOLDER in default
    if missing and architecture in ("bitnet-b1.58", "bitnet-25"):
        return {**templates, "default": TEMPLATES["bitnet"].source}
    return templates
