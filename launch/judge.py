"""Judges answers: python -m launch.judge --judge=rules|embedded|DIR --input=FILE.jsonl --output=FILE.jsonl

A judge is the rules of this project, a run of configs/judge.py, or a guard model that answers with one of two words; any field of
it can be set: --judge.threshold=0.3. Rows {"id", "goal", "prompt", "answer", optional "given"} become rows {"id", "label",
"score"}, in order: label is refusal, compliance or no_answer; score, in [0, 1], how far the answer does the harm that was asked
for. Interrupted, the same command goes on.
"""

import dataclasses
import hashlib
import json
import pathlib
import sys

import ml_collections
import msgspec
from tqdm import tqdm

from launch import cli
from safety_align import distributed
from safety_align.claims import locked
from safety_align.decoding.jsonl import ResultsFile, blocks, read_identified
from safety_align.errors import InputError
from safety_align.evaluation.judges import Exchange, Judge, load_judge
from safety_align.files import check_new_file, check_path, make_directory
from safety_align.visible import visible

BLOCK = 256
"""Exchanges that are judged, and written, at once."""


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """A line as it stands in the file; see `Exchange`."""

    id: str | int
    goal: str
    prompt: str
    answer: str
    given: str = ""

    @property
    def exchange(self) -> Exchange:
        """What is judged."""
        return Exchange(self.goal, self.prompt, self.answer, self.given)


def read_exchanges(path: pathlib.Path) -> list[Row]:
    """The rows of a (gzipped) file; InputError, naming the line, for any that is not right."""

    def checked(row: Row, where: str) -> Row:
        if not row.goal.strip():
            raise InputError(f"{where}: goal is empty: what was wanted, in plain words")
        return row

    return read_identified(path, Row, checked)


def to_judge(name: str, options: list[str]) -> Judge:
    """The judge of that name, or in that directory, with the command line's --judge.FIELD=VALUE."""
    judge = load_judge(name)
    fields = {key: value for key, value in dataclasses.asdict(judge).items() if key != "directory"}
    values = ml_collections.ConfigDict(fields)
    cli.apply_overrides(values, options, "judge")
    return dataclasses.replace(judge, **values.to_dict())


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--judge", required=True, metavar="rules|embedded|DIR", help="who judges")
    parser.add_argument("--input", required=True, metavar="FILE", help="exchanges, JSON lines, also gzipped")
    parser.add_argument("--output", required=True, metavar="FILE", help="verdicts, JSON lines")
    arguments, rest = parser.parse_known_args()
    source, output = pathlib.Path(arguments.input), pathlib.Path(arguments.output)
    check_path(output)
    check_new_file(output, source)
    judge = to_judge(arguments.judge, rest)
    rows = read_exchanges(source)
    make_directory(output.parent)
    about = {"input": hashlib.sha256(source.read_bytes()).hexdigest(), "judge": repr(judge)}
    with locked(output):
        file = ResultsFile(output, about)
        done = file.done(rows)
        with tqdm(total=len(rows), initial=done, desc="verdicts", unit="row", file=sys.stderr) as bar:
            for block in blocks(rows[done:], BLOCK):
                verdicts = judge.judge([row.exchange for row in block])
                file.append(
                    [
                        json.dumps({"id": row.id, "label": verdict.label, "score": round(verdict.score, 6)})
                        for row, verdict in zip(block, verdicts, strict=True)
                    ]
                )
                bar.update(len(block))
                distributed.stop_if_requested()
    print(f"{visible(str(output))}: {len(rows)} verdicts, {len(rows) - done} of them new")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
