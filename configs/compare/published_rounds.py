"""A signal beside a published model, trained against suffixes in rounds: GCG through the present head, then training against what it
found, as configs/compare/embedded_rounds.py does it.

    python -m launch.compare --config=configs/compare/published_rounds.py --config.model=DIR --output=runs/published_rounds

DIR is a Hugging Face directory or a hub name. Wants an accelerator: a step of GCG reads 256 candidates, and a training step goes
through the language model three times. Only its stages have been tried, on tiny models; not measured on a real one. Then
configs/red_team/searches.py says what a new search gets out of the last model, on goals that no round has seen.
"""

from ml_collections import ConfigDict

from configs.compare import embedded_rounds
from configs.compare.published import ASKED, OWN
from configs.eval import published as evaluation

ROUNDS = 3

START = "runs/{name}_robust"

SEARCH = dict(behaviors="training", n=20, steps=100, width=256, batch=64)
"""Of a round; see `attacks.Gcg`."""

TRAINING = {"steps": 200, "data.suffixed": 0.25} | OWN
"""Of a round, beside configs/signal_robust.py."""


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.eval = evaluation.get_config()
    config.model = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    path = "configs/signal_robust.py"
    entries, models = embedded_rounds.rounds(START, "runs/{name}", path, SEARCH, TRAINING, ROUNDS)
    answers = OWN["data.own_answers"], {"answers_of": "{model}"} | ASKED
    config.train = (answers, (START, path, {"init_from": "{model}"} | OWN), *entries)
    config.variants = gated = embedded_rounds.columns(models)
    config.order = tuple(gated)
    return config
