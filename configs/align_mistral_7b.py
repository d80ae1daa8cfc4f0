"""Alignment of Mistral-7B-Instruct-v0.2, an aligned model, with the safety signal: the paper's second model: lambda_2 = 0.01, 8 epochs.

Everything else is as in configs/align_llama2_7b.py. Expects the model's Hugging Face directory in
checkpoints/Mistral-7B-Instruct-v0.2 (safetensors). Not run yet for lack of chips; a tiny model of the same family takes
the same path in tests/interop/test_published.py.

    python -m launch.train --config=configs/align_mistral_7b.py --workdir=runs/align_mistral_7b
"""

from ml_collections import ConfigDict

from configs import align_llama2_7b
from safety_align.training import recipe


def get_config() -> ConfigDict:
    config = align_llama2_7b.get_config()
    config.model.preset, config.template = "mistral_7b", "mistral"
    config.model.rope_theta = 1_000_000.0  # v0.2
    config.init_from = "checkpoints/Mistral-7B-Instruct-v0.2"
    config.lambda_cls = 0.01
    planned = recipe.schedule(align_llama2_7b.PER_ROW, config.data.batch_size, epochs=8)
    config.steps, config.optimizer.decay_every = planned["steps"], planned["decay_every"]
    return config
