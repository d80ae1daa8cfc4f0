"""SFT only on the embedded corpus, no `[CLS]`: the quickstart's variant (a). The same examples, order and steps as (b).

python -m launch.train --config=configs/embedded_sft.py --workdir=runs/embedded_sft --config.init_from=runs/embedded_base
"""

from configs import embedded_gated


def get_config():
    config = embedded_gated.get_config()
    config.model.safety_signal = False
    config.lambda_cls = 0.0
    return config
