"""Alignment of Llama-2-7B, a base model, with the safety signal: the paper's first model: lambda_2 = 0.1, 15 epochs.

Expects the model's Hugging Face directory in checkpoints/Llama-2-7b-hf (safetensors). Not run yet for lack of chips; a tiny model of
the same family takes the same path in tests/interop/test_published.py.

    python -m launch.train --config=configs/align_llama2_7b.py --workdir=runs/align_llama2_7b
"""

from ml_collections import ConfigDict

from configs.align_published_base import base


def get_config() -> ConfigDict:
    return base("llama2_7b", "checkpoints/Llama-2-7b-hf", "llama2_authors", lambda_cls=0.1, epochs=15)
