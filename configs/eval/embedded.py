"""Attacks, over-refusal, head and perplexity on the embedded corpus; what the quickstart measures.

python -m launch.evaluate --config=configs/eval/embedded.py --checkpoint=DIR --output=DIR
"""

from configs.eval import small


def get_config():
    config = small.get_config()
    config.data = "embedded"
    config.behaviors = 60
    config.sampling_behaviors = 12
    config.benign = 60
    config.head_examples = 150
    config.max_new_tokens = 40
    config.batch_size = 60
    return config
