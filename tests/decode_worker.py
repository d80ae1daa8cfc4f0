"""One of several processes that decode and score a run on some meshes, for test_inference_processes.py:

python tests/decode_worker.py RUN ROWS.jsonl OUT MESH … --distributed=…    writes OUT.<process>.json
"""

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import jax  # noqa: E402

from launch import cli, devices  # noqa: E402
from safety_align import sharding  # noqa: E402
from safety_align.data import embedded  # noqa: E402
from safety_align.decoding import GateConfig, Generator, Sampling, score_queries, score_windows  # noqa: E402
from safety_align.decoding.jsonl import read_requests  # noqa: E402
from safety_align.evaluation.utility import perplexity  # noqa: E402
from safety_align.interop import load_unrolled  # noqa: E402

NEW_TOKENS, BATCH = 12, 8
GATE = GateConfig(max_refusal_tokens=28)


def measure(run: str, rows: str, mesh: jax.sharding.Mesh | None, stream: bool = True) -> dict:
    """What is said of a run: answers (every other sampled), a stream, the head's scores, perplexity; and where it is."""
    bundle = load_unrolled(run, mesh)
    generator = Generator(bundle, GATE, mesh=mesh)
    asked = requests(rows)
    answers = generator.generate(asked, NEW_TOKENS, BATCH)
    benign = embedded.embedded_benign("test", 6)
    windows = [(e.turns, e.response, 9) for e in benign]
    return {
        "answers": [
            [r.token_ids, r.status, r.stop_reason, r.refusal_start, [c.step for c in r.checks]] for r in answers
        ],
        "stream": list(generator.stream(asked[1], NEW_TOKENS))[-1].result.token_ids if stream else None,
        "scores": [*score_queries(bundle, [q.turns for q in asked], mesh), *score_windows(bundle, windows, GATE, mesh)],
        "perplexity": perplexity(bundle, benign, mesh=mesh)["value"],
        "addressable": all(leaf.is_fully_addressable for leaf in jax.tree.leaves(generator.params)),
        "bytes_here": sum(s.data.nbytes for x in jax.tree.leaves(generator.params) for s in x.addressable_shards),
    }


def requests(rows: str) -> list:
    """The rows of a file, every other one sampled."""
    read = [read_requests(pathlib.Path(rows), sampling, 0) for sampling in (Sampling(), Sampling(1.0, 40, 0.95))]
    return [read[i % 2][i].request for i in range(len(read[0]))]


def main() -> int:
    parser = cli.Parser(__doc__)
    for name in ("run", "rows", "out"):
        parser.add_argument(name)
    parser.add_argument("meshes", nargs="+")
    devices.add_options(parser)
    arguments = parser.parse_args()
    devices.start(arguments)
    found = {}
    for text in arguments.meshes:
        mesh = sharding.make_mesh(**devices.mesh_sizes(text))
        found[text] = measure(arguments.run, arguments.rows, mesh, stream=text == arguments.meshes[-1])
    pathlib.Path(f"{arguments.out}.{jax.process_index()}.json").write_text(json.dumps(found))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
