"""What defines a training run: typed, frozen, validated."""

import dataclasses
import json
from typing import Any

from safety_align.data.mapped import check_share
from safety_align.data.passages import check_passages
from safety_align.data.pipeline import PipelineConfig
from safety_align.data.suffixes import directories
from safety_align.data.system_turns import Roles
from safety_align.decoding.config import GateConfig
from safety_align.errors import InputError
from safety_align.fields import check_fields
from safety_align.model import TransformerConfig
from safety_align.routing import RoutingConfig
from safety_align.training.dpo import DpoConfig
from safety_align.training.objective import Objective
from safety_align.training.optimizer import OptimizerConfig
from safety_align.training.perturbation import Perturbation

SHOWN = ("r1", "r2", "r3", "visible")
"""Fields that a run's routing and its gate share: a decoder must show what training showed."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where examples come from.

    data_dir: raw files, with `eval/` beside `train/` for the leakage check; cache_dir: prepared files; drop_leaks:
    leave out queries that are, nearly, evaluation prompts; max_bad_fraction: of raw rows; validation_examples: per
    source, from its "test" split; labelled: directory of `launch.label`, read by the source "text_labelled"; own_answers:
    directory of `launch.answers`, read by the source of that name; system_turns, other_roles, system_prompt: what is made
    of a share of the conversations, see `data.system_turns.Roles`; disguised: the share whose request is written otherwise, see
    data/disguised.py; stories: the share whose request stands in a made-up story, or asks for another language or form, see
    data/stories.py; suffixes: directories of `launch.attack --attack=gcg`, joined by commas, whose suffixes stand behind the
    share `suffixed` of the queries of either class, see data/suffixes.py; passages: the share whose request stands beside a passage
    of harmless text, cut from answers of the source passages_from, see data/passages.py; alone: the share of labelled answers that
    stand without their query, see data/alone.py; of what validates too, and before what does not fit a row is left out.
    """

    data_dir: str = "../shared/data"
    cache_dir: str = "~/.cache/safety_align"
    drop_leaks: bool = True
    max_bad_fraction: float = 0.01
    validation_examples: int = 100
    labelled: str = ""
    own_answers: str = ""
    system_turns: float = 0.0
    other_roles: float = 0.0
    system_prompt: str = ""
    disguised: float = 0.0
    stories: float = 0.0
    suffixes: str = ""
    suffixed: float = 0.2
    passages: float = 0.0
    passages_from: str = "dolly"
    alone: float = 0.0

    def __post_init__(self):
        check_fields(self, "data.", max_bad_fraction=0, validation_examples=0)
        check_share("disguised", self.disguised)
        check_share("stories", self.stories)
        check_share("suffixed", self.suffixed)
        directories(self.suffixes)  # raises for a list that is none
        check_passages(self.passages, self.passages_from)
        check_share("alone", self.alone)
        Roles(self.system_turns, self.other_roles)  # raises for a share that is none

    @property
    def roles(self) -> Roles:
        """Which turns the conversations get, beside their own."""
        return Roles(self.system_turns, self.other_roles, self.system_prompt)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; -1 is what is left."""

    data: int = -1
    fsdp: int = 1
    sequence: int = 1
    tensor: int = 1

    def __post_init__(self):
        check_fields(self, "mesh.")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A run.

    Attributes:
      model: the transformer; with `safety_signal` False it is plain SFT.
      routing: windows to train on, and what the response sees; None without the safety signal.
      gate: what the model is to be decoded with; it is stored with the run. Its `SHOWN` are those of `routing`. None:
        the default with these.
      template: name of the chat template.
      tokenizer_texts: examples per source that the tokenizer is trained on (where `init_from` brings none).
      pipeline, data: the batches.
      optimizer: AdamW and its schedule.
      lambda_cls: weight of L_cls.
      dpo: train on preference pairs by DPO, from the reference model `init_from`; None: by the language model's loss.
      perturbation: adversarial training of the checks (training/perturbation.py); None: none.
      trainable: "all", or "signal": the language model is frozen.
      steps: optimizer steps.
      accumulation: microbatches per step.
      init_from: a run's workdir (its newest checkpoint) or a Hugging Face directory to start from, tokenizer included;
        "" starts fresh.
      kept_batches: batches that a probe is trained on again and again, the language model's states kept in
        `data.cache_dir` (training/kept.py); 0: every step reads new rows.
      kept_checks: of each of their rows so many checks, drawn anew at every step: an answer's windows are then others in each
        epoch; 0: all of them.
      seed: of the initialisation.
      log_every, eval_every, save_every: steps. keep: checkpoints kept.
      mesh: the devices.
    """

    model: TransformerConfig
    routing: RoutingConfig | None
    pipeline: PipelineConfig
    data: DataConfig
    optimizer: OptimizerConfig
    gate: GateConfig | None = None
    template: str = "plain"
    tokenizer_texts: int = 5000
    lambda_cls: float = 0.1
    dpo: DpoConfig | None = None
    perturbation: Perturbation | None = None
    trainable: str = "all"
    steps: int = 1000
    accumulation: int = 1
    init_from: str = ""
    kept_batches: int = 0
    kept_checks: int = 0
    seed: int = 0
    log_every: int = 10
    eval_every: int = 200
    save_every: int = 200
    keep: int = 2
    mesh: MeshConfig = MeshConfig()

    def __post_init__(self):
        at_least_1 = ("steps", "accumulation", "log_every", "eval_every", "save_every", "keep", "tokenizer_texts")
        check_fields(self, seed=0, lambda_cls=0, kept_batches=0, kept_checks=0, **dict.fromkeys(at_least_1, 1))
        if self.model.param_dtype == "int8":
            raise InputError("model.param_dtype int8 is of a model that is decoded: train in float32 or bfloat16")
        if self.trainable == "signal" and not (self.model.safety_signal and self.init_from):
            raise InputError('trainable="signal" needs model.safety_signal and a model to start from (init_from)')
        if self.optimizer.rank and self.trainable == "signal":
            raise InputError('optimizer.rank changes matrices that trainable="signal" freezes: set one of them')
        if self.pipeline.batch_size % self.accumulation:
            raise InputError(
                f"data.batch_size ({self.pipeline.batch_size}) must be a multiple of accumulation ({self.accumulation})"
            )
        if (self.routing is not None) != self.model.safety_signal:
            raise InputError("routing is given if and only if model.safety_signal is true")
        self._settle_gate()
        _ = self.objective  # raises for a `trainable` that is none, and a signal that cannot stand where it is
        if self.routing is not None and self.routing.windows > self.pipeline.checks_per_row:
            raise InputError(
                f"routing.windows ({self.routing.windows}) must not exceed data.checks_per_row "
                f"({self.pipeline.checks_per_row}): no conversation would fit a row"
            )
        if self.kept_checks and not (self.kept_batches and self.kept_checks < self.pipeline.checks_per_row):
            raise InputError(
                f"kept_checks={self.kept_checks} are some of the data.checks_per_row ({self.pipeline.checks_per_row}) of batches "
                "that are kept: set kept_batches, and fewer than all, or leave it out"
            )
        if self.perturbation is not None and self.kept_batches:
            raise InputError(
                "perturbation changes what the language model reads, so that no state of it can be kept: set kept_batches=0"
            )
        if (self.dpo is not None) != (self.pipeline.pairs_per_row is not None):
            raise InputError("data.pairs_per_row is given if and only if dpo is: preference pairs need both")
        if self.dpo is not None and (self.model.safety_signal or not self.init_from):
            raise InputError("dpo needs init_from, its reference model, and a model without the safety signal")

    @property
    def objective(self) -> Objective:
        """What the run minimises."""
        return Objective(self.model, self.lambda_cls, self.trainable, self.dpo, self.beside, self.perturbation)

    @property
    def beside(self) -> bool:
        """Whether the signal is trained beside a language model that does not feel it."""
        return self.routing is not None and self.routing.beside

    def _settle_gate(self):
        if self.routing is None:
            if self.gate is not None:
                raise InputError("gate is given only if model.safety_signal is true")
            return
        shown = {name: getattr(self.routing, name) for name in SHOWN}
        if self.gate is None:
            object.__setattr__(self, "gate", GateConfig(**shown))
        if self.beside and self.trainable != "signal":
            raise InputError('routing.beside trains the signal alone: set trainable="signal"')
        for name, value in shown.items():
            if getattr(self.gate, name) != value:
                raise InputError(
                    f"gate.{name} is {getattr(self.gate, name)}, routing.{name} {value}: set routing.{name} alone"
                )


MAY_DIFFER = (
    "log_every",
    "eval_every",
    "save_every",
    "keep",
    "data.data_dir",
    "data.cache_dir",
    "dpo.reference",
    "model.attention",
    "mesh.data",
    "mesh.fsdp",
    "mesh.sequence",
    "mesh.tensor",
    *(f"gate.{field.name}" for field in dataclasses.fields(GateConfig)),
)
"""Config keys that a resumed run may change: they do not change what is learned. The gate's `SHOWN` are routing's."""


def completed(stored: Any, config: Any) -> Any:
    """`stored`, the JSON of an older config dataclass, with the default of every field of `config` that it lacks: so runs
    trained before there was such a field. A default that changes must keep this in mind."""
    if not isinstance(stored, dict):
        return stored
    found = dict(stored)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in stored:
            if dataclasses.is_dataclass(value):
                found[field.name] = completed(stored[field.name], value)
        elif field.default is not dataclasses.MISSING:
            default = field.default
            plain = dataclasses.asdict(default) if dataclasses.is_dataclass(default) else default
            found[field.name] = json.loads(json.dumps(plain))
    return found
