"""The shape of Llama-2-70B, for compiling: does its alignment fit a pod? There is no checkpoint behind it.

python -m launch.compile_pod --config=configs/pod_llama2_70b.py --topology=v5p:4x4x4
"""

from ml_collections import ConfigDict

from configs import align_llama2_7b


def get_config() -> ConfigDict:
    config = align_llama2_7b.get_config()
    config.model.preset, config.template, config.init_from = "llama2_70b", "llama2", ""
    config.data.sequence_length, config.data.batch_size = 2048, 64
    return config
