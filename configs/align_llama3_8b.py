"""Alignment of Llama-3-8B, a base model, with the safety signal: not in the paper; Llama-2's hyperparameters and steps.

Expects the model's Hugging Face directory in checkpoints/Meta-Llama-3-8B (safetensors). Not run yet for lack of chips; a tiny model of
the same family takes the same path in tests/interop/test_published.py.

    python -m launch.train --config=configs/align_llama3_8b.py --workdir=runs/align_llama3_8b
"""

from ml_collections import ConfigDict

from configs import align_llama2_7b


def get_config() -> ConfigDict:
    config = align_llama2_7b.get_config()
    config.model.preset, config.template = "llama3_8b", "llama3"
    config.init_from = "checkpoints/Meta-Llama-3-8B"
    return config
