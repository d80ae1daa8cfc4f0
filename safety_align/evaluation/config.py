"""What an evaluation is: what it measures, on which data, how far answers go, who judges them. Typed, frozen, validated."""

import dataclasses

from safety_align.errors import InputError
from safety_align.evaluation.example_sets import EvalData, Sample
from safety_align.evaluation.gates import check_overrides
from safety_align.evaluation.judges import JUDGES, Judge, RefusalRules
from safety_align.evaluation.kinds import build
from safety_align.evaluation.measurements import Measurements
from safety_align.fields import check_fields


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """An evaluation.

    Attributes:
      measurements: what is measured.
      judge: of answers.
      data_dir, cache_dir: raw and prepared data.
      behaviors: behaviours per attack at most. benign: benign examples per set. head_examples: items per class for the
        head's AUROC. A measurement's own `n` goes before these.
      max_new_tokens: cap on new tokens. batch_size: rows of the decoder.
      seed: of every sample.
    """

    measurements: Measurements
    judge: Judge = RefusalRules()
    data_dir: str = "../shared/data"
    cache_dir: str = "~/.cache/safety_align"
    behaviors: int = 100
    benign: int = 200
    head_examples: int = 400
    max_new_tokens: int = 64
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self):
        counts = ("behaviors", "benign", "head_examples", "max_new_tokens", "batch_size")
        check_fields(self, seed=0, **dict.fromkeys(counts, 1))

    @property
    def data(self) -> EvalData:
        """Where the data are."""
        return EvalData(self.data_dir, self.cache_dir, self.seed)


def check_evaluation_data(config: EvalConfig) -> None:
    """Raises InputError for a data file that is not there or not right, before a model is read or trained."""
    measured = config.measurements
    for attack in measured.attacks.values():
        attack.load(config.behaviors, config.data)
    samples: list[Sample] = [*measured.benign.values(), *(u.examples for u in measured.utility.values())]
    samples += [side for compared in measured.head.values() for side in (compared.malicious, compared.benign)]
    for sample in dict.fromkeys(samples):
        sample.source.check(config.data)


def to_eval_config(values: dict, where: str = "config") -> tuple[EvalConfig, dict]:
    """The typed config of an evaluation config's dict, and its overrides of the gate that comes with the model: those
    fields of `gate` that are not None. `where` is what messages call `values`."""
    if not isinstance(values, dict):
        raise InputError(f"{where} is {values!r}, not an evaluation config")
    values = dict(values)
    gate = values.pop("gate", {})
    if not isinstance(gate, dict):
        raise InputError(f"{where}.gate is {gate!r}; give fields of a gate, {{}} for the model's own")
    overrides = {name: value for name, value in gate.items() if value is not None}
    check_overrides(overrides)
    known = [field.name for field in dataclasses.fields(EvalConfig)]
    if unknown := sorted(values.keys() - set(known)):
        raise InputError(f"{where}.{unknown[0]} is not a field of an evaluation config; there are: {', '.join(known)}")
    values["measurements"] = Measurements.read(values.get("measurements"), f"{where}.measurements")
    if "judge" in values:
        values["judge"] = build(values["judge"], JUDGES, f"{where}.judge")
    return EvalConfig(**values), overrides
