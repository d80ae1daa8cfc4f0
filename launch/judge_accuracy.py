"""How often judges agree with people: python -m launch.judge_accuracy --judge=rules --judge=runs/judge [--n=100]

On answers that people have labelled (--data-dir, docs/data.md), to the fifth of the questions that a judge of configs/judge.py is not
trained on; --n of each class and collection at most. --judge as of launch.judge, and may be given again.
"""

import pathlib
import sys

from launch import cli
from safety_align.data.exchanges import judged_test
from safety_align.errors import InputError
from safety_align.evaluation.judges import load_judge
from safety_align.evaluation.judges.accuracy import accuracy_table, judge_accuracy, some_of_each
from safety_align.evaluation.report import strict_json
from safety_align.visible import visible


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--judge", action="append", required=True, metavar="rules|DIR", help="who judges")
    parser.add_argument("--data-dir", default="../shared/data", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--n", type=cli.integer(1), default=100, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="prints JSON, not tables")
    arguments = parser.parse_args()
    if twice := next((name for name in arguments.judge if arguments.judge.count(name) > 1), None):
        raise InputError(f"--judge={twice} is given twice")
    judges = {name: load_judge(name) for name in arguments.judge}
    labelled = some_of_each(judged_test(pathlib.Path(arguments.data_dir)), arguments.n)
    print(f"{len(labelled)} answers", file=sys.stderr)
    found = judge_accuracy(judges, labelled)
    if arguments.json:
        print(strict_json(found))
        return cli.EXIT_OK
    print(accuracy_table(found))
    for pair, kappa in found["kappa"].items():
        print(f"kappa {'-' if kappa is None else f'{kappa:.2f}'} ({visible(pair)})")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
