"""Alignment of Mistral-7B-Instruct-v0.2, an aligned model, with the safety signal: the paper's second model: lambda_2 = 0.01, 8 epochs.

Expects the model's Hugging Face directory in checkpoints/Mistral-7B-Instruct-v0.2 (safetensors). Not run yet for
lack of chips; a tiny model of the same family takes the same path in tests/interop/test_published.py.

    python -m launch.train --config=configs/align_mistral_7b.py --workdir=runs/align_mistral_7b
"""

from ml_collections import ConfigDict

from configs.align_published_base import base


def get_config() -> ConfigDict:
    config = base("mistral_7b", "checkpoints/Mistral-7B-Instruct-v0.2", "mistral", lambda_cls=0.01, epochs=8)
    config.model.rope_theta = 1_000_000.0  # v0.2
    return config
