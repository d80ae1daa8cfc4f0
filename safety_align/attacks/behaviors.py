"""Sets of harmful behaviours: the published files, and the embedded corpus."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Annotated, TypedDict

import msgspec
import numpy as np

from safety_align.attacks.training_goals import embedded_training, training_goals
from safety_align.data import embedded
from safety_align.data.behavior import Behavior
from safety_align.data.grammar import frames
from safety_align.data.rows import read_csv, read_text_lines
from safety_align.data.suffixes import EMBEDDED_TRAINING, TRAINING
from safety_align.errors import InputError
from safety_align.strict_json import read_json, read_json_lines

TEMPLATE_SLOT = "[INSERT PROMPT HERE]"
"""Where a template of GPTFuzzer has the goal."""


def read_templates(path: pathlib.Path) -> list[str]:
    """The column `text` of a CSV file of templates; InputError for one without `TEMPLATE_SLOT`."""
    templates = [row["text"] for row in read_csv(path, ("text",))]
    if missing := [text for text in templates if TEMPLATE_SLOT not in text]:
        raise InputError(f"{path}: a template lacks {TEMPLATE_SLOT!r}: {missing[0][:60]!r}")
    return templates


_Text = Annotated[str, msgspec.Meta(pattern=r"\S")]
"""Text that is not blank."""


def load_behaviors(name: str, data_dir: str, n: int, seed: int = 0) -> list[Behavior]:
    """At most `n` behaviours of the set `name`, a deterministic sample.

    Names: advbench, harmbench (and its parts harmbench_standard, harmbench_contextual, harmbench_copyright), malicious_instruct,
    deepinception, gcg, gptfuzzer (files below `data_dir`/eval); embedded, embedded_nested, embedded_suffix. To be trained
    against: training (malicious queries of the training files), embedded_training.
    """
    if name not in (*_LOADERS, TRAINING):
        raise InputError(f"behaviour set {name!r} is not one of {', '.join((*_LOADERS, TRAINING))}")
    folder = pathlib.Path(data_dir)
    behaviors = training_goals(folder, n, seed) if name == TRAINING else _LOADERS[name](folder / "eval")
    if not behaviors:
        raise InputError(f"behaviour set {name!r} below {data_dir} is empty")
    return behaviors if name == TRAINING else subsample(behaviors, n, seed)


def subsample(items: Sequence, n: int, seed: int = 0) -> list:
    """`n` items drawn without replacement, in their order; all if there are fewer."""
    if len(items) <= n:
        return list(items)
    return [items[i] for i in sorted(np.random.default_rng(seed).choice(len(items), n, replace=False))]


def _target(goal: str) -> str:
    return f"Sure, here is how to {goal[:1].lower()}{goal[1:].rstrip('.?! ')}"


def _advbench(folder: pathlib.Path) -> list[Behavior]:
    rows = read_csv(folder / "advbench.csv", ("goal", "target"))
    return [Behavior(r["goal"], r["target"], id=f"advbench{i}") for i, r in enumerate(rows)]


HARMBENCH = ("standard", "contextual", "copyright")
"""HarmBench's functional categories: a request alone, one behind a text, and one for a protected work."""


def _harmbench(folder: pathlib.Path, part: str | None = None) -> list[Behavior]:
    """All behaviours, or those of one of `HARMBENCH`."""
    targets = read_json(folder / "harmbench_targets.json", dict[str, str])
    made = []
    columns = ("Behavior", "BehaviorID", "SemanticCategory", *(("FunctionalCategory",) if part else ()))
    for row in read_csv(folder / "harmbench_behaviors.csv", columns):
        if part and row["FunctionalCategory"] != part:
            continue
        goal, context = row["Behavior"], row.get("ContextString")
        prompt = f"{context}\n\n{goal}" if context else goal
        made.append(
            Behavior(
                prompt, targets.get(row["BehaviorID"]) or _target(goal), row["SemanticCategory"], row["BehaviorID"]
            )
        )
    return made


def _malicious_instruct(folder: pathlib.Path) -> list[Behavior]:
    goals = read_text_lines(folder / "malicious_instruct.txt")
    return [Behavior(goal, _target(goal), id=f"malicious_instruct{i}") for i, goal in enumerate(goals)]


class _Nested(TypedDict):
    topic: _Text
    plain_attack: _Text
    inception_attack: _Text


def _deepinception(folder: pathlib.Path) -> list[Behavior]:
    rows = read_json(folder / "deepinception.json", list[_Nested])
    return [
        Behavior(r["plain_attack"], _target(r["plain_attack"]), r["topic"], f"deepinception{i}", r["inception_attack"])
        for i, r in enumerate(rows)
    ]


class _Suffixed(TypedDict):
    source_model: str
    goal: _Text
    target: _Text
    suffix: str


def _gcg(folder: pathlib.Path) -> list[Behavior]:
    rows = [row for _, row in read_json_lines(folder / "gcg_suffixes.jsonl.gz", _Suffixed)]
    return [
        Behavior(r["goal"], r["target"], r["source_model"], f"gcg{i}", f"{r['goal']} {r['suffix']}")
        for i, r in enumerate(rows)
    ]


def _gptfuzzer(folder: pathlib.Path) -> list[Behavior]:
    """AdvBench's goals, each in one of GPTFuzzer's templates, one template after the other."""
    templates = read_templates(folder / "gptfuzzer_templates.csv")
    return [
        dataclasses.replace(b, id=f"gptfuzzer{i}", prompt=templates[i % len(templates)].replace(TEMPLATE_SLOT, b.goal))
        for i, b in enumerate(_advbench(folder))
    ]


def _embedded(folder: pathlib.Path) -> list[Behavior]:
    # Asked for as a benign goal would be: the bare goal would give itself away by its form.
    asks = frames.ASK["test"]
    return [
        dataclasses.replace(b, goal=asks[i % len(asks)].format(goal=b.goal))
        for i, b in enumerate(embedded.embedded_behaviors("test"))
    ]


def _embedded_nested(folder: pathlib.Path) -> list[Behavior]:
    wraps = embedded.nested_wrappers("test")
    return [
        dataclasses.replace(b, id=f"nested{i}", prompt=wraps[i % len(wraps)].format(goal=b.goal))
        for i, b in enumerate(embedded.embedded_behaviors("test"))
    ]


def _embedded_suffix(folder: pathlib.Path) -> list[Behavior]:
    ends = embedded.suffixes("test")
    return [
        dataclasses.replace(b, id=f"suffix{i}", prompt=f"{b.goal} {ends[i % len(ends)]}")
        for i, b in enumerate(_embedded(folder))
    ]


_LOADERS = {
    "advbench": _advbench,
    "harmbench": _harmbench,
    **{f"harmbench_{part}": functools.partial(_harmbench, part=part) for part in HARMBENCH},
    "malicious_instruct": _malicious_instruct,
    "deepinception": _deepinception,
    "gcg": _gcg,
    "gptfuzzer": _gptfuzzer,
    "embedded": _embedded,
    "embedded_nested": _embedded_nested,
    "embedded_suffix": _embedded_suffix,
    EMBEDDED_TRAINING: lambda folder: embedded_training(),
}
