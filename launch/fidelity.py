"""How near a model with rounded weights is to itself: python -m launch.fidelity --checkpoint=DIR --weights=int8 [--n=40]

On conversations of the held-out questions and answers of --source (docs/data.md): divergence of the next token, perplexity, and
how long greedy answers stay the same. Both models stand in memory. What the signal makes of it: launch.evaluate, with --weights
and without.
"""

import sys

from tqdm import tqdm

from launch import cli, devices
from safety_align.errors import InputError
from safety_align.evaluation.example_sets import EvalData, HeldOut
from safety_align.evaluation.fidelity import fidelity
from safety_align.evaluation.report import strict_json
from safety_align.interop import load_unrolled


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--checkpoint", required=True, metavar="DIR", help="a run, a Hugging Face directory or a hub name"
    )
    parser.add_argument("--source", default="alpaca", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--data-dir", default="../shared/data", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--cache-dir", default="~/.cache/safety_align", metavar="DIR", help="default: %(default)s")
    for name, default in (("n", 40), ("tokens", 64), ("batch-size", 8)):
        parser.add_argument(f"--{name}", type=cli.integer(1), default=default, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="prints JSON")
    devices.add_dtype(parser)
    devices.add_weights(parser)
    arguments = parser.parse_args()
    if arguments.weights is None:
        raise InputError("say how weights are rounded: --weights=int8")
    data, chosen = EvalData(arguments.data_dir, arguments.cache_dir), HeldOut(arguments.source)
    chosen.check(data)
    examples = chosen.examples(arguments.n, data)
    name = devices.located(arguments.checkpoint)
    whole, rounded = (load_unrolled(name, None, arguments.dtype, weights) for weights in (None, arguments.weights))
    with tqdm(total=3 * len(examples), desc="fidelity", file=sys.stderr) as bar:
        found = fidelity(whole, rounded, examples, arguments.tokens, arguments.batch_size, bar.update)
    if arguments.json:
        print(strict_json(found))
        return cli.EXIT_OK
    kl, written = found["kl"], found["greedy"]
    print(f"{found['tokens']:,} tokens of {len(examples)} given answers ({arguments.source})")
    print(f"divergence, nats   mean {kl['mean']:.5f}   99 % below {kl['p99']:.4f}   largest {kl['max']:.3f}")
    print(
        f"perplexity         {found['perplexity']['whole']:.3f} as it was, {found['perplexity']['rounded']:.3f} rounded"
    )
    print(f"likeliest token    the same at {100 * found['same_top']:.2f} %")
    print(
        f"greedy answers     {written['identical']} of {written['n']} identical over {arguments.tokens} tokens; "
        f"{100 * written['kept']:.0f} % of an answer before the first difference"
    )
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
