"""Attacks a model through its gate: python -m launch.attack --attack=gcg --checkpoint=DIR --behaviors=advbench --output=DIR

Any field of the attack can be set: --attack.steps=50 --attack.lam=0.1; any field of the gate too: --gate.threshold=0.9. Behaviours
are a set's name (below --data-dir, or embedded), or a CSV file with the columns goal and target; of goals to be trained against
(data.suffixes) `training` or `embedded_training`. Writes attacks.jsonl, one line a behaviour with what the attack found, the
answer and the verdicts, and results.json; interrupted, the same command goes on with the next behaviour.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import ml_collections

from launch import cli, devices, judges
from launch.generate import to_gate
from launch.judges import Judges
from safety_align.attacks import ATTACKS, OPTIMISED, Attack, OptimisedAttack, TargetModel, load_behaviors
from safety_align.data.behavior import Behavior
from safety_align.data.rows import read_csv
from safety_align.decoding import GateConfig, Generator
from safety_align.errors import InputError
from safety_align.evaluation.campaign import Campaign
from safety_align.evaluation.campaign_run import run_campaign
from safety_align.evaluation.kinds import build
from safety_align.fields import defaults
from safety_align.files import check_path
from safety_align.interop import hub, load_unrolled
from safety_align.visible import visible

KINDS = ATTACKS | OPTIMISED


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--attack", required=True, metavar="NAME", help=", ".join(KINDS))
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="a model with a safety signal")
    parser.add_argument("--behaviors", required=True, metavar="NAME|FILE.csv", help="whom to attack for what")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--n", type=cli.integer(1), default=20, help="behaviours at most, default: %(default)s")
    parser.add_argument(
        "--behaviors-seed", type=cli.integer(0), default=0, metavar="N", help="which of a set's, default: %(default)s"
    )
    parser.add_argument("--data-dir", default="../shared/data", metavar="DIR", help="default: %(default)s")
    count = cli.integer(1)
    parser.add_argument("--max-new-tokens", type=count, default=64, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch-size", type=count, default=16, metavar="N", help="rows at once, default: %(default)s")
    judges.add_options(parser)
    parser.add_argument("--no-gate", action="store_true", help="answers are written without the gate")
    devices.add_options(parser)
    devices.add_weights(parser)
    arguments, rest = parser.parse_known_args()
    attack = to_attack(arguments.attack, [a for a in rest if a.startswith("--attack.")])
    gate_options = [a for a in rest if not a.startswith("--attack.")]
    to_gate(GateConfig(), gate_options)  # before the model is read
    behaviors = Behaviors(arguments.behaviors, arguments.n, arguments.data_dir, arguments.behaviors_seed)
    _ = behaviors.goals  # a mistake is said before the model is read
    who = judges.named(arguments, arguments.attack in OPTIMISED)
    who.check_behaviors([arguments.behaviors])
    output = pathlib.Path(arguments.output)
    check_path(output)
    mesh = devices.start(arguments)
    if mesh is not None and arguments.attack in OPTIMISED:
        raise InputError(f"--attack={arguments.attack} runs on one device; leave out --mesh and the other processes")
    options = dict(mesh=mesh, dtype=arguments.dtype, weights=arguments.weights)
    sizes = dict(max_new_tokens=arguments.max_new_tokens, batch_size=arguments.batch_size)
    found = attack_model(
        arguments.checkpoint,
        attack,
        behaviors,
        output,
        who,
        gate_options,
        ungated=arguments.no_gate,
        **sizes,
        **options,
    )
    for name, asr in found["asr"].items():
        low, high = 100 * asr["low"], 100 * asr["high"]
        print(
            f"{visible(pathlib.Path(name).name):16} ASR {100 * asr['rate']:.1f} % [{low:.1f}, {high:.1f}] of {asr['n']}"
        )
    for pair, kappa in found["agreement"].items():
        print(f"{'kappa':16} {'-' if kappa is None else f'{kappa:.2f}'} ({visible(pair)})")
    harm = found["harm_released"]
    print(
        f"{'harmful tokens':16} mean {harm['mean']:.1f}, at most {harm['max']}, more than 10: {100 * harm['over_10']:.1f} %"
    )
    if found["steps_per_s"]:
        print(f"{'steps/s':16} {found['steps_per_s']:.2f}")
    return cli.EXIT_OK


@dataclasses.dataclass(frozen=True)
class Behaviors:
    """At most `n` behaviours of the set, or the CSV file, `name`; `data_dir`, `seed`: see `load_behaviors`."""

    name: str
    n: int
    data_dir: str = "../shared/data"
    seed: int = 0

    @functools.cached_property
    def goals(self) -> list[Behavior]:
        """Read once. InputError for a set that is not there."""
        return read_behaviors(self.name, self.n, self.data_dir, self.seed)


def attack_model(
    checkpoint: str,
    attack: Attack | OptimisedAttack,
    behaviors: Behaviors,
    output: pathlib.Path,
    who: Judges,
    gate_options: Sequence[str] = (),
    *,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    ungated: bool = False,
    mesh=None,
    dtype: str | None = None,
    weights: str | None = None,
) -> dict:
    """Makes what `output` lacks of an attack on the model `checkpoint`: what came of it (`run_campaign`).

    gate_options: --gate.FIELD=VALUE; ungated: answers are written without the gate; mesh, dtype, weights: see `load_unrolled`.
    InputError for a model without a gate, for judges made of it, and for an `output` of another attack.
    """
    checkpoint = devices.located(checkpoint)
    bundle = load_unrolled(checkpoint, mesh, dtype, weights)
    if bundle.gate is None:
        raise InputError(f"{checkpoint} has no safety signal: there is no gate to attack")
    who.check_model(checkpoint, bundle)
    gate, goals, kind = to_gate(bundle.gate, list(gate_options)), behaviors.goals, name_of(attack)
    about = {
        "attack": {"kind": kind} | dataclasses.asdict(attack),
        "checkpoint": hub.identity(checkpoint),
        "step": bundle.step,
        **devices.computed(bundle),
        "gate": None if ungated else dataclasses.asdict(gate),
        "judges": {name: repr(judge) for name, judge in who.scoring.items()},
        "attack_judge": repr(who.in_loop) if kind in OPTIMISED else None,
        "behaviors": {"name": behaviors.name, "n": len(goals), "seed": behaviors.seed or None},
        "max_new_tokens": max_new_tokens,
    }
    generator = Generator(bundle, "off" if ungated else gate, mesh=mesh)
    target = TargetModel(generator, max_new_tokens, batch_size)
    campaign = Campaign(attack, target, bundle, gate, who.scoring, who.in_loop)
    return run_campaign(campaign, goals, output, about, batch_size, kind)


def name_of(attack: Attack | OptimisedAttack) -> str:
    """What `--attack` calls it."""
    return next(name for name, kind in KINDS.items() if isinstance(attack, kind))


def to_attack(name: str, options: list[str]):
    """The attack of that name, with the command line's --attack.FIELD=VALUE."""
    if name not in KINDS:
        raise InputError(f"--attack={name} is not one of {', '.join(KINDS)}")
    fields = defaults(KINDS[name])
    needed = {f.name: 0 for f in dataclasses.fields(KINDS[name]) if f.name not in fields}
    values = ml_collections.ConfigDict(fields | needed)
    cli.apply_overrides(values, options, "attack")
    found = values.to_dict()
    if missing := [field for field in needed if not any(o.startswith(f"--attack.{field}=") for o in options)]:
        raise InputError(f"--attack={name} needs --attack.{missing[0]}=…")
    return build({"kind": name} | found, KINDS, "attack")


def read_behaviors(name: str, n: int, data_dir: str, seed: int = 0) -> list[Behavior]:
    """At most `n` behaviours: of a named set, drawn by `seed`, or the first of a CSV file."""
    if not name.endswith(".csv"):
        return load_behaviors(name, data_dir, n, seed)
    rows = read_csv(pathlib.Path(name), ("goal", "target"))
    if not rows:
        raise InputError(f"{name} holds no behaviours")
    return [Behavior(row["goal"], row["target"], id=row.get("id") or f"row{i}") for i, row in enumerate(rows)][:n]


if __name__ == "__main__":
    cli.run(main)
