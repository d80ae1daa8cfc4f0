"""The parts of configs/benchmark/gpu.py on a CPU, each as small as it can be: whether they run, not how fast. Without nanoGCG.

python -m launch.benchmark all --config=configs/benchmark/rehearsal.py --output=runs/rehearsal
"""

from ml_collections import ConfigDict

from configs.benchmark import gpu


def get_config() -> ConfigDict:
    made = gpu.parts(
        decode=(("tiny", 2),), size="tiny", attacked="mini", small="tiny", rows=4, length=96, rounds=2, width=16
    )
    made = {
        name: text.replace("--attention=cudnn ", "").replace("--tokens=128", "--tokens=8").replace(" --nanogcg", "")
        for name, text in made.items()
    }
    made["pipeline"] += " --batches=4"
    return ConfigDict(dict(parts=made, minutes=20.0))
