"""What a comparison makes before it evaluates: the entries of its config's `train`, in turn.

(workdir, config file)                            a training
(workdir, config file, {dotted key: value})       with overrides
(workdir, config file, {"guard": DIR})            text labelled by a model (launch.label); the file is a label config
(workdir, {"answers_of": DIR, field: value})      a model's own answers (launch.answers), with fields of `AnswersConfig`
(workdir, {"suffixes_against": DIR, field: value})  suffixes that get past a model's gate (launch.attack --attack=gcg), with fields
                                                  of `Behaviors` ("behaviors" is the set's name) and of `Gcg`
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import jax

from launch import cli
from launch.answers import answer_prompts
from launch.attack import Behaviors, attack_model
from launch.judges import Judges
from launch.label import label_text
from launch.training import devices as platform
from launch.training import load
from safety_align import distributed
from safety_align.attacks import Gcg
from safety_align.bounds import integer
from safety_align.data.labelled import read_labelled
from safety_align.data.own_answers import read_own_answers
from safety_align.data.suffixes import TRAINABLE, read_suffixes
from safety_align.distributed import say
from safety_align.errors import InputError
from safety_align.interop import load_model
from safety_align.labelling import to_label_config
from safety_align.own_answers import AnswersConfig
from safety_align.training.config import TrainConfig
from safety_align.training.loop import train
from safety_align.training.ready import check_training_data


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labelled text that a later training reads: made by the model in the directory `guard`, of what the label config's
    `values` name."""

    guard: str
    values: dict

    def make(self, output: pathlib.Path, mesh, dtype: str | None) -> None:
        """Labels what is missing; complete labels stay as they are, whoever made them."""
        if not distributed.from_main(_is_complete(read_labelled, output)):
            label_text(self.guard, self.values, output)


@dataclasses.dataclass(frozen=True)
class Answers:
    """Own answers of the model in the directory `model`, which a later training reads."""

    model: str
    config: AnswersConfig

    def make(self, output: pathlib.Path, mesh, dtype: str | None) -> None:
        """Answers what is missing; complete answers stay as they are, whoever gave them."""
        if not distributed.from_main(_is_complete(read_own_answers, output)):
            answer_prompts(self.model, self.config, output, mesh, dtype)


@dataclasses.dataclass(frozen=True)
class Suffixes:
    """Suffixes that GCG finds against the model in the directory `model`, on training goals, which a later training reads."""

    model: str
    behaviors: Behaviors
    attack: Gcg

    def make(self, output: pathlib.Path, mesh, dtype: str | None) -> None:
        """Searches what is missing, on one device; a search that is done stays as it is, whatever it was against. InputError
        where several processes would have to search."""
        if distributed.from_main(_is_complete(read_suffixes, str(output))):
            return
        with distributed.agreed():
            if jax.process_count() > 1:
                raise InputError(
                    f"{output} lacks suffixes, and a search runs in one process: make it by launch.attack, or by the same command "
                    "in one process, then go on"
                )
        attack_model(self.model, self.attack, self.behaviors, output, Judges.of_rules(), dtype=dtype)


@dataclasses.dataclass(frozen=True)
class Training:
    """A training run."""

    config: TrainConfig

    def make(self, output: pathlib.Path, mesh, dtype: str | None) -> bool:
        """Trains, or goes on; false if asked to stop before the last step."""
        read = functools.partial(load_model, dtype=self.config.model.param_dtype)
        return train(self.config, output, load=read)["step"] == self.config.steps


@dataclasses.dataclass(frozen=True)
class Stage:
    """An entry: what is made into `workdir`, and the line that is printed before."""

    workdir: str
    making: Labels | Answers | Suffixes | Training
    announcement: str


def to_stage(entry: tuple, data: dict | None = None) -> Stage:
    """The stage that an entry of `train` describes; what is wrong in it is said now, by InputError. `data`: fields of the
    training's `data` that are others than there; "" changes nothing."""
    workdir, *rest = entry
    moved = {key: value for key, value in (data or {}).items() if value}
    if len(rest) == 1 and isinstance(rest[0], dict) and "answers_of" in rest[0]:
        fields = moved | rest[0]
        model = fields.pop("answers_of")
        try:
            answers = Answers(model, AnswersConfig(**fields))
        except (TypeError, InputError) as error:  # TypeError: a field that is none
            raise InputError(f"config.train: {workdir}: {error}") from error
        return Stage(workdir, answers, f"answers of {model} into {workdir}")
    if len(rest) == 1 and isinstance(rest[0], dict) and "suffixes_against" in rest[0]:
        searches = _to_suffixes(workdir, rest[0], moved.get("data_dir"))
        return Stage(workdir, searches, f"suffixes against {searches.model} into {workdir}")
    path, *changes = rest if rest and isinstance(rest[0], str) else (None, None)
    if len(changes) > 1 or not all(isinstance(c, dict) for c in changes):
        raise InputError(
            f"config.train: {workdir} takes a config file and at most one {{key: value}} of overrides, or "
            '{"answers_of": DIR} or {"suffixes_against": DIR}'
        )
    if changes and "guard" in changes[0]:
        labels = Labels(changes[0]["guard"], cli.load_config(path).to_dict() | moved)
        to_label_config(labels.values)
        return Stage(workdir, labels, f"labelling {workdir} by {path}, guard {labels.guard}")
    changes.append({f"data.{key}": value for key, value in moved.items()})
    overrides = [f"--config.{key}={value}" for c in changes for key, value in c.items()]
    announcement = f"training {workdir} by {' '.join([path, *overrides])}"
    return Stage(workdir, Training(load(path, overrides, workdir, platform)), announcement)


def _to_suffixes(workdir: str, fields: dict, data_dir: str | None) -> Suffixes:
    fields = dict(fields)
    model, name, n = (fields.pop(key, None) for key in ("suffixes_against", "behaviors", "n"))
    drawn = {"seed": fields.pop("behaviors_seed", 0)} | ({"data_dir": data_dir} if data_dir else {})
    try:
        if name not in TRAINABLE or type(n) is not int or n < 1:
            raise InputError(f"suffixes need behaviors, one of {', '.join(TRAINABLE)}, and n of them")
        integer("behaviors_seed", drawn["seed"], 0)
        return Suffixes(model, Behaviors(name, n, **drawn), Gcg(**fields))
    except (TypeError, InputError) as error:  # TypeError: a field that is none
        raise InputError(f"config.train: {workdir}: {error}") from error


def check_stages(stages: Sequence[Stage]) -> None:
    """Raises InputError for a training whose data are not there and are not made by a stage before it."""
    to_come: list[str] = []
    for stage in stages:
        if isinstance(stage.making, Training):
            check_training_data(stage.making.config, to_come)
        else:
            to_come.append(stage.workdir)


def make_all(stages: Sequence[Stage], mesh=None, dtype: str | None = None) -> bool:
    """Makes `stages` in turn; false if asked to stop before the last was done. `mesh`, `dtype`: of a model that answers."""
    for stage in stages:
        say(stage.announcement)
        if stage.making.make(pathlib.Path(stage.workdir), mesh, dtype) is False:
            return False
    return True


def _is_complete(read, directory: pathlib.Path | str) -> bool:
    try:
        return bool(read(directory))
    except InputError:
        return False
