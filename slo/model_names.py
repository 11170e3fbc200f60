"""
Of which architecture a model is that Xinference knows by name: its catalogue does not say, and the files come later.

The launch asks here who will serve it, and our engine whether it offers itself for it.
"""

from __future__ import annotations

from collections.abc import Mapping

OUR_ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "camembert")  # those that our engine runs

# `model_type` in config.json, by name. Not here: what embeds more than text, or runs code of its own repository.
_NAMES = {
    "bert": """
        bge-small-zh bge-small-zh-v1.5 bge-small-en-v1.5 bge-base-zh bge-base-zh-v1.5 bge-base-en bge-base-en-v1.5
        bge-large-zh bge-large-zh-v1.5 bge-large-en bge-large-en-v1.5 e5-large-v2 gte-base gte-large m3e-small m3e-base
        m3e-large text2vec-base-chinese text2vec-base-multilingual text2vec-large-chinese""",
    "xlm-roberta": "bge-m3 bce-embedding-base_v1 multilingual-e5-large",
    "ernie": "text2vec-base-chinese-paraphrase",
    "qwen2": "gte-Qwen2",
    "qwen3": "Qwen3-Embedding-0.6B Qwen3-Embedding-4B Qwen3-Embedding-8B R3-embedding-0.6b",
}
ARCHITECTURES: Mapping[str, str] = {name: kind for kind, names in _NAMES.items() for name in names.split()}
