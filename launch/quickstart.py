"""The whole path in minutes, without any data files: python -m launch.quickstart [--workdir=DIR]

On the embedded corpus: warms up a language model of 0.8 M parameters, aligns it (a) by SFT alone and (b) with the safety
signal, attacks both, prints the table and writes results.json, table.md and report.html into the work directory.
Interrupted, the same command goes on.
"""

import pathlib
import sys
import time

from configs import embedded_base, embedded_gated, embedded_sft
from configs.eval import embedded as evaluation
from launch import cli
from launch.compare import compare
from launch.huge_pages import restart_with_huge_pages
from launch.output import own_output
from launch.stages import Stage, Training, make_all
from safety_align.evaluation.variants import gate_variants
from safety_align.training.from_dict import to_train_config


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--workdir", default="runs/quickstart", metavar="DIR", help="default: %(default)s")
    workdir = pathlib.Path(parser.parse_args().workdir)
    started = time.monotonic()
    stages = []
    for name, module in (("base", embedded_base), ("sft", embedded_sft), ("gated", embedded_gated)):
        config = module.get_config()
        if name != "base":
            config.init_from = str(workdir / "base")
        announcement = f"[{len(stages) + 1}/4] training {name}: {module.__doc__.splitlines()[0]}"
        stages.append(Stage(str(workdir / name), Training(to_train_config(config.to_dict())), announcement))
    columns = gate_variants(str(workdir / "sft"), str(workdir / "gated"))
    chosen = {name: columns[name] for name in ("sft", "gated")}
    eval_values = evaluation.get_config().to_dict()
    about = {"config": eval_values, "variants": chosen}
    with own_output(workdir, about):
        if not make_all(stages):
            return cli.EXIT_FAILED
        print("[4/4] attacking both", file=sys.stderr)
        print(compare(chosen, eval_values, workdir, about))
    minutes = (time.monotonic() - started) / 60
    print(f"{minutes:.1f} minutes; open {workdir / 'report.html'} for plots and sample answers", file=sys.stderr)
    return cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
