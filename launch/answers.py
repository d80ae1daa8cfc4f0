"""A model's own answers, labelled: python -m launch.answers --checkpoint=DIR --output=DIR [--benign=N --alarming=N --malicious=N]

The model answers N benign training prompts, N that only sound alarming, N malicious ones, and N malicious ones whose answer we
begin for it, without any gate. DIR gets the answers with labels, for the source "own_answers" (data.own_answers=DIR).
Interrupted, the same command goes on. The prompts' files and those of evaluation are read below --data-dir (docs/data.md).
"""

import pathlib
import time
from typing import TYPE_CHECKING

from launch import cli, devices
from safety_align import distributed

if TYPE_CHECKING:
    from safety_align.own_answers import AnswersConfig


def answer_prompts(
    checkpoint: str, config: "AnswersConfig", output: pathlib.Path, mesh, dtype: str | None
) -> tuple[int, float]:
    """Answers what `output` lacks of the prompts of `config`, by the model `checkpoint`: (new tokens, seconds). InputError
    for an `output` of another model or of other prompts. All processes call it together; `dtype`: see `load_unrolled`."""
    from safety_align.claims import Owner
    from safety_align.decoding import Generator
    from safety_align.interop import load_unrolled
    from safety_align.own_answers import answer, choose, digest

    bundle = load_unrolled(devices.located(checkpoint), mesh, dtype)
    with distributed.agreed():
        asked = choose(config, bundle)
    model = {"model": bundle.config, "step": bundle.step, "dtype": bundle.model_config.dtype}
    identity = model | config.settings | {"prompts": digest(asked), "answers": len(asked)}
    owner = Owner(identity, f"{output} holds the answers of another model, or to other prompts")
    with owner.holding(output, "about.json"):
        generator = Generator(bundle, "off", max_length=config.max_length, mesh=mesh)
        begun = time.perf_counter()
        return answer(generator, asked, output, config), time.perf_counter() - begun


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="a training run or a Hugging Face directory")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the answers go")
    shown = dict(metavar="N", help="default: %(default)s")
    parser.add_argument("--benign", type=cli.integer(0), default=400, **shown)
    parser.add_argument("--alarming", type=cli.integer(0), default=400, **shown)
    parser.add_argument("--malicious", type=cli.integer(0), default=400, **shown)
    parser.add_argument(
        "--tokens", type=cli.integer(1), default=64, metavar="N", help="of an answer, default: %(default)s"
    )
    batch = dict(metavar="N", help="rows at once, default: %(default)s")
    parser.add_argument("--batch-size", "--batch_size", type=cli.integer(1), default=16, **batch)
    parser.add_argument("--seed", type=cli.integer(0), default=0, help="of prompts and sampling, default: %(default)s")
    parser.add_argument("--temperature", type=cli.number, default=0.7, help="default: %(default)s")
    parser.add_argument("--data-dir", default="../shared/data", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--cache-dir", default="~/.cache/safety_align", metavar="DIR", help="default: %(default)s")
    devices.add_options(parser)
    arguments = parser.parse_args()
    mesh = devices.start(arguments)

    from safety_align.own_answers import ANSWERS, AnswersConfig, count

    fields = ("benign", "alarming", "malicious", "tokens", "batch_size", "seed", "temperature", "data_dir", "cache_dir")
    config = AnswersConfig(**{name: getattr(arguments, name) for name in fields})
    output = pathlib.Path(arguments.output)
    tokens, seconds = answer_prompts(arguments.checkpoint, config, output, mesh, arguments.dtype)
    if distributed.is_main():
        for source, labels in sorted(count(output / ANSWERS).items()):
            print(f"{source:29}{', '.join(f'{n} {label}' for label, n in sorted(labels.items()))}")
        print(f"{'new tokens':29}{tokens} ({tokens / seconds:.1f} a second)")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
