"""Film reviews and books, labelled by the small guard: the text of `configs/pretrain_small.py`. About 3 minutes.

    python -m launch.label --config=configs/label_small.py --guard=runs/guard_small --output=runs/labels_small

With Llama-Guard-3 (a Hugging Face directory; its template brings the taxonomy, its answers start with two newlines):
    … --guard=DIR --config.safe=$'\\n\\nsafe' --config.unsafe=$'\\n\\nunsafe' --config.max_length=2048
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            sources=dict(text_imdb=7_000, text_books=3_000),
            data_dir="../shared/data",
            cache_dir="~/.cache/safety_align",
            safe="safe",
            unsafe="unsafe",
            max_length=320,
            batch_size=32,
        )
    )
