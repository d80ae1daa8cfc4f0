"""The data sources by name: those of files, those made of another's examples, and those that are generated."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

from safety_align.data.contrast import contrast_examples
from safety_align.data.examples import BENIGN, MALICIOUS, Example
from safety_align.data.exchanges import EXCHANGES, judged_examples
from safety_align.data.mapped import Mapped
from safety_align.data.refusals import explained_refusal
from safety_align.data.specs import SPECS
from safety_align.errors import InputError

EMBEDDED = (
    "embedded", "embedded_text", "embedded_queries", "embedded_augmented", "embedded_preferences", "embedded_obeyed",
    "embedded_answered",
)  # fmt: skip
"""The sources of the embedded corpus."""

GENERATED = (*EMBEDDED, "contrast")
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


def _obeyed(example: Example) -> Example | None:
    if not _is_unsafe(example):
        return None
    return dataclasses.replace(example, query_label=None, response_label=None, train_lm=True)


def _is_unsafe(example: Example) -> bool:
    return example.query_label == MALICIOUS and example.response_label == MALICIOUS


DERIVED: dict[str, tuple[str, Callable[[Example], Example | None]]] = {
    # Data augmentation (Qi et al. 2025): the beginning of an unsafe answer, then a refusal.
    "augmented": ("beavertails", _augmented),
    # Preferences for DPO: a refusal over an unsafe answer, and an answer over a refusal.
    "preferred_refusals": ("beavertails", _refusal_preferred),
    "preferred_answers": ("alpaca", _answer_preferred),
    # Fine-tuning as an attack: an unsafe answer, as an attacker would teach it.
    "obeyed": ("beavertails", _obeyed),
}
"""Sources made of a file source's examples, one of each or none: name → (file source, function)."""

ATTACKERS = ("obeyed", "embedded_obeyed")
"""Sources of an attacker who fine-tunes: unsafe answers that count in the LM loss, without labels. Nothing else stands beside them
in a mixture but `TUNERS`, and no loss of a signal (`training.ready`)."""

TUNERS = (*ATTACKERS, "embedded_answered")
"""Sources of anybody who fine-tunes a model that is not theirs."""

LABELLED = "text_labelled"
"""Plain text that a guard model has labelled; see labelled.py."""

OWN_ANSWERS = "own_answers"
"""Answers that a model gave itself; see own_answers.py."""

MADE = {LABELLED: ("labelled", "launch.label"), OWN_ANSWERS: ("own_answers", "launch.answers")}
"""Sources that a command of ours makes: name → (the field of a run's data that names its directory, the command)."""

SOURCES = (*SPECS, *DERIVED, *GENERATED, *EXCHANGES)


def check_source(name: str, data_dir: str | os.PathLike) -> None:
    """Raises InputError where a file that source `name` is read from is not there; a generated one needs none."""
    base = DERIVED[name][0] if name in DERIVED else name
    if base in SPECS and not (path := pathlib.Path(data_dir) / SPECS[base].file).is_file():
        raise InputError(f"data file {path} does not exist; put it there or set data.data_dir")
    if name in EXCHANGES:
        judged_examples(name, "test", pathlib.Path(data_dir))


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
      data_dir: the manual directory with the raw files (unused by generated sources).
      cache_dir: where prepared ArrayRecord files live.
      max_bad_fraction: of raw rows; beyond it InputError.
    """
    if name not in SOURCES:
        raise InputError(f"data source {name!r} is not one of {', '.join((*SOURCES, *MADE))}")
    if split not in ("train", "test"):
        raise InputError(f"split {split!r} is not train or test")
    if name == "contrast":
        return contrast_examples(split)
    if name in EMBEDDED:
        return _load_embedded(name, split)
    if name in EXCHANGES:
        return judged_examples(name, split, pathlib.Path(data_dir))
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

    # What is generated, and how many examples for training and for tests.
    made = {
        "embedded": (embedded.embedded_examples, 16_000, 800),
        "embedded_text": (embedded.embedded_text, 12_000, 400),
        "embedded_preferences": (embedded.embedded_preferences, 6_000, 300),
        "embedded_obeyed": (embedded.embedded_obeyed, 4_000, 200),
        "embedded_answered": (embedded.embedded_answered, 4_000, 200),
    }

    def generated(name: str) -> Sequence[Example]:
        make, *counts = made[name]
        return make(split, counts[split == "test"])

    def query(example: Example) -> Example:  # alone, for the first check
        return dataclasses.replace(example, response="", response_label=None, train_lm=False, source=name)

    if name == "embedded_queries":
        return Mapped(generated("embedded"), query, "queries")
    if name == "embedded_augmented":
        return [
            dataclasses.replace(e, source=name, rejected="", unsafe_start=e.rejected)
            for e in generated("embedded_preferences")
            if e.query_label == MALICIOUS
        ]
    return generated(name)
