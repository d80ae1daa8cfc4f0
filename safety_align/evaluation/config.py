"""What an evaluation measures: typed, frozen, validated."""

import dataclasses

from safety_align.attacks import SamplingGrid
from safety_align.errors import InputError
from safety_align.evaluation.gates import check_overrides
from safety_align.fields import check_fields

MAX_DRAWS = 10_000
"""Answers to one behaviour, at most."""


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What to measure.

    Attributes:
      data: "real" (the files of `data_dir`) or "embedded".
      data_dir, cache_dir: raw and prepared data.
      behaviors: behaviours per attack at most. sampling_behaviors: likewise for the sampling grid, which multiplies.
      prefills: lengths in tokens.
      temperatures, top_ps, top_ks, best_of: the sampling grid.
      benign: benign prompts per set.
      head_examples: items per class for the head's AUROC.
      max_new_tokens: cap on new tokens. batch_size: rows of the decoder.
      seed: of every subsample.
    """

    data: str = "real"
    data_dir: str = "../shared/data"
    cache_dir: str = "~/.cache/safety_align"
    behaviors: int = 100
    sampling_behaviors: int = 25
    prefills: tuple[int, ...] = (5, 10, 20, 40)
    temperatures: tuple[float, ...] = (0.7, 1.0, 1.5)
    top_ps: tuple[float, ...] = (0.7, 1.0)
    top_ks: tuple[int, ...] = (0, 40)
    best_of: int = 1
    benign: int = 200
    head_examples: int = 400
    max_new_tokens: int = 64
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self):
        counts = (
            "behaviors",
            "sampling_behaviors",
            "benign",
            "head_examples",
            "max_new_tokens",
            "batch_size",
            "best_of",
        )
        check_fields(self, seed=0, **dict.fromkeys(counts, 1))
        if self.data not in ("real", "embedded"):
            raise InputError(f"data {self.data!r} is not real or embedded")
        if few := [tokens for tokens in self.prefills if tokens < 1]:
            raise InputError(f"prefills must be at least 1, got {few[0]}")
        draws = len(self.temperatures) * len(self.top_ps) * len(self.top_ks) * self.best_of
        if not 1 <= draws <= MAX_DRAWS:
            raise InputError(
                f"temperatures x top_ps x top_ks x best_of are {draws} draws for each behaviour, not 1 to {MAX_DRAWS}"
            )
        SamplingGrid(self.temperatures, self.top_ps, self.top_ks).settings()  # checks each of its settings


def to_eval_config(values: dict) -> tuple[EvalConfig, dict]:
    """The typed config of an evaluation config's dict, and its overrides of the gate that comes with the model: those
    fields of `gate` that are not None."""
    values = dict(values)
    gate = values.pop("gate", {})
    if not isinstance(gate, dict):
        raise InputError(f"config.gate is {gate!r}; give fields of a gate, {{}} for the model's own")
    overrides = {name: value for name, value in gate.items() if value is not None}
    check_overrides(overrides)
    try:
        return EvalConfig(**values), overrides
    except InputError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(f"the config is not an evaluation config: {type(error).__name__}: {error}") from error
