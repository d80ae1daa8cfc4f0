"""Answers prompts through the safety gate: python -m launch.generate --checkpoint=DIR --prompt="…" [--prefill="…"]

With --prompt, prints the answer while it is written; on a terminal, green is benign so far, yellow an alert, red a
refusal. With --input=FILE.jsonl --output=FILE.jsonl, reads rows {"id", "prompt", optional "prefill", optional
"history": [[user, assistant], …]} and writes one result for each, in order; interrupted, the same command goes on.
Any field of the gate can be set: --gate.schedule=annealing --gate.mode=insert --gate.tau=2 --gate.dependence=high.

On several hosts every process is given the same command with --distributed; the first writes and speaks. Files of
--input and the checkpoint must be there for all of them. --batch-size counts the rows of all devices together.
"""

import contextlib
import dataclasses
import hashlib
import pathlib
import sys
from collections.abc import Iterable

import ml_collections
from tqdm import tqdm

from launch import cli, devices
from safety_align import distributed, sharding
from safety_align.bundle import Bundle
from safety_align.claims import locked
from safety_align.decoding import GateConfig, Generator, Piece, Request, Sampling
from safety_align.decoding.config import differences
from safety_align.decoding.jsonl import ResultsFile, Row, blocks, read_requests, to_json
from safety_align.errors import InputError
from safety_align.evaluation.defences import Defence
from safety_align.files import check_new_file, check_path, make_directory
from safety_align.interop import hub, load_unrolled
from safety_align.sizes import check_decoding
from safety_align.text import Turn
from safety_align.visible import LINES, visible

GREEN, YELLOW, RED, DIM, RESET = "\033[32m", "\033[33m", "\033[31m", "\033[2m", "\033[0m"


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="a training run, one of its steps, a Hugging Face directory, or OWNER/NAME[@REVISION] on the hub",
    )
    parser.add_argument("--prompt", metavar="TEXT", help="answer this")
    parser.add_argument("--prefill", default="", metavar="TEXT", help="text that the answer already starts with")
    parser.add_argument("--input", metavar="FILE", help="answer the rows of this JSON-lines file")
    parser.add_argument("--output", metavar="FILE", help="where the answers to --input go")
    parser.add_argument("--no-gate", action="store_true", help="decode as if there were no [CLS]")
    parser.add_argument(
        "--reconsider",
        type=cli.number,
        default=0.0,
        metavar="P",
        help="write an answer again that refuses in words though its query's probability of being malicious is below P; default: never",
    )
    count = cli.integer(1)
    parser.add_argument("--max-new-tokens", type=count, default=128, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch-size", type=count, default=16, metavar="N", help="rows at once, default: %(default)s")
    parser.add_argument(
        "--max-length", type=count, default=4096, metavar="N", help="prompt and answer, default: %(default)s"
    )
    parser.add_argument("--temperature", type=cli.number, default=0.0, help="0 is greedy, default: %(default)s")
    parser.add_argument("--top-k", type=cli.integer(0), default=0, help="0 keeps all, default: %(default)s")
    parser.add_argument("--top-p", type=cli.number, default=1.0, help="default: %(default)s")
    seed = cli.integer(0, 2**32 - 1)
    parser.add_argument("--seed", type=seed, default=0, help="of the sampling, default: %(default)s")
    devices.add_options(parser)
    devices.add_weights(parser)
    arguments, rest = parser.parse_known_args()
    if (arguments.prompt is None) == (arguments.input is None):
        raise InputError("give either --prompt or --input with --output (see --help)")
    if (arguments.input is None) != (arguments.output is None):
        raise InputError("--input and --output go together")
    if arguments.input is not None and arguments.prefill:
        raise InputError('--prefill goes with --prompt; rows of --input have their own "prefill"')
    if arguments.prompt is not None and not arguments.prompt.strip():
        raise InputError("--prompt is empty")
    if arguments.output is not None:
        check_path(pathlib.Path(arguments.output))
        check_new_file(pathlib.Path(arguments.output), pathlib.Path(arguments.input))
    if arguments.no_gate and rest:
        raise InputError(f"{rest[0]} says how to gate, --no-gate not to; give one of them")
    if arguments.reconsider and arguments.no_gate:
        raise InputError("--reconsider goes by what the gate says of the query; leave out --no-gate")
    defence = Defence(reconsider=arguments.reconsider)
    to_gate(GateConfig(), rest)  # before the model is read: a mistake costs no minute
    sampling = Sampling(arguments.temperature, arguments.top_k, arguments.top_p)
    mesh = devices.start(arguments)
    rows = None
    if arguments.input is not None:
        with distributed.agreed():
            rows = read_requests(pathlib.Path(arguments.input), sampling, arguments.seed)
    arguments.checkpoint = devices.located(arguments.checkpoint)
    bundle = load_unrolled(arguments.checkpoint, mesh, arguments.dtype, arguments.weights)
    with distributed.agreed():
        if bundle.gate is None and not arguments.no_gate:
            raise InputError(f"{arguments.checkpoint} was trained without a safety signal; decode it with --no-gate")
        check_decoding(bundle.model_config, 1, arguments.max_length, mesh, "a smaller --max-length")
    gate = "off" if arguments.no_gate else to_gate(bundle.gate, rest)
    generator = Generator(bundle, gate, max_length=arguments.max_length, mesh=mesh)
    if arguments.prompt is not None:
        request = Request((Turn("user", arguments.prompt),), arguments.prefill, seed=arguments.seed, sampling=sampling)
        with distributed.agreed():
            generator.encode([request], arguments.max_new_tokens)
        if arguments.reconsider:
            (result,) = defence.target(generator, (arguments.max_new_tokens, 1), bundle, None, mesh).answer([request])
            print_pieces([Piece(result.response, result.refused, result.query_score, result)], generator)
        else:
            print_pieces(generator.stream(request, arguments.max_new_tokens), generator)
    else:
        with contextlib.ExitStack() as held:
            answer_file(generator, bundle, arguments, sampling, rows, held)
    return cli.EXIT_OK


def to_gate(gate: GateConfig, overrides: list[str]) -> GateConfig:
    """`gate` with the command line's --gate.FIELD=VALUE."""
    values = ml_collections.ConfigDict(dataclasses.asdict(gate))
    cli.apply_overrides(values, overrides, "gate")
    return GateConfig(**values.to_dict())


def print_pieces(pieces: Iterable[Piece], generator: Generator) -> None:
    """Prints one answer piece by piece on stdout, and what the gate decided on stderr."""
    coloured = sys.stdout.isatty()

    def paint(colour: str, text: str) -> str:
        return f"{colour}{text}{RESET}" if coloured and text else text

    for piece in pieces:
        if not distributed.is_main():
            continue
        alert = piece.probability >= generator.gate.threshold if generator.gate else False
        colour = RED if piece.refusing else YELLOW if alert else GREEN
        print(paint(colour if generator.gate else "", visible(piece.text, LINES)), end="", flush=True)
    if distributed.is_main():
        print()
        print(paint(DIM, explain(piece.result)), file=sys.stderr)


def explain(result) -> str:
    """One line: what was decided, when, and why."""
    if result.status == "ungated":
        return f"[no gate; stopped: {result.stop_reason}]"
    scores = f"query {result.query_score:.3f}, highest {result.max_score:.3f}, {len(result.checks)} checks, stopped: {result.stop_reason}"
    if result.status == "malicious_query":
        return f"[malicious query, {'refused at once' if result.refused else 'verdict ignored'}; {scores}]"
    if result.status == "malicious_response":
        acted = f"refused from token {result.refusal_start}" if result.refused else "verdict ignored"
        return f"[the answer turned malicious at token {result.transition_step}, {acted}; {scores}]"
    return f"[{'alert pending at the end' if result.status == 'alert' else 'benign'}; {scores}]"


def answer_file(generator: Generator, bundle: Bundle, arguments, sampling: Sampling, rows: list[Row], held) -> None:
    """Answers the rows of `--input` into `--output`, whose lock is `held` meanwhile."""
    source, output = pathlib.Path(arguments.input), pathlib.Path(arguments.output)
    with distributed.agreed():
        try:
            generator.encode([row.request for row in rows], arguments.max_new_tokens)
        except InputError as error:
            raise InputError(f"{source}: {error} (requests count from 0)") from error
        about = {
            "input": hashlib.sha256(source.read_bytes()).hexdigest(),
            "checkpoint": hub.identity(arguments.checkpoint),
            "step": bundle.step,
            **devices.computed(bundle),
            "changed": bundle.config.get("changed"),  # of a published model: when its files were
            "gate": None if generator.gate is None else dataclasses.asdict(generator.gate),
            "gate_differs": generator.gate and differences(generator.gate, GateConfig()),
            "sampling": dataclasses.asdict(sampling) | {"seed": arguments.seed},
            "max_new_tokens": arguments.max_new_tokens,
        } | ({"reconsider": arguments.reconsider} if arguments.reconsider else {})
    distributed.must_equal(about | {"batch_size": arguments.batch_size})
    file, done = None, 0
    with distributed.agreed():
        if distributed.is_main():  # the others never look at the file
            make_directory(output.parent)
            held.enter_context(locked(output))
            file = ResultsFile(output, about)
            done = file.done(rows)
    done = distributed.from_main(done)
    refused, silent = 0, not distributed.is_main()
    with tqdm(total=len(rows), initial=done, desc="answers", unit="row", file=sys.stderr, disable=silent) as bar:
        answers = arguments.max_new_tokens, arguments.batch_size, bar.update
        target = Defence(reconsider=arguments.reconsider).target(generator, answers, bundle, None, generator.mesh)
        # Blocks of several batches: long enough to sort by length, short enough to lose little.
        for block in blocks(rows[done:], 4 * sharding.even_rows(arguments.batch_size, generator.mesh)):
            results = target.answer([row.request for row in block])
            if file is not None:
                file.append([to_json(row.id, result) for row, result in zip(block, results, strict=True)])
            refused += sum(result.refused for result in results)
            distributed.stop_if_requested()
    if distributed.is_main():
        print(f"{visible(str(output))}: {len(rows)} answers, {len(rows) - done} of them new ({refused} refused)")


if __name__ == "__main__":
    cli.run(main)
