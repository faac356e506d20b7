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


def chat_template_for(architecture: str, template: str | None) -> str | None:
    """Return the template to use for a model whose files carry `template`."""
    missing = template is None or _PLACEHOLDER in template
    if missing and architecture in ("bitnet-b1.58", "bitnet-25"):
        return TEMPLATES["bitnet"].source
    return template


def own_templates(architecture: str, templates: dict[str, str]) -> dict[str, str]:
    """Return the templates, by name, of a model whose files carry `templates`."""
    default = chat_template_for(architecture, templates.get("default"))
    return templates if default is None else {**templates, "default": default}
