"""What a run is fed: the examples of its sources, evaluation prompts left out, and its tokenizer."""

import hashlib
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence

from safety_align import distributed
from safety_align.claims import read_mark
from safety_align.data.alone import with_alone
from safety_align.data.disguised import with_disguises
from safety_align.data.embedded import embedded_behaviors
from safety_align.data.examples import Example
from safety_align.data.labelled import read_labelled
from safety_align.data.leakage import drop_leaks, evaluation_prompts, leak_index, remembered_drop_leaks
from safety_align.data.own_answers import read_own_answers
from safety_align.data.passages import with_passages
from safety_align.data.pipeline import fixed_batches
from safety_align.data.sources import DERIVED, LABELLED, OWN_ANSWERS, load_source
from safety_align.data.specs import SPECS, is_held_out
from safety_align.data.stories import with_stories
from safety_align.data.suffixes import Suffix, of_split, read_suffixes, with_suffixes
from safety_align.data.system_turns import with_roles
from safety_align.errors import InputError
from safety_align.files import expanded, write_atomically
from safety_align.text import ImportedTokenizer, Tokenizer, load_tokenizer, save_tokenizer
from safety_align.text.files import IMPORTED
from safety_align.training.checkpoint import saved_steps
from safety_align.training.config import DataConfig, TrainConfig


def load_examples(config: TrainConfig, name: str, split: str, progress: bool = False) -> Sequence[Example]:
    """One source's "train" or "test" split, in the form and the turns that the config wants; `progress` says on stderr
    what was left out.

    A request is put into a story, and written otherwise, before it gets a suffix, and then a passage, which stay plain text; all go
    together into the turn where the request is to stand. An answer that stands alone has none of them.
    """
    data = config.data
    found = with_stories(_load(config, name, split, progress), data.stories)
    found = with_disguises(found, data.disguised)
    found = with_suffixes(found, data.suffixed, of_split(_suffixes(data), split))
    if data.passages:
        passages = _load(config, data.passages_from, split, progress=False)
        found = with_passages(found, data.passages, passages, data.passages_from)
    return with_alone(with_roles(found, data.roles), data.alone)


def _suffixes(data: DataConfig) -> list[Suffix]:
    """InputError for one that was found on an evaluation prompt: of the embedded corpus, and, with `drop_leaks`, of the files."""
    found = read_suffixes(data.suffixes)
    if found:
        tests = [behavior.goal for behavior in embedded_behaviors("test")]
        index = leak_index(tuple(evaluation_prompts(pathlib.Path(data.data_dir)))) if data.drop_leaks else None
        for suffix in found:
            if any(goal in suffix.goal for goal in tests) or (index and index.verdict(suffix.goal)):
                raise InputError(
                    f"data.suffixes: a suffix was found on {suffix.goal[:60]!r}, which is an evaluation prompt or nearly one; "
                    "attack other goals"
                )
    return found


def _load(config: TrainConfig, name: str, split: str, progress: bool) -> Sequence[Example]:
    data = config.data
    if name == LABELLED:
        return [e for e in read_labelled(data.labelled) if is_held_out(e) == (split == "test")]
    if name == OWN_ANSWERS:
        found = [e for e in read_own_answers(data.own_answers) if is_held_out(e) == (split == "test")]
        if split == "test" or not data.drop_leaks:
            return found
        kept, dropped = drop_leaks(found, leak_index(tuple(evaluation_prompts(pathlib.Path(data.data_dir)))))
        _say_dropped(name, dropped, len(found), progress)
        return [found[i] for i in kept]
    cache_dir = expanded(data.cache_dir, "data.cache_dir")
    found = load_source(
        name, split, data_dir=data.data_dir, cache_dir=cache_dir, max_bad_fraction=data.max_bad_fraction
    )
    from_file = name in SPECS or name in DERIVED
    if split == "test" or not (data.drop_leaks and from_file and len(found) and found[0].turns):
        return found
    prompts = evaluation_prompts(pathlib.Path(data.data_dir))
    kept, dropped = remembered_drop_leaks(found, found.fingerprint, prompts, cache_dir)
    _say_dropped(name, dropped, len(found), progress)
    return _Subset(found, kept)


def _say_dropped(name: str, dropped: Mapping[str, int], total: int, progress: bool) -> None:
    if dropped and progress:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(dropped.items()))
        print(
            f"{name}: left out {sum(dropped.values())} of {total} that match evaluation prompts ({counts})",
            file=sys.stderr,
        )


def validation_examples(config: TrainConfig, name: str) -> list[Example]:
    """The examples of one source that validate: the first of its "test" split."""
    examples = load_examples(config, name, "test")
    return [examples[i] for i in range(min(len(examples), config.data.validation_examples))]


def validation_batches(config: TrainConfig, held_out: Sequence[Example], tokenizer, template, progress: bool = False):
    """`held_out` packed into batches; `progress` says on stderr how many are left out."""
    batches, skipped = fixed_batches(held_out, config.pipeline, tokenizer, template, config.routing)
    if skipped and progress:
        slots = config.pipeline.sequence_length
        print(
            f"validation: {skipped} of {len(held_out)} examples do not fit in {slots} slots or cannot be encoded, left out",
            file=sys.stderr,
        )
    return batches


PROBES = 64
"""Examples of a source that stand for the code that makes them, where the source's files have a fingerprint."""


def claim_data(workdir: pathlib.Path, sources: Mapping[str, Sequence[Example]], begun: bool) -> None:
    """Notes in `workdir`/data.json what the run learns from; raises InputError, naming the source, if the run has `begun`
    with other examples. All processes call it together."""
    path = workdir / "data.json"
    ours = {name: _identity(examples) for name, examples in sources.items()}
    with distributed.main_first("data"):
        there = read_mark(path, "put it back, or start anew in another --workdir", dict[str, str]) or {}
        changed = sorted(name for name in ours if there.get(name, ours[name]) != ours[name])
        if changed and (begun or not distributed.is_main()):
            raise InputError(
                f"data source {changed[0]!r} is not what {workdir} has learned from so far (its file, the evaluation prompts that "
                "are left out, or the code that makes its examples changed); put the old state back, or start anew in another "
                "--workdir"
            )
        if distributed.is_main():
            write_atomically(path, json.dumps(ours, indent=2, sort_keys=True))


def _identity(examples: Sequence[Example]) -> str:
    """A digest of a source's examples, in order."""
    known = getattr(examples, "fingerprint", None)
    step = 1 if known is None else max(1, len(examples) // PROBES)
    digest = hashlib.sha256(f"{known} {len(examples)}".encode())
    for index in range(0, len(examples), step):
        digest.update(repr(examples[index]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def run_tokenizer(config: TrainConfig, workdir: pathlib.Path, sources, start_from) -> Tokenizer | ImportedTokenizer:
    """This run's tokenizer: the one in its workdir, else `init_from`'s, else trained on the sources.

    Raises InputError where it is gone though there are checkpoints: with another one they would mean nothing.
    """
    path = workdir / "tokenizer.json"
    if path.exists() or (workdir / IMPORTED).exists():
        tokenizer = load_tokenizer(workdir)
    elif saved_steps(workdir / "checkpoints"):
        raise InputError(f"{workdir} holds checkpoints but no tokenizer.json; put it back, or choose another --workdir")
    elif start_from is not None:
        tokenizer = start_from.tokenizer
        save_tokenizer(tokenizer, workdir)
    else:
        texts = (
            "\n".join([*(turn.text for turn in example.turns), example.response])
            for source in sources.values()
            for example in (source[i] for i in range(min(len(source), config.tokenizer_texts)))
        )
        tokenizer = Tokenizer.train(texts, config.model.vocab_size)
        tokenizer.save(path)
    if tokenizer.vocab_size > config.model.vocab_size:
        raise InputError(f"the tokenizer has {tokenizer.vocab_size} ids, model.vocab_size is {config.model.vocab_size}")
    return tokenizer


class _Subset(Sequence):
    """Some of a source's examples, still read on access."""

    def __init__(self, examples: Sequence[Example], indices: list[int]):
        self._examples, self._indices = examples, indices
        which = hashlib.sha256(repr(indices).encode()).hexdigest()[:16]
        self.fingerprint = f"{getattr(examples, 'fingerprint', '')} but {which}"

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Example:
        return self._examples[self._indices[index]]
