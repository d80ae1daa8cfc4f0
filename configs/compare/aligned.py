"""A published model aligned as a whole, against itself: the paper's experiment on any chat model, on one accelerator.

    python -m launch.compare --config=configs/compare/aligned.py --config.model=DIR --output=runs/compare_aligned [--quick]

DIR is a Hugging Face directory or a hub name. Trains configs/align_published.py from it, then attacks the published model, the
aligned one without its gate, and with it, on the files of configs/compare/published.py. `--quick` trains a fifth as long and
attacks 20 behaviours. Not run yet on a real model, for lack of an accelerator.
"""

from ml_collections import ConfigDict

from configs import align_published
from configs.compare import published
from configs.eval import published as evaluation

RUN = "runs/{name}_aligned"


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.eval = evaluation.get_config()
    config.model = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    start = {"init_from": "{model}"}
    config.train = ((RUN, "configs/align_published.py", start),)
    config.variants = columns = {
        "ungated": dict(checkpoint="{model}", gated=False, gate={}),
        "attention_only": dict(checkpoint=RUN, gated=True, gate=dict(dependence="low")),
        "gated": dict(checkpoint=RUN, gated=True, gate={}),
    }
    config.order = tuple(columns)
    quick = published.get_config().quick.to_dict()
    steps = align_published.get_config().steps // 5
    config.quick = {name: value for name, value in quick.items() if name.startswith("eval/")} | {
        "order": tuple(columns),
        "train": ((f"{RUN}_quick", "configs/align_published.py", start | {"steps": steps}),),
        **{f"variants/{name}/checkpoint": f"{RUN}_quick" for name in ("attention_only", "gated")},
    }
    return config
