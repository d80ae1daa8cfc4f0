"""What defines a training run: typed, frozen, validated."""

import dataclasses

from safety_align.data.pipeline import PipelineConfig
from safety_align.data.system_turns import Roles
from safety_align.errors import InputError
from safety_align.model import TransformerConfig
from safety_align.routing import RoutingConfig
from safety_align.training.dpo import DpoConfig
from safety_align.training.optimizer import OptimizerConfig
from safety_align.training.step import TRAINABLE


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where examples come from.

    data_dir: raw files, with `eval/` beside `train/` for the leakage check; cache_dir: prepared files; drop_leaks:
    leave out queries that are, nearly, evaluation prompts; max_bad_fraction: of raw rows; validation_examples: per
    source, from its "test" split; labelled: directory of `launch.label`, read by the source "text_labelled"; system_turns,
    other_roles, system_prompt: what is made of a share of the conversations, see `data.system_turns.Roles`.
    """

    data_dir: str = "../shared/data"
    cache_dir: str = "~/.cache/safety_align"
    drop_leaks: bool = True
    max_bad_fraction: float = 0.01
    validation_examples: int = 100
    labelled: str = ""
    system_turns: float = 0.0
    other_roles: float = 0.0
    system_prompt: str = ""

    def __post_init__(self):
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


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A run.

    Attributes:
      model: the transformer; with `safety_signal` False it is plain SFT.
      routing: windows to train on; None without the safety signal.
      template: name of the chat template.
      tokenizer_texts: examples per source that the tokenizer is trained on (where `init_from` brings none).
      pipeline, data: the batches.
      optimizer: AdamW and its schedule.
      lambda_cls: weight of L_cls.
      dpo: train on preference pairs by DPO, from the reference model `init_from`; None: by the language model's loss.
      trainable: "all", or "signal": the language model is frozen.
      steps: optimizer steps.
      accumulation: microbatches per step.
      init_from: a run's workdir (its newest checkpoint) or a Hugging Face directory to start from, tokenizer included;
        "" starts fresh.
      seed: of the initialisation.
      log_every, eval_every, save_every: steps. keep: checkpoints kept.
      mesh: the devices.
    """

    model: TransformerConfig
    routing: RoutingConfig | None
    pipeline: PipelineConfig
    data: DataConfig
    optimizer: OptimizerConfig
    template: str = "plain"
    tokenizer_texts: int = 5000
    lambda_cls: float = 0.1
    dpo: DpoConfig | None = None
    trainable: str = "all"
    steps: int = 1000
    accumulation: int = 1
    init_from: str = ""
    seed: int = 0
    log_every: int = 10
    eval_every: int = 200
    save_every: int = 200
    keep: int = 2
    mesh: MeshConfig = MeshConfig()

    def __post_init__(self):
        for name in ("steps", "accumulation", "log_every", "eval_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.trainable not in TRAINABLE:
            raise InputError(f"trainable {self.trainable!r} is not one of {', '.join(TRAINABLE)}")
        if self.trainable == "signal" and not (self.model.safety_signal and self.init_from):
            raise InputError('trainable="signal" needs model.safety_signal and a model to start from (init_from)')
        if self.lambda_cls < 0:
            raise InputError(f"lambda_cls must not be negative, got {self.lambda_cls}")
        if self.pipeline.batch_size % self.accumulation:
            raise InputError(
                f"data.batch_size ({self.pipeline.batch_size}) must be a multiple of accumulation ({self.accumulation})"
            )
        if (self.routing is not None) != self.model.safety_signal:
            raise InputError("routing is given if and only if model.safety_signal is true")
        if (self.dpo is not None) != (self.pipeline.pairs_per_row is not None):
            raise InputError("data.pairs_per_row is given if and only if dpo is: preference pairs need both")
        if self.dpo is not None and (self.model.safety_signal or not self.init_from):
            raise InputError("dpo needs init_from, its reference model, and a model without the safety signal")


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
)
"""Config keys that a resumed run may change: they do not change what is learned."""
