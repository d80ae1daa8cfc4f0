"""The data sources, as TFDS builders that need no TensorFlow (ArrayRecord files, a manual directory).

`load_source` prepares a source once (next to a fingerprint of its raw file, so a changed file is prepared anew) and
returns its examples. A preparation that is interrupted leaves nothing that looks complete.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence

from safety_align.data.examples import BENIGN, MALICIOUS, Example
from safety_align.data.refusals import explained_refusal
from safety_align.data.rewording import reword
from safety_align.data.rows import BadRow, RowReport, read_json_rows, require_text
from safety_align.errors import InputError
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

EMBEDDED = ("embedded", "embedded_text", "embedded_queries", "embedded_augmented", "embedded_preferences")
"""Sources that are generated, not read."""


def _refused(example: Example) -> Example:
    return dataclasses.replace(example, response=explained_refusal(example.query), response_label=BENIGN, train_lm=True)


def _augmented(example: Example) -> Example | None:
    return dataclasses.replace(_refused(example), unsafe_start=example.response) if _is_unsafe(example) else None


def _refusal_preferred(example: Example) -> Example | None:
    return dataclasses.replace(_refused(example), rejected=example.response) if _is_unsafe(example) else None


def _answer_preferred(example: Example) -> Example | None:
    if int(example.id.split(".")[0]) % 4:  # about as many as there are refusals
        return None
    return dataclasses.replace(example, rejected=explained_refusal(example.query))


def _is_unsafe(example: Example) -> bool:
    return example.query_label == MALICIOUS and example.response_label == MALICIOUS


DERIVED: dict[str, tuple[str, Callable[[Example], Example | None]]] = {
    # Data augmentation (Qi et al. 2025): the beginning of an unsafe answer, then a refusal.
    "augmented": ("beavertails", _augmented),
    # Preferences for DPO: a refusal over an unsafe answer, and an answer over a refusal.
    "preferred_refusals": ("beavertails", _refusal_preferred),
    "preferred_answers": ("alpaca", _answer_preferred),
}
"""Sources made of a file source's examples, one of each or none: name → (file source, function)."""

LABELLED = "text_labelled"
"""Plain text that a guard model has labelled; see labelled.py."""

SOURCES = (*SPECS, *DERIVED, *EMBEDDED)


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


def to_record(example: Example) -> dict:
    """The example as a TFDS record."""
    missing = -1
    return {
        "turns": json.dumps([[t.role, t.text] for t in example.turns]),
        "response": example.response,
        "query_label": missing if example.query_label is None else example.query_label,
        "response_label": missing if example.response_label is None else example.response_label,
        "train_lm": example.train_lm,
        "id": example.id,
    }


def from_record(record: dict, source: str) -> Example:
    """The inverse of `to_record`, for records as TFDS reads them (bytes, numpy scalars)."""

    def label(value):
        return None if value < 0 else int(value)

    turns = tuple(Turn(role, text) for role, text in json.loads(_text(record["turns"])))
    labels = label(record["query_label"]), label(record["response_label"])
    return Example(turns, _text(record["response"]), *labels, bool(record["train_lm"]), source, _text(record["id"]))


def _text(value) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def load_source(
    name: str,
    split: str = "train",
    *,
    data_dir: str | os.PathLike,
    cache_dir: str | os.PathLike,
    max_bad_fraction: float = 0.01,
) -> Sequence[Example]:
    """The examples of one source.

    Args:
      name: one of `SOURCES`.
      split: "train" or "test".
      data_dir: the manual directory with the raw files (unused by embedded sources).
      cache_dir: where prepared ArrayRecord files live.
      max_bad_fraction: of raw rows; beyond it InputError.
    """
    if name not in SOURCES:
        raise InputError(f"data source {name!r} is not one of {', '.join((*SOURCES, LABELLED))}")
    if split not in ("train", "test"):
        raise InputError(f"split {split!r} is not train or test")
    if name in EMBEDDED:
        return _load_embedded(name, split)
    if name in DERIVED:
        base, make = DERIVED[name]
        options = dict(data_dir=data_dir, cache_dir=cache_dir, max_bad_fraction=max_bad_fraction)
        return _Derived(name, load_source(base, split, **options), make)
    from safety_align.data import builders  # TFDS takes seconds to import: only where a file source is used

    return builders.load(name, split, pathlib.Path(data_dir), pathlib.Path(cache_dir), max_bad_fraction)


class _Derived(Sequence):
    """The examples that `make` makes of another source's, made on access."""

    def __init__(self, name: str, base: Sequence[Example], make: Callable[[Example], Example | None]):
        self._name, self._base, self._make = name, base, make
        self.fingerprint = f"{name} of {getattr(base, 'fingerprint', '')}"
        self._kept = [i for i in range(len(base)) if make(base[i]) is not None]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Example:
        return dataclasses.replace(self._make(self._base[self._kept[index]]), source=self._name)


def _load_embedded(name: str, split: str) -> Sequence[Example]:
    from safety_align.data import embedded

    if name == "embedded_text":
        return embedded.embedded_text(split, 12_000 if split == "train" else 400)
    if name in ("embedded_augmented", "embedded_preferences"):
        examples = embedded.embedded_preferences(split, 6_000 if split == "train" else 300)
        if name == "embedded_preferences":
            return examples
        return [
            dataclasses.replace(e, source=name, rejected="", unsafe_start=e.rejected)
            for e in examples
            if e.query_label == MALICIOUS
        ]
    examples = embedded.embedded_examples(split, 16_000 if split == "train" else 800)
    if name == "embedded":
        return examples
    # Queries alone, for the first check.
    return [
        dataclasses.replace(e, response="", response_label=None, train_lm=False, source=name)
        for e in examples
        if e.query_label is not None
    ]
