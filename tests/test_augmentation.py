"""The augmentation baseline as data, and the sources derived for both baselines."""

import dataclasses
import json

import numpy as np
import pytest

from safety_align.data.embedded import embedded_preferences
from safety_align.data.examples import MAX_UNSAFE_START, Example, encode_example
from safety_align.data.pipeline import Pipeline, PipelineConfig
from safety_align.data.refusals import REFUSAL_PREFIX
from safety_align.data.sources import load_source
from safety_align.data.specs import source_examples
from safety_align.errors import InputError
from safety_align.placement import Batch, RowShape
from safety_align.routing import Kind, RoutingConfig
from safety_align.text import Tokenizer, Turn, get_template

TEMPLATE = get_template("plain")
PREFERENCES = embedded_preferences("train", 90)
TOKENIZER = Tokenizer.train([text for e in PREFERENCES for text in (e.response, e.rejected)], 500)
EMBEDDED = dict(data_dir="", cache_dir="")


def augmented(query="How?", refusal="No, I will not.", unsafe="one two three four five six seven eight nine ten"):
    return Example((Turn("user", query),), refusal, 1, 0, True, "s", "0", unsafe_start=unsafe)


def test_an_unsafe_start_is_context_of_a_refusal_and_only_the_refusal_is_learned():
    example, lengths = augmented(), []
    refusal = [*TOKENIZER.encode(example.response), TOKENIZER.eos_id]
    unsafe = list(TOKENIZER.encode(example.unsafe_start))
    for seed in range(400):
        segment = encode_example(example, TOKENIZER, TEMPLATE, 128, None, np.random.default_rng(seed))
        k = segment.context
        assert list(segment.response) == unsafe[:k] + refusal
        row = Batch.of([[segment]], RowShape(128))
        assert list(row.targets[row.loss_weights > 0]) == refusal
        assert row.loss_weights.sum() == len(refusal)
        lengths.append(k)
    assert 0.4 < np.mean(np.array(lengths) == 0) < 0.6
    assert set(lengths) == set(range(len(unsafe) + 1))


def test_an_unsafe_start_is_no_longer_than_c_and_leaves_room_for_the_refusal():
    long = augmented(unsafe="word " * 400)
    refusal = len(TOKENIZER.encode(long.response)) + 1
    for length in (64, 400):
        segments = [
            encode_example(long, TOKENIZER, TEMPLATE, length, None, np.random.default_rng(i)) for i in range(60)
        ]
        assert all(s.length <= length and s.response[-1] == TOKENIZER.eos_id for s in segments)
        most = min(MAX_UNSAFE_START, length - len(segments[0].prompt) - refusal)
        assert most * 0.8 < max(s.context for s in segments) <= most


def test_epochs_draw_new_starts_and_no_unsafe_token_is_learned():
    examples = [augmented(f"Question {i}?", unsafe="unsafe " * 20) for i in range(6)]
    unsafe = TOKENIZER.encode(examples[0].unsafe_start)[1]
    config = PipelineConfig(96, 2, 0, (("a", 1.0),))
    pipeline = Pipeline(config, {"a": examples}, TOKENIZER, TEMPLATE, None)
    batches = [next(pipeline) for _ in range(6)]
    pipeline.close()
    counts: dict[str, set[int]] = {}
    for batch in batches:
        learned = batch.targets[batch.loss_weights > 0]
        assert len(learned) and unsafe not in learned
        for tokens, segments in zip(batch.tokens, batch.segments, strict=True):
            for n in range(1, segments.max() + 1):
                ids = tokens[segments == n]
                query = TOKENIZER.decode(ids).split("?")[0]
                counts.setdefault(query, set()).add(int((ids == unsafe).sum()))
    assert len(counts) == 6 and max(map(len, counts.values())) > 1


def test_with_the_signal_a_broken_off_answer_has_no_windows():
    routing = RoutingConfig(windows=2)
    for seed in range(20):
        segment = encode_example(augmented(), TOKENIZER, TEMPLATE, 128, routing, np.random.default_rng(seed))
        kinds = [check.kind for check in segment.checks]
        assert kinds[0] == Kind.QUERY and (len(kinds) == 1) == (segment.context > 0)


def test_a_second_answer_needs_a_conversation():
    with pytest.raises(InputError, match="second answer"):
        Example((), "text", None, None, True, "s", "0", unsafe_start="x")
    with pytest.raises(InputError, match="not both"):
        dataclasses.replace(augmented(), rejected="y")


def test_derived_sources_take_unsafe_answers_from_one_place_only(tmp_path):
    import gzip

    path = tmp_path / "raw" / "train" / "beavertails.jsonl.gz"
    path.parent.mkdir(parents=True)
    rows = [{"prompt": f"Question {i}?", "response": f"Answer {i}.", "is_safe": i % 3 == 0} for i in range(90)]
    with gzip.open(path, "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    options = dict(data_dir=tmp_path / "raw", cache_dir=tmp_path / "cache")
    unsafe = {e.query: e.response for e in source_examples("beavertails", tmp_path / "raw") if e.response_label == 1}
    for name, field in (("augmented", "unsafe_start"), ("preferred_refusals", "rejected")):
        found = [e for split in ("train", "test") for e in load_source(name, split, **options)]
        assert {e.query: getattr(e, field) for e in found} == unsafe
        assert all(e.source == name and e.response.startswith(REFUSAL_PREFIX) and e.train_lm for e in found)
        assert all(e.response_label == 0 for e in found)


def test_the_embedded_baselines_hold_no_held_out_goal():
    from safety_align.data.embedded import embedded_behaviors

    goals = [b.goal for b in embedded_behaviors("test")]
    for name in ("embedded_augmented", "embedded_preferences"):
        examples = load_source(name, "train", **EMBEDDED)
        text = "\n".join(f"{e.query} {e.response} {e.unsafe_start} {e.rejected}" for e in examples)
        assert not [goal for goal in goals if goal in text]
        assert all(e.response.startswith(REFUSAL_PREFIX) for e in examples if e.query_label == 1)
        benign = [e for e in examples if e.query_label == 0]
        assert all(e.rejected.startswith(REFUSAL_PREFIX) for e in benign) and bool(benign) == ("pref" in name)
