"""Converts a model to a Hugging Face directory: python -m launch.convert --from=DIR --to=DIR [--format=…]

Reads a Hugging Face directory (checked tensor by tensor), a model of the hub, a training run of this project, or a llama2.c file; writes
safetensors that `transformers` loads unchanged, the tokenizer and chat template, and the safety signal beside them. The
target appears whole or not at all.
"""

import pathlib
import sys

from tqdm import tqdm

from launch import cli
from safety_align.errors import InputError
from safety_align.files import check_path
from safety_align.visible import visible


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="DIR",
        help="the model to read: a directory, a file, or OWNER/NAME[@REVISION] on the hub",
    )
    parser.add_argument(
        "--to", dest="target", required=True, metavar="DIR", help="the directory to write; must not exist"
    )
    parser.add_argument(
        "--format", metavar="NAME", help="what --from is: huggingface, run or llama2c; default: by looking at it"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="stored dtype; default: as it is")
    parser.add_argument("--tokenizer", metavar="FILE", help="the tokenizer file of a llama2.c model")
    parser.add_argument("--allow-non-finite", action="store_true", help="accept NaN and infinite weights")
    parser.add_argument(
        "--calibration", metavar="FILE", help="calibration.json of launch.calibrate: its threshold becomes the gate's"
    )
    parser.add_argument(
        "--signal", metavar="DIR", help="a safety signal to put beside the model: signals/NAME, say (docs/interop.md)"
    )
    parser.add_argument(
        "--similar",
        action="store_true",
        help="take a --signal of another model, if its test sentences hold beside this one",
    )
    arguments = parser.parse_args()
    if arguments.similar and not arguments.signal:
        raise InputError("--similar is of a --signal; there is none")
    check_path(pathlib.Path(arguments.target), "--to")
    from safety_align.interop import hub  # after the arguments are checked: jax takes a second
    from safety_align.interop.convert import convert

    calibration = None
    if arguments.calibration is not None:
        from safety_align.evaluation.calibration import read_calibration

        calibration = read_calibration(pathlib.Path(arguments.calibration))
    source = hub.pinned(arguments.source)
    with tqdm(desc="bytes read and written", unit="B", unit_scale=True, file=sys.stderr) as bar:
        summary = convert(
            pathlib.Path(source),
            pathlib.Path(arguments.target),
            arguments.format,
            arguments.dtype,
            pathlib.Path(arguments.tokenizer) if arguments.tokenizer else None,
            arguments.allow_non_finite,
            bar.update,
            calibration,
            pathlib.Path(arguments.signal) if arguments.signal else None,
            arguments.similar,
        )
    rows = {
        "from": f"{visible(source)} ({summary.source})",
        "to": arguments.target,
        "family": summary.family,
        "parameters": f"{summary.parameters:,}",
        "tensors": f"{summary.tensors:,}, all mapped",
        "bytes": f"{summary.bytes:,} ({summary.dtype})",
        "safety signal": "beside the model" if summary.signal else "none",
    }
    for name, value in rows.items():
        print(f"{name:14} {value}")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
