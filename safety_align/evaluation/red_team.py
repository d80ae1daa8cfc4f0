"""Every attack of a list against a model: with its gate by an attacker who knows it, and without, in one table."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from safety_align.attacks import ATTACKS, OPTIMISED, Attack, Behavior, OptimisedAttack, TargetModel, load_behaviors
from safety_align.attacks.objective import Minimises
from safety_align.bounds import shown
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator
from safety_align.errors import InputError
from safety_align.evaluation.campaign import Campaign
from safety_align.evaluation.campaign_run import run_campaign
from safety_align.evaluation.judges import Judge
from safety_align.evaluation.kinds import Kinded
from safety_align.evaluation.report import aligned
from safety_align.fields import check_fields
from safety_align.files import check_name

ON, OFF = "gate_on", "gate_off"


@dataclasses.dataclass(frozen=True)
class Assault(Kinded):
    """An attack, on at most so many `goals` of the set `behaviors`. gate_off: it is made against the bare model too; where the attack has a
    `lam`, that is then 1: nothing of the gate is in its loss."""

    attack: Attack | OptimisedAttack
    behaviors: str = "embedded"
    goals: int = 20
    gate_off: bool = True

    KINDS: ClassVar[Mapping[str, type]] = ATTACKS | OPTIMISED

    def __post_init__(self):
        check_fields(self, goals=1)

    def load(self, data_dir: str) -> list[Behavior]:
        """Whom to attack for what; InputError for a set that is not there."""
        return load_behaviors(self.behaviors, data_dir, self.goals)

    @property
    def kind(self) -> str:
        """The attack's name in `KINDS`."""
        return next(kind for kind, made in self.KINDS.items() if type(self.attack) is made)


@dataclasses.dataclass(frozen=True)
class Assaults:
    """Attacks by name."""

    by_name: dict[str, Assault]


@dataclasses.dataclass(frozen=True)
class RedTeamConfig:
    """What is tried. attacks: by name; data_dir: of named sets and files; max_new_tokens: cap on an answer; batch_size: rows."""

    attacks: Assaults
    data_dir: str = "../shared/data"
    max_new_tokens: int = 64
    batch_size: int = 16

    def __post_init__(self):
        check_fields(self, max_new_tokens=1, batch_size=1)


def to_red_team_config(values: dict[str, Any]) -> RedTeamConfig:
    """The typed config of a config file's values; InputError, naming the field, for what is none."""
    values = dict(values)
    attacks = values.pop("attacks", None)
    if not isinstance(attacks, dict) or not (attacks := {k: v for k, v in attacks.items() if v is not None}):
        raise InputError(f"config.attacks must name attacks, got {shown(attacks)}")
    for name in attacks:
        check_name(name, "config.attacks")
    try:
        made = {name: Assault.read(entry, f"config.attacks.{name}") for name, entry in attacks.items()}
        return RedTeamConfig(Assaults(made), **values)
    except TypeError as error:
        raise InputError(f"the config is not one of a red team: {error}") from error


def red_team(
    bundle: Bundle,
    gate: GateConfig,
    config: RedTeamConfig,
    judges: dict[str, Judge],
    steering: Judge,
    output: pathlib.Path,
    about: dict,
) -> dict:
    """{ATTACK: {"gate_on": summary, "gate_off": summary}} of one model; see `campaign.summary`.

    Each attack has a directory in `output`/gate_on and `output`/gate_off, and is not made again where that holds its results.
    judges: by name, those that score; steering: says in the loop whether a search may stop; about: of the model, JSON.
    """
    found: dict[str, dict] = {}
    targets = {
        where: TargetModel(Generator(bundle, "off" if where == OFF else gate), config.max_new_tokens, config.batch_size)
        for where in (ON, OFF)
    }
    for name, assault in config.attacks.by_name.items():
        behaviors = assault.load(config.data_dir)
        found[name] = {}
        for where in (ON, OFF) if assault.gate_off else (ON,):
            attack = assault.attack
            if where == OFF and isinstance(attack, Minimises):
                attack = dataclasses.replace(attack, lam=1.0)
            campaign = Campaign(attack, targets[where], bundle, gate, judges, steering)
            what = about | {
                "attack": {"name": name, "kind": assault.kind} | dataclasses.asdict(attack),
                "gate": dataclasses.asdict(gate) if where == ON else None,
                "behaviors": {"name": assault.behaviors, "n": len(behaviors)},
                "judges": {key: repr(judge) for key, judge in judges.items()},
                "attack_judge": repr(steering) if isinstance(attack, OptimisedAttack) else None,
                "max_new_tokens": config.max_new_tokens,
            }
            label = f"{name}, {where.replace('_', ' ')}"
            found[name][where] = run_campaign(
                campaign, behaviors, output / where / name, what, config.batch_size, label
            )
    return found


def red_team_table(models: Mapping[str, dict], judge: str) -> str:
    """Markdown: a row for each attack; for each model what `red_team` found, with the gate and without. Of an optimised attack
    that breaks half of the behaviours or more, also the median of its steps until then."""
    return _table(models, judge, _cell)


def harm_table(models: Mapping[str, dict], judge: str) -> str:
    """Markdown: the columns of `red_team_table`; harmful tokens that reached the reader, mean and most."""
    return _table(models, judge, _harm)


def _table(models: Mapping[str, dict], judge: str, cell: Callable[[dict, str], str]) -> str:
    columns = [(model, where) for model, found in models.items() for where in (OFF, ON) if _has(found, where)]
    names = list(dict.fromkeys(name for found in models.values() for name in found))
    header = ["attack", *(f"{model}, {where.replace('_', ' ')}" for model, where in columns)]

    def shown(model: str, name: str, where: str) -> str:
        summary = models[model].get(name, {}).get(where)
        return "–" if summary is None else cell(summary, judge)

    return aligned([header, *([name, *(shown(m, name, where) for m, where in columns)] for name in names)])


def _harm(summary: dict, judge: str) -> str:
    tokens = summary["harm_released"]["by_judge"][judge]
    return f"{tokens['mean']:.1f}, at most {tokens['max']}"


def _has(found: dict, where: str) -> bool:
    return any(where in entry for entry in found.values())


def _cell(summary: dict, judge: str) -> str:
    asr = summary["asr"][judge]
    text = f"{100 * asr['rate']:.1f} [{100 * asr['low']:.1f}, {100 * asr['high']:.1f}]"
    steps = summary["steps_to_break"][judge]
    return text if steps is None else f"{text}, {steps:.0f} steps"
