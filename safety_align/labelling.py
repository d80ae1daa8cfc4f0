"""Labelling plain text with a guard model: which passages, by whom, and where the labels go (data/labelled.py)."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
from tqdm import tqdm

from safety_align import distributed
from safety_align.data.examples import Example
from safety_align.data.labelled import PART, write_part
from safety_align.data.parts import part_path
from safety_align.data.sources import load_source
from safety_align.errors import InputError
from safety_align.fields import check_fields
from safety_align.files import expanded
from safety_align.guard import Guard


@dataclasses.dataclass(frozen=True)
class LabelConfig:
    """What to label.

    sources: (source, passages at most) pairs; data_dir, cache_dir: as in training; safe, unsafe: the guard's answers as
    it writes them; max_length, batch_size: of the guard's prompts.
    """

    sources: tuple[tuple[str, int], ...]
    data_dir: str
    cache_dir: str
    safe: str = "safe"
    unsafe: str = "unsafe"
    max_length: int = 1024
    batch_size: int = 32

    def __post_init__(self):
        check_fields(self, max_length=1, batch_size=1)
        if not self.sources or any(limit < 1 for _, limit in self.sources):
            raise InputError("label config: name at least one source, and of each how many passages, at least 1")


def to_label_config(values: dict[str, Any]) -> LabelConfig:
    """The typed config of a config file's values, whose sources are {source: passages}; InputError for what is none."""
    try:
        return LabelConfig(**values | {"sources": tuple(values["sources"].items())})
    except InputError:
        raise
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"the config is not a label config: {error}") from error


def passages(config: LabelConfig) -> list[Example]:
    """The plain text examples to label: of each source its "test" split, then "train", up to its limit."""
    chosen = []
    for name, limit in config.sources:
        splits = [
            load_source(name, split, data_dir=config.data_dir, cache_dir=expanded(config.cache_dir, "cache_dir"))
            for split in ("test", "train")
        ]
        found = [examples[i] for examples in splits for i in range(min(len(examples), limit))][:limit]
        if any(example.turns for example in found):
            raise InputError(f"source {name!r} holds conversations; plain text is labelled, as in text_imdb")
        chosen += found
    return chosen


def label(guard: Guard, texts: Sequence[Example], output: pathlib.Path) -> None:
    """Labels what `output` lacks of `texts`, each process its share; returns when all of it is there."""
    process, processes = jax.process_index(), jax.process_count()
    mine = range(process, -(-len(texts) // PART), processes)
    todo = {part: texts[part * PART : (part + 1) * PART] for part in mine if not part_path(output, part).is_file()}
    total = sum(map(len, todo.values()))
    with tqdm(total=total, desc="label", unit="passage", disable=not distributed.is_main(), file=sys.stderr) as bar:
        for part, examples in todo.items():
            probabilities = guard.probabilities([e.response for e in examples], bar.update)
            write_part(part_path(output, part), examples, probabilities)
    distributed.sync("labelled")
