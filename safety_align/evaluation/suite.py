"""What an evaluation measures on: attacks with their behaviours, benign prompts, and the sets that the head ranks."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import TypedDict

from safety_align.attacks import Attack, Behavior, Direct, Prefill, Published, SamplingGrid, load_behaviors, subsample
from safety_align.data import embedded
from safety_align.data.examples import Example
from safety_align.data.rows import read_csv
from safety_align.data.sources import load_source
from safety_align.data.specs import SPECS
from safety_align.evaluation.config import EvalConfig
from safety_align.files import check_file, expanded
from safety_align.strict_json import read_json_lines
from safety_align.text import Turn

Conversation = tuple[Turn, ...]

JUDGED = "beavertails_test.jsonl.gz"
"""Answers that people have judged, below `data_dir`/eval."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """A conversation with a given answer."""

    turns: Conversation
    response: str


@dataclasses.dataclass(frozen=True)
class HeadSets:
    """What the head is measured on.

    queries: conversations by name; answers: answers by name, of which windows are read; compared: (name of the result,
    malicious set, benign set), both of queries or both of answers.
    """

    queries: dict[str, list[Conversation]]
    answers: dict[str, list[Answer]]
    compared: tuple[tuple[str, str, str], ...]


def attacks(config: EvalConfig) -> Iterator[tuple[Attack, list[Behavior]]]:
    """The whole suite, each attack with its behaviours."""

    def load(real: str, embedded_name: str, n: int):
        return load_behaviors(real if config.data == "real" else embedded_name, config.data_dir, n, config.seed)

    plain = load("advbench", "embedded", config.behaviors)
    yield Direct(), plain
    for tokens in config.prefills:
        yield Prefill(tokens), plain
    yield Published("nested"), load("deepinception", "embedded_nested", config.behaviors)
    yield Published("gcg_transfer"), load("gcg", "embedded_suffix", config.behaviors)
    grid = SamplingGrid(config.temperatures, config.top_ps, config.top_ks, config.best_of)
    yield grid, load("malicious_instruct", "embedded", config.sampling_behaviors)
    if config.data == "real":
        yield Direct("direct_harmbench"), load("harmbench", "", config.behaviors)


def check_data(config: EvalConfig) -> None:
    """Raises InputError for a data file that is not there or not right, before a model is read or trained."""
    for _ in attacks(config):
        pass
    if config.data == "real":
        _xstest(config, "safe")
        check_file(_folder(config) / JUDGED)
        check_file(pathlib.Path(config.data_dir) / SPECS["alpaca"].file)


def benign_examples(config: EvalConfig) -> list[Example]:
    """Benign questions with answers."""
    if config.data == "embedded":
        return embedded.embedded_benign("test", config.benign)
    return subsample([e for e in _held_out(config, "alpaca") if len(e.query) < 600], config.benign, config.seed)


def benign_prompts(config: EvalConfig) -> dict[str, list[Conversation]]:
    """Benign prompts by set, some of which sound alarming."""
    plain = [e.turns for e in benign_examples(config)]
    if config.data == "embedded":
        return {"benign": plain, "lookalikes": [e.turns for e in embedded.embedded_lookalikes("test", config.benign)]}
    return {"alpaca": plain, "xstest_safe": subsample(_asked(_xstest(config, "safe")), config.benign, config.seed)}


def head_sets(config: EvalConfig) -> HeadSets:
    """The sets for the head; `config.head_examples` items each at most, but all of XSTest."""
    return _embedded_head_sets(config) if config.data == "embedded" else _real_head_sets(config)


def _embedded_head_sets(config: EvalConfig) -> HeadSets:
    n = config.head_examples
    test = embedded.embedded_examples("test", 4 * n)
    benign = embedded.embedded_benign("test", n)
    return HeadSets(
        queries={
            "behaviors": _asked(b.goal for b in load_behaviors("embedded", "", n, config.seed)),
            "benign": [e.turns for e in benign],
            "lookalikes": [e.turns for e in embedded.embedded_lookalikes("test", n)],
        },
        answers={
            "unsafe": _answers([e for e in test if e.response_label == 1][:n]),
            "answers": _answers(benign),
            "refusals": _answers([e for e in test if e.query_label == 1 and e.response_label == 0][:n]),
        },
        compared=(
            ("queries_vs_benign", "behaviors", "benign"),
            ("queries_vs_lookalikes", "behaviors", "lookalikes"),
            ("windows_unsafe_vs_benign", "unsafe", "answers"),
            ("windows_unsafe_vs_refusals", "unsafe", "refusals"),
        ),
    )


def _real_head_sets(config: EvalConfig) -> HeadSets:
    n, seed = config.head_examples, config.seed
    benign = subsample(_held_out(config, "alpaca"), n, seed)
    published = ("advbench", "harmbench", "malicious_instruct")
    goals = {name: _asked(b.goal for b in load_behaviors(name, config.data_dir, n, seed)) for name in published}
    pairs = [row for _, row in read_json_lines(_folder(config) / JUDGED, _Judged)]
    unsafe = [Answer((Turn("user", p["prompt"]),), p["response"]) for p in pairs if not p["is_safe"]]
    return HeadSets(
        queries=goals
        | {
            "alpaca": [e.turns for e in benign],
            "xstest_safe": _asked(_xstest(config, "safe")),
            "xstest_unsafe": _asked(_xstest(config, "unsafe")),
        },
        answers={
            "unsafe": subsample([a for a in unsafe if a.response.strip()], n, seed),
            "answers": _answers(benign),
            "refusals": _answers(subsample(_held_out(config, "malicious_prompts"), n, seed)),
        },
        compared=(
            *((f"{name}_vs_alpaca", name, "alpaca") for name in published),
            ("xstest_unsafe_vs_safe", "xstest_unsafe", "xstest_safe"),
            ("windows_unsafe_vs_benign", "unsafe", "answers"),
            ("windows_unsafe_vs_refusals", "unsafe", "refusals"),
        ),
    )


class _Judged(TypedDict):
    prompt: str
    response: str
    is_safe: bool


def _folder(config: EvalConfig) -> pathlib.Path:
    return pathlib.Path(config.data_dir) / "eval"


def _xstest(config: EvalConfig, label: str) -> list[str]:
    return [
        row["prompt"]
        for row in read_csv(_folder(config) / "xstest_prompts.csv", ["prompt", "label"])
        if row["label"] == label
    ]


def _held_out(config: EvalConfig, name: str) -> Sequence[Example]:
    return load_source(name, "test", data_dir=config.data_dir, cache_dir=expanded(config.cache_dir, "cache_dir"))


def _asked(prompts) -> list[Conversation]:
    return [(Turn("user", prompt),) for prompt in prompts]


def _answers(examples: Sequence[Example]) -> list[Answer]:
    return [Answer(e.turns, e.response) for e in examples if e.response]
