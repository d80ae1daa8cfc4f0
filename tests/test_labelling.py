"""Labelling plain text: which passages, and parts that are made once."""

import numpy as np
import pytest

from safety_align.data.labelled import PART, read_labelled
from safety_align.errors import InputError
from safety_align.files import write_atomically
from safety_align.labelling import label, passages, to_label_config


class Counted:
    """A guard that takes long texts for unsafe, and says how many it was asked."""

    def __init__(self):
        self.asked = 0

    def probabilities(self, texts, progress):
        self.asked += len(texts)
        progress(len(texts))
        return np.array([min(len(text) / 1000, 1.0) for text in texts])


def config(tmp_path, **sources):
    return to_label_config(dict(sources=sources, data_dir="", cache_dir=str(tmp_path / "cache")))


def test_passages_are_labelled_once_and_in_order(tmp_path):
    texts = passages(config(tmp_path, embedded_text=PART + 7))
    assert len(texts) == PART + 7 and len({example.id for example in texts}) == len(texts)
    output = tmp_path / "labels"
    output.mkdir()
    guard = Counted()
    label(guard, texts, output)
    (output / "part-00001.jsonl.gz").unlink()  # as an interruption leaves it
    label(guard, texts, output)
    assert guard.asked == PART + 7 + 7
    write_atomically(output / "about.json", f'{{"passages": {PART + 7}}}')
    found = read_labelled(output)
    assert [example.response for example in found] == [example.response for example in texts]
    assert all(abs(e.text_label - min(len(e.response) / 1000, 1)) < 1e-6 for e in found)


def test_what_cannot_be_labelled_is_named(tmp_path):
    with pytest.raises(InputError, match="'embedded' holds conversations"):
        passages(config(tmp_path, embedded=3))
    with pytest.raises(InputError, match="at least one source"):
        config(tmp_path)
    with pytest.raises(InputError, match="not a label config"):
        to_label_config({"data_dir": ""})
