"""The shape of Llama-2-70B, for compiling: does its alignment fit a pod? There is no checkpoint behind it.

python -m launch.compile_pod --config=configs/pod_llama2_70b.py --topology=v5p:4x4x4
"""

from ml_collections import ConfigDict

from configs import align_published_base


def get_config() -> ConfigDict:
    config = align_published_base.base("llama2_70b", "", "llama2", 0.1, 15)
    config.data.sequence_length, config.data.batch_size = 2048, 64
    config.mesh = dict(data=1, fsdp=-1, sequence=1, tensor=1)
    return config
