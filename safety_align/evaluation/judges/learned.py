"""A judge that learned from people's labels what harmful compliance is (configs/judge.py): a frozen language model with
this project's own signal, which reads request and answer as one text [ours]."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

from safety_align.bounds import number
from safety_align.bundle import Bundle
from safety_align.data.exchanges import EXCHANGES, exchange_turns
from safety_align.decoding import score_queries
from safety_align.errors import InputError
from safety_align.evaluation.judges.base import Exchange, Verdict
from safety_align.evaluation.judges.scores import scored
from safety_align.interop import load_unrolled
from safety_align.training.checkpoint import stored_sources


@dataclasses.dataclass(frozen=True)
class LearnedJudge:
    """Says how far an answer does the harm that its goal asks for: a probability.

    directory: a run of configs/judge.py; threshold: from which probability on an answer is compliance; see
    `scored`.

    It reads the goal and the answer, `given` included, of long answers their first words (data/exchanges.py); not the prompt, which
    the labelled data lack. It must not judge the model that it was built on: it would share that model's blind spots
    (`apart.check_not_own`).
    """

    directory: str
    threshold: float = 0.5

    def __post_init__(self):
        number("judge.threshold", self.threshold, 0, 1)

    @property
    def bundle(self) -> Bundle:
        """The model, read when it is first asked for, and kept. InputError where the directory holds no judge."""
        return _bundle(self.directory)

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """See `Judge.judge`. InputError where the directory holds no judge."""
        if not exchanges:
            return []
        scores = score_queries(self.bundle, [exchange_turns(e.goal, e.answer) for e in exchanges])
        return scored(exchanges, scores, self.threshold)


def is_judge(path: pathlib.Path) -> bool:
    """Whether `path` is a training run that learned from labelled exchanges, and from nothing else."""
    if not (path / "config.json").is_file() or not (path / "checkpoints").is_dir():
        return False
    sources = stored_sources(path)
    return bool(sources) and sources <= set(EXCHANGES)


@functools.lru_cache(maxsize=2)
def _bundle(directory: str) -> Bundle:
    if not is_judge(pathlib.Path(directory)):
        raise InputError(f"{directory} is no judge: no run that learned from judged exchanges (configs/judge.py)")
    return load_unrolled(directory, None)
