"""The quickstart's gated model, trained against those who disguise a request or search for words that hide it.

Half of the requests are written otherwise (data/disguised.py), and the query's vectors are moved to where the checks err most
(training/perturbation.py). Rows are longer, as disguises are, and there are three times as many steps: after as many as
configs/embedded_gated.py has, half of the harmless requests are refused. A step takes 1.7 times as long over rows of one length.
configs/red_team/embedded.py attacks it.

python -m launch.train --config=configs/embedded_robust.py --workdir=runs/embedded_robust --config.init_from=runs/embedded_base
"""

from configs import embedded_gated


def get_config():
    config = embedded_gated.get_config()
    config.data.disguised = 0.5
    config.data.sequence_length = 128  # a disguise is longer than what it hides
    config.perturbation = dict(radius=1.0, steps=1)
    config.steps = 960
    return config
