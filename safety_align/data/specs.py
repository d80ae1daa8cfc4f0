"""The raw files that become examples: the layout of each, their labels, and which of them are held out."""

import dataclasses
import hashlib
import pathlib
import re
import sys
from collections.abc import Callable, Iterator

from safety_align.data.clear import clear_answer, clear_prompt
from safety_align.data.examples import BENIGN, MALICIOUS, Example
from safety_align.data.refusals import explained_refusal
from safety_align.data.rewording import reword
from safety_align.data.rows import BadRow, RowReport, read_json_rows, require_text
from safety_align.text import Turn
from safety_align.visible import visible

HELD_OUT = 0.04
"""Fraction of each source that is its "test" split, chosen by a hash of the query."""

PASSAGE_WORDS = 170
"""Length of the passages that plain text is cut into."""

GUARD_WORDS = 100
"""Length of the texts that a guard model of our own learns from."""

Draft = tuple[tuple[Turn, ...], str]


@dataclasses.dataclass(frozen=True)
class SourceSpec:
    """How one file becomes examples.

    file: below the manual directory; fields: name → type of what a row must have; parse: a row → (turns, response)
    drafts, raising `BadRow`; query_label, response_label, train_lm: of every example, or of a row if `labels` is given.
    """

    file: str
    fields: dict[str, type]
    parse: Callable[[dict], list[Draft]]
    query_label: int | None = None
    response_label: int | None = None
    train_lm: bool = True
    labels: Callable[[dict], tuple[int | None, int | None]] | None = None


def _user(text: str) -> Turn:
    return Turn("user", require_text(text))


def _instruction(row: dict) -> list[Draft]:
    turns = []
    history = row.get("history") or []
    for exchange in history if isinstance(history, list) else [None]:
        if not (isinstance(exchange, list) and len(exchange) == 2 and all(isinstance(t, str) for t in exchange)):
            raise BadRow("wrong type")
        turns += [_user(exchange[0]), Turn("assistant", require_text(exchange[1]))]
    query = require_text(row["instruction"])
    if row["input"].strip():
        query = f"{query}\n\n{row['input'].strip()}"
    return [((*turns, _user(query)), require_text(row["output"]))]


def _unanswered(row: dict) -> list[Draft]:
    return [(turns, "") for turns, _ in _instruction(row)]


def _bare_instruction(row: dict) -> list[Draft]:
    return [((_user(row["instruction"]),), "")] if not row["input"].strip() else []


def _reworded(query: str) -> list[Draft]:
    # Of training prompts only: another form of a held-out prompt would give it away.
    return [] if _is_held_out(query) else [((_user(form),), "") for form in reword(query)]


def _gsm8k(row: dict) -> list[Draft]:
    answer = re.sub(r"<<[^>]*>>", "", require_text(row["answer"]))
    return [((_user(row["question"]),), answer)]


def _passages(row: dict) -> list[Draft]:
    if not isinstance(row["text"], str):
        raise BadRow("wrong type")
    words = require_text(row["text"].replace("<br />", " ")).split(" ")
    cuts = range(0, len(words), PASSAGE_WORDS)
    return [((), " ".join(words[i : i + PASSAGE_WORDS]).strip() or "-") for i in cuts]


def _prompt_response(row: dict) -> list[Draft]:
    return [((_user(row["prompt"]),), require_text(row["response"]))]


def _judged(texts: list[tuple[str, bool]]) -> list[Draft]:
    """What a guard model learns from: a text, or the beginning of a long one, and the verdict on it."""
    cut = [(" ".join(text.split(" ")[:GUARD_WORDS]), is_safe) for text, is_safe in texts]
    return [((_user(text),), "safe" if is_safe else "unsafe") for text, is_safe in cut if text.strip()]


_INSTRUCTION = {"instruction": str, "input": str, "output": str}
_PAIR = {"prompt": str, "response": str}

SPECS = {
    "alpaca": SourceSpec("train/alpaca.jsonl.gz", _INSTRUCTION, _instruction, BENIGN, BENIGN),
    "lima": SourceSpec("train/lima.jsonl.gz", _INSTRUCTION, _instruction, BENIGN, BENIGN),
    "dolly": SourceSpec("train/dolly.jsonl.gz", _INSTRUCTION, _instruction, BENIGN, BENIGN),
    "gsm8k": SourceSpec("train/gsm8k_train.jsonl.gz", {"question": str, "answer": str}, _gsm8k, BENIGN, BENIGN),
    "malicious_prompts": SourceSpec(
        "train/malicious_prompts.jsonl.gz",
        {"prompt": str},
        lambda row: [((_user(row["prompt"]),), explained_refusal(row["prompt"]))],
        MALICIOUS,
        BENIGN,
    ),
    "safe_responses": SourceSpec("train/safe_responses.jsonl.gz", _PAIR, _prompt_response, MALICIOUS, BENIGN),
    # Unsafe answers: windows of them are malicious, and they never enter the LM loss.
    "beavertails": SourceSpec(
        "train/beavertails.jsonl.gz",
        _PAIR | {"is_safe": bool},
        _prompt_response,
        train_lm=False,
        labels=lambda row: (None, BENIGN) if row["is_safe"] else (MALICIOUS, MALICIOUS),
    ),
    # Queries alone: short, and all the head needs for the first check.
    "malicious_queries": SourceSpec(
        "train/malicious_prompts.jsonl.gz",
        {"prompt": str},
        lambda row: [((_user(row["prompt"]),), "")],
        MALICIOUS,
        train_lm=False,
    ),
    "benign_queries": SourceSpec("train/alpaca.jsonl.gz", _INSTRUCTION, _bare_instruction, BENIGN, train_lm=False),
    # Questions of a forum, long and without a form: their answers do not fit a short row.
    "lima_queries": SourceSpec("train/lima.jsonl.gz", _INSTRUCTION, _unanswered, BENIGN, train_lm=False),
    "dolly_queries": SourceSpec("train/dolly.jsonl.gz", _INSTRUCTION, _bare_instruction, BENIGN, train_lm=False),
    # The same goals in other forms.
    "malicious_reworded": SourceSpec(
        "train/malicious_prompts.jsonl.gz",
        {"prompt": str},
        lambda row: _reworded(require_text(row["prompt"])),
        MALICIOUS,
        train_lm=False,
    ),
    "benign_reworded": SourceSpec(
        "train/alpaca.jsonl.gz",
        _INSTRUCTION,
        lambda row: [] if row["input"].strip() else _reworded(require_text(row["instruction"])),
        BENIGN,
        train_lm=False,
    ),
    # The same without what is malicious in name only; in three forms, with a refusal, and with an unsafe answer.
    "clear_queries": SourceSpec(
        "train/malicious_prompts.jsonl.gz",
        {"prompt": str},
        lambda row: [((_user(row["prompt"]),), "")] if clear_prompt(row) else [],
        MALICIOUS,
        train_lm=False,
    ),
    "clear_reworded": SourceSpec(
        "train/malicious_prompts.jsonl.gz",
        {"prompt": str},
        lambda row: _reworded(require_text(row["prompt"])) if clear_prompt(row) else [],
        MALICIOUS,
        train_lm=False,
    ),
    "clear_prompts": SourceSpec(
        "train/malicious_prompts.jsonl.gz",
        {"prompt": str},
        lambda row: [((_user(row["prompt"]),), explained_refusal(row["prompt"]))] if clear_prompt(row) else [],
        MALICIOUS,
        BENIGN,
    ),
    "clear_answers": SourceSpec(
        "train/beavertails.jsonl.gz",
        _PAIR | {"is_safe": bool},
        lambda row: _prompt_response(row) if clear_answer(row) else [],
        MALICIOUS,
        MALICIOUS,
        train_lm=False,
    ),
    # Safe answers, of whose queries nothing is said.
    "safe_answers": SourceSpec("train/safe_responses.jsonl.gz", _PAIR, _prompt_response, None, BENIGN),
    # For a small guard model of our own: texts of both kinds, with the verdict as the answer.
    "guard_prompts": SourceSpec(
        "train/malicious_prompts.jsonl.gz", {"prompt": str}, lambda row: _judged([(row["prompt"], False)])
    ),
    "guard_answers": SourceSpec(
        "train/beavertails.jsonl.gz",
        _PAIR | {"is_safe": bool},
        lambda row: _judged([(row["response"], row["is_safe"])]),
    ),
    "guard_benign": SourceSpec(
        "train/alpaca.jsonl.gz", _INSTRUCTION, lambda row: _judged([(row["instruction"], True), (row["output"], True)])
    ),
    # Passages and long answers, so that the guard does not take length or a narrative for harm.
    "guard_passages": SourceSpec(
        "train/dolly.jsonl.gz", _INSTRUCTION, lambda row: _judged([(row["input"], True), (row["output"], True)])
    ),
    "guard_long_answers": SourceSpec("train/lima.jsonl.gz", _INSTRUCTION, lambda row: _judged([(row["output"], True)])),
    "text_imdb": SourceSpec("text/imdb.jsonl.gz", {"text": str}, _passages),
    "text_books": SourceSpec("text/books.jsonl.gz", {"text": object}, _passages),
}


def source_examples(
    name: str, manual_dir: pathlib.Path, max_bad_fraction: float = 0.01, announce: bool = True
) -> Iterator[Example]:
    """All examples of a file source, both splits, straight from its raw file. Reports bad rows on stderr."""
    spec = SPECS[name]
    path = manual_dir / spec.file
    report = RowReport(path, max_bad_fraction)

    def parse(row: dict):
        query_label, response_label = spec.labels(row) if spec.labels else (spec.query_label, spec.response_label)
        return [(turns, response, query_label, response_label) for turns, response in spec.parse(row)]

    for number, drafts in read_json_rows(path, spec.fields, report, parse):
        for part, (turns, response, query_label, response_label) in enumerate(drafts):
            lm = spec.train_lm and response_label != MALICIOUS
            yield Example(turns, response, query_label, response_label, lm, name, f"{number}.{part}")
    if report.bad and announce:
        print(visible(str(report)), file=sys.stderr)
    report.close()


def is_held_out(example: Example) -> bool:
    """The example belongs to the "test" split: by its query, so that one prompt is in one split for all sources."""
    return _is_held_out(example.query or example.id.split(".")[0])


def _is_held_out(text: str) -> bool:
    key = text.strip().lower()
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:4]) < HELD_OUT * 2**32
