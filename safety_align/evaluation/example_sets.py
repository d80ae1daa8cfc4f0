"""Sets of conversations, some with answers, that an evaluation reads: from the files of `data_dir`, or embedded."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Protocol, TypedDict, runtime_checkable

from safety_align.attacks import load_behaviors, subsample
from safety_align.data import embedded
from safety_align.data.examples import BENIGN, MALICIOUS, Example
from safety_align.data.rows import read_csv
from safety_align.data.sources import SOURCES, check_source, load_source
from safety_align.errors import InputError
from safety_align.evaluation.kinds import Kinded
from safety_align.fields import check_fields
from safety_align.files import check_file, expanded
from safety_align.strict_json import read_json_lines
from safety_align.text import Turn


@dataclasses.dataclass(frozen=True)
class EvalData:
    """Where an evaluation's data are: raw files below `data_dir`, prepared ones below `cache_dir`; and the `seed` of every
    sample of them."""

    data_dir: str
    cache_dir: str
    seed: int = 0

    @property
    def folder(self) -> pathlib.Path:
        """Of the published evaluation sets."""
        return pathlib.Path(self.data_dir) / "eval"


@runtime_checkable
class ExampleSet(Protocol):
    """A set of examples: a frozen dataclass, whose fields a config sets."""

    def examples(self, n: int, data: EvalData) -> list[Example]:
        """At most `n` of them, the same for the same `data.seed`. InputError for files that are not there or not right."""

    def check(self, data: EvalData) -> None:
        """Raises InputError for files that are not there, as far as can be seen at once."""


@dataclasses.dataclass(frozen=True)
class Goals:
    """The goals of a set of behaviours (`load_behaviors`), in plain words and without answers."""

    behaviors: str

    def __post_init__(self):
        check_fields(self)

    def examples(self, n: int, data: EvalData) -> list[Example]:
        """See `ExampleSet.examples`."""
        found = load_behaviors(self.behaviors, data.data_dir, n, data.seed)
        return [_query(b.goal, MALICIOUS, self.behaviors, b.id) for b in found]

    def check(self, data: EvalData) -> None:
        """See `ExampleSet.check`."""
        self.examples(1, data)


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The held-out split of a source of the training data (`load_source`).

    longest: characters of a query, which must be fewer; None takes all. after: sizes of samples (of the same seed) whose
    examples are left out, so that this measurement shares none with those. A smaller sample is no part of a larger one:
    each size counts.
    """

    source: str
    longest: int | None = None
    after: tuple[int, ...] = ()

    def __post_init__(self):
        check_fields(self, longest=1)
        if self.source not in SOURCES:
            raise InputError(f"source {self.source!r} is not one of {', '.join(SOURCES)}")

    def examples(self, n: int, data: EvalData) -> list[Example]:
        """See `ExampleSet.examples`."""
        cache = expanded(data.cache_dir, "cache_dir")
        found = load_source(self.source, "test", data_dir=data.data_dir, cache_dir=cache)
        if self.longest is not None:
            found = [example for example in found if len(example.query) < self.longest]
        if self.after:
            taken = {i for size in self.after for i in subsample(range(len(found)), size, data.seed)}
            found = [example for i, example in enumerate(found) if i not in taken]
        return subsample(found, n, data.seed)

    def check(self, data: EvalData) -> None:
        """See `ExampleSet.check`."""
        check_source(self.source, data.data_dir)


@dataclasses.dataclass(frozen=True)
class XsTest:
    """XSTest's prompts that sound alarming and are "safe" to answer, or their "unsafe" counterparts."""

    label: str

    def __post_init__(self):
        check_fields(self)
        if self.label not in ("safe", "unsafe"):
            raise InputError(f"label {self.label!r} is not safe or unsafe")

    def examples(self, n: int, data: EvalData) -> list[Example]:
        """See `ExampleSet.examples`."""
        rows = read_csv(data.folder / "xstest_prompts.csv", ["prompt", "label"])
        prompts = [row["prompt"] for row in rows if row["label"] == self.label]
        label = BENIGN if self.label == "safe" else MALICIOUS
        made = [_query(prompt, label, "xstest", f"{self.label}{i}") for i, prompt in enumerate(prompts)]
        return subsample(made, n, data.seed)

    def check(self, data: EvalData) -> None:
        """See `ExampleSet.check`."""
        self.examples(1, data)


class _Judged(TypedDict):
    prompt: str
    response: str
    is_safe: bool


@dataclasses.dataclass(frozen=True)
class Judged:
    """Answers that people have judged to be safe or not: BeaverTails' test split, answers of white space left out."""

    is_safe: bool

    def __post_init__(self):
        check_fields(self)

    def examples(self, n: int, data: EvalData) -> list[Example]:
        """See `ExampleSet.examples`."""
        label = BENIGN if self.is_safe else MALICIOUS
        made = [
            Example((Turn("user", row["prompt"]),), row["response"], None, label, False, "beavertails", str(number))
            for number, row in read_json_lines(self._file(data), _Judged)
            if row["is_safe"] == self.is_safe and row["response"].strip()
        ]
        return subsample(made, n, data.seed)

    def check(self, data: EvalData) -> None:
        """See `ExampleSet.check`."""
        check_file(self._file(data))

    def _file(self, data: EvalData) -> pathlib.Path:
        return data.folder / "beavertails_test.jsonl.gz"


def _labelled(query_label: int | None, response_label: int) -> Callable[[int], list[Example]]:
    def first(n: int) -> list[Example]:
        chosen = [e for e in embedded.embedded_examples("test", 4 * n) if e.response_label == response_label]
        return [e for e in chosen if query_label in (None, e.query_label)][:n]

    return first


EMBEDDED_PARTS: dict[str, Callable[[int], Sequence[Example]]] = {
    "benign": lambda n: embedded.embedded_benign("test", n),
    "lookalikes": lambda n: embedded.embedded_lookalikes("test", n),
    "unsafe": _labelled(None, MALICIOUS),
    "refusals": _labelled(MALICIOUS, BENIGN),
}
"""Parts of the embedded corpus' "test" split, of each the first n."""


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A part of the embedded corpus: benign questions, benign ones that sound alarming ("lookalikes"), unsafe answers,
    or refusals. The first ones, whatever the seed."""

    part: str

    def __post_init__(self):
        check_fields(self)
        if self.part not in EMBEDDED_PARTS:
            raise InputError(f"part {self.part!r} is not one of {', '.join(EMBEDDED_PARTS)}")

    def examples(self, n: int, data: EvalData) -> list[Example]:
        """See `ExampleSet.examples`."""
        return list(EMBEDDED_PARTS[self.part](n))

    def check(self, data: EvalData) -> None:
        """See `ExampleSet.check`: there are no files."""


EXAMPLE_SETS: dict[str, type[ExampleSet]] = {
    "goals": Goals,
    "held_out": HeldOut,
    "xstest": XsTest,
    "judged": Judged,
    "embedded": Embedded,
}
"""Sets by the name that a config calls them."""


@dataclasses.dataclass(frozen=True)
class Sample(Kinded):
    """Examples of a set: at most `n`; None: as many as the evaluation takes where nothing else is said."""

    KINDS = EXAMPLE_SETS

    source: ExampleSet
    n: int | None = None

    def __post_init__(self):
        check_fields(self, n=1)

    def examples(self, default: int, data: EvalData) -> list[Example]:
        """The examples; `default` where `n` is None."""
        return self.source.examples(default if self.n is None else self.n, data)


def _query(text: str, label: int, source: str, name: str) -> Example:
    return Example((Turn("user", text),), "", label, None, False, source, name)
