"""Models of the Hugging Face hub on this machine: fetched, listed, found by name, removed.

They lie in a cache folder of huggingface_hub (extra `hub`), which keeps the books. Fetching is
`bitnet.store.hub`.
"""

from __future__ import annotations

from bitnet.store.local import StoredModel, models
from bitnet.store.lookup import find, find_all, remove, resolve
from bitnet.store.names import ModelName, parse_name

__all__ = [
    "ModelName",
    "StoredModel",
    "find",
    "find_all",
    "models",
    "parse_name",
    "remove",
    "resolve",
]
