"""Alignment of Llama-3-8B, a base model, with the safety signal: not in the paper; Llama-2's hyperparameters.

Expects the model's Hugging Face directory in checkpoints/Meta-Llama-3-8B (safetensors). Not run yet for lack of chips; a tiny model of
the same family takes the same path in tests/interop/test_published.py.

    python -m launch.train --config=configs/align_llama3_8b.py --workdir=runs/align_llama3_8b
"""

from ml_collections import ConfigDict

from configs.align_published_base import base


def get_config() -> ConfigDict:
    return base("llama3_8b", "checkpoints/Meta-Llama-3-8B", "llama3", lambda_cls=0.1, epochs=15)
