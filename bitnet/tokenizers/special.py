"""What is known about tokens and templates by name, whatever file they come from."""

from __future__ import annotations

# Control tokens that end a turn or a text even where a model's files declare only one of them.
END_TOKENS = frozenset({"<|eot_id|>", "<|end_of_text|>", "<|im_end|>", "</s>"})

# The form BitNet b1.58 2B-4T was trained on: "User: text<|eot_id|>Assistant: ".
BITNET_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)

# In the template that bitnet.cpp's converter writes into every file, a placeholder under which the
# model never ends its turn.
_PLACEHOLDER = "BITNETAssistant"


def chat_template_for(architecture: str, template: str | None) -> str | None:
    """Return the template to use for a model whose files carry `template`."""
    missing = template is None or _PLACEHOLDER in template
    if missing and architecture in ("bitnet-b1.58", "bitnet-25"):
        return BITNET_CHAT_TEMPLATE
    return template
