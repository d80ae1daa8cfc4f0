"""A safety signal beside a published model, trained against those who search for words that hide a request.

A quarter of the requests are written otherwise, a fifth stand in made-up stories, and in half of the rows the query's vectors move
to where the checks err most (docs/method.md section 13). GCG gets through the signal of configs/signal.py within 25 steps
(docs/results.md); whether it gets through this one has not been measured: a step goes through the language model three times, which
wants an accelerator. With own answers as in configs/signal.py. configs/compare/published_rounds.py goes on from it, against
suffixes of searches.

    python -m launch.train --config=configs/signal_robust.py --workdir=runs/signal_robust --config.init_from=DIR
"""

from configs import signal


def get_config():
    config = signal.get_config()
    config.data.disguised = 0.25
    config.data.stories = 0.2
    config.perturbation = dict(radius=0.5, steps=1)
    return config
