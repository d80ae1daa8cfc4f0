"""TFDS builders over `specs`: ArrayRecord files, prepared and read without TensorFlow (a manual directory).

A source is prepared once, next to a fingerprint of its raw file, so a changed file is prepared anew. A preparation that
is interrupted leaves nothing that looks complete.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import pathlib
import shutil
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from safety_align.data import clear, examples, refusals, rewording, rows, specs
from safety_align.data.code import code_digest
from safety_align.data.examples import Example
from safety_align.data.specs import SPECS, is_held_out, source_examples
from safety_align.errors import InputError
from safety_align.files import make_directory, write_atomically
from safety_align.text import Turn

tfds.disable_progress_bar()
logging.getLogger("absl").setLevel(logging.ERROR)  # a notice for every custom builder config


class SafetyAlignConfig(tfds.core.BuilderConfig):
    """Which source to build, and what fraction of bad rows it may have."""

    def __init__(self, *, source: str, max_bad_fraction: float = 0.01, **kwargs):
        super().__init__(name=source, **kwargs)
        self.max_bad_fraction = max_bad_fraction


class SafetyAlign(tfds.core.GeneratorBasedBuilder):
    """Conversations with safety labels; one builder config for each file source."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The raw files; see `SPECS` in safety_align/data/specs.py for their names."

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        features = tfds.features.FeaturesDict(
            {
                "turns": text,  # JSON: [[role, text], …]
                "response": text,
                "query_label": np.int64,
                "response_label": np.int64,
                "train_lm": np.bool_,
                "id": text,
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, description=self.__doc__)

    def _split_generators(self, dl_manager):
        directory = pathlib.Path(dl_manager.manual_dir)
        return {split: self._generate_examples(directory, split == "test") for split in ("train", "test")}

    def _generate_examples(self, directory: pathlib.Path, held_out: bool):
        config = self.builder_config
        for example in source_examples(config.name, directory, config.max_bad_fraction, announce=not held_out):
            if is_held_out(example) == held_out:
                yield example.id, to_record(example)


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


class _Examples(Sequence):
    """Examples read from ArrayRecord on access. `fingerprint` changes with what they are."""

    def __init__(self, records, source: str, fingerprint: str):
        self._records, self._source, self.fingerprint = records, source, fingerprint

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)  # what ends an iteration; the records raise another error
        return from_record(self._records[int(index)], self._source)


def load(
    name: str, split: str, data_dir: pathlib.Path, cache_dir: pathlib.Path, max_bad_fraction: float
) -> Sequence[Example]:
    """Prepares source `name` if need be and opens one split; see `sources.load_source`."""
    raw = data_dir / SPECS[name].file
    if not raw.is_file():
        raise InputError(f"data file {raw} does not exist; put it there or set data.data_dir")
    with raw.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    mark = hashlib.sha256(f"{content} {max_bad_fraction} {_code()}".encode()).hexdigest()[:12]
    home = cache_dir / f"{name}-{mark}"
    builder = SafetyAlign(
        data_dir=str(home),
        config=SafetyAlignConfig(source=name, max_bad_fraction=max_bad_fraction),
        file_format=tfds.core.FileFormat.ARRAY_RECORD,
    )
    with _alone(cache_dir / f"{name}-{mark}.lock"):
        _prepare(builder, home, raw, data_dir)
        found = builder.as_data_source(split=split)
        fingerprint = _fingerprint(home / f"{split}.sha256", found)
    return _Examples(found, name, fingerprint)


def _code() -> str:
    """Of the modules that make examples of rows: what they prepared before they were changed is prepared anew."""
    modules = (clear, examples, refusals, rewording, rows, specs)
    return code_digest(__file__, *(module.__file__ for module in modules))


def _fingerprint(path: pathlib.Path, records) -> str:
    """A digest of all records in order, kept in `path`: the same wherever and however often they are prepared."""
    if path.is_file():
        return path.read_text("utf-8")
    digest = hashlib.sha256()
    for i in range(len(records)):
        digest.update(repr(from_record(records[i], "")).encode("utf-8", "surrogatepass"))
    write_atomically(path, digest.hexdigest())
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(lock: pathlib.Path):
    """The body runs in one process at a time: several processes of a run may share the cache."""
    make_directory(lock.parent, "cache_dir")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare(builder: SafetyAlign, home: pathlib.Path, raw: pathlib.Path, data_dir: pathlib.Path) -> None:
    if not builder.is_prepared():
        # TFDS writes into a directory of its own and renames it at the end; what an interruption left goes first.
        shutil.rmtree(home, ignore_errors=True)
        config = tfds.download.DownloadConfig(manual_dir=str(data_dir), compute_stats="skip")
        try:
            # TFDS announces itself on stdout, which belongs to the commands' results.
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(download_config=config)
        except InputError:
            shutil.rmtree(home, ignore_errors=True)
            raise
        except AssertionError as error:  # what TFDS says of a split without examples
            shutil.rmtree(home, ignore_errors=True)
            raise InputError(
                f"data file {raw} has too few rows for a train and a test split ({error}); add rows"
            ) from error
