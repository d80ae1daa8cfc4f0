"""Attacks models through their gates by every attack of a list: python -m launch.red_team --config=configs/red_team/embedded.py
--checkpoint=DIR --output=DIR

--checkpoint may be given again; the name of each directory is that of its column. --config.attacks.NAME.key=value sets a field of an
attack, --config.attacks.NAME=none leaves it out, --gate.key=value changes the gate of all models. Writes results.json and table.md,
and of each model and attack what launch.attack writes; interrupted, the same command goes on with the next behaviour.
"""

import pathlib
import sys

from launch import cli, devices, judges
from launch.generate import to_gate
from safety_align.attacks import OptimisedAttack
from safety_align.claims import Owner, locked_directory
from safety_align.decoding import GateConfig
from safety_align.errors import InputError
from safety_align.evaluation.red_team import Assault, harm_table, red_team, red_team_table, to_red_team_config
from safety_align.evaluation.report import strict_json
from safety_align.files import check_name, check_path, write_atomically
from safety_align.interop import hub, load_unrolled


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="a file of configs/red_team/")
    parser.add_argument(
        "--checkpoint",
        required=True,
        action="append",
        metavar="DIR",
        help="a model with a safety signal; may be given again",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    judges.add_options(parser)
    devices.add_dtype(parser)
    arguments, rest = parser.parse_known_args()
    values = cli.load_config(arguments.config)
    of_the_gate = [option for option in rest if option.startswith("--gate.")]
    cli.apply_overrides(values, [o for o in rest if o not in of_the_gate], defaults=_defaults(values.to_dict()))
    config = to_red_team_config(values.to_dict())
    to_gate(GateConfig(), of_the_gate)  # before a model is read
    names = [pathlib.Path(path).name for path in arguments.checkpoint]
    for name in names:
        check_name(name, "--checkpoint")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two checkpoints are called {twice}; give them directories of different names")
    output = pathlib.Path(arguments.output)
    check_path(output)
    assaults = list(config.attacks.by_name.values())
    who = judges.named(arguments, any(isinstance(assault.attack, OptimisedAttack) for assault in assaults))
    who.check_behaviors(assault.behaviors for assault in assaults)
    for assault in assaults:  # before minutes of attacks
        assault.load(config.data_dir)
    paths = {name: devices.located(path) for name, path in zip(names, arguments.checkpoint, strict=True)}
    models = {name: hub.identity(path) for name, path in paths.items()}
    run = {"config": values.to_dict(), "gate": sorted(of_the_gate), "models": models}
    found: dict[str, dict] = {}
    with locked_directory(output):
        Owner(run, f"{output} holds another run").claim(output / "red_team.json")
        for name, path in paths.items():
            print(f"model {name}", file=sys.stderr)
            bundle = load_unrolled(path, None, arguments.dtype)
            if bundle.gate is None:
                raise InputError(f"{path} has no safety signal: there is no gate to attack")
            who.check_model(path, bundle)
            about = {"checkpoint": models[name], "step": bundle.step, "dtype": bundle.model_config.dtype}
            gate = to_gate(bundle.gate, of_the_gate)
            found[name] = red_team(bundle, gate, config, who.scoring, who.in_loop, output / name, about)
        tables = [
            f"{title}, judge: {name}\n\n{of(found, name)}"
            for title, of in (
                ("Attack success in %", red_team_table),
                ("Harmful tokens that reached the reader", harm_table),
            )
            for name in who.scoring
        ]
        table = "\n\n".join(tables)
        write_atomically(output / "results.json", strict_json({"models": found}) + "\n")
        write_atomically(output / "table.md", table + "\n")
    print(table)
    return cli.EXIT_OK


def _defaults(values: dict) -> dict:
    attacks = values.get("attacks")
    return (
        {"attacks": {name: Assault.defaults(entry) for name, entry in attacks.items()}}
        if isinstance(attacks, dict)
        else {}
    )


if __name__ == "__main__":
    cli.run(main)
