"""The tokenizer and the chat templates: nothing a user writes becomes a control token, and spans are exact."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety_align.errors import InputError
from safety_align.text import (
    TEMPLATES,
    ChatTemplate,
    StreamDecoder,
    Tokenizer,
    Turn,
    check_template_name,
    get_template,
    load_template,
)
from safety_align.text.tokenizer import CONTROLS, FORMAT

CORPUS = [
    "Tell me how to bake a loaf of bread.",
    "Sorry, I cannot fulfill your request because it is wrong. €uro ñ 漢字",
] * 20
TOKENIZER = Tokenizer.train(CORPUS, 400)

OWN = ("plain", "llama2_authors")  # templates that need no control token of a published model

SPECIAL = [f"<{name}>" for name in CONTROLS] + [f"<|{name}|>" for name in CONTROLS] + [
    "[CLS]", "[PAD]", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|endoftext|>",
    "### Response:", "### Instruction:", "-1", "\x00", "\u200b", "\ufeff", "\x7f",
]  # fmt: skip


def nested(rng) -> str:
    """Special texts inside one another, split, repeated."""
    text = SPECIAL[rng.integers(len(SPECIAL))]
    for _ in range(rng.integers(1, 5)):
        other, at = SPECIAL[rng.integers(len(SPECIAL))], rng.integers(len(text) + 1)
        text = text[:at] + other + text[at:]
    return text


@pytest.mark.parametrize("name", OWN)
def test_hostile_strings_never_become_control_tokens(name):
    rng, template = np.random.default_rng(0), get_template(name)
    bare = template.encode(TOKENIZER, [Turn("user", "x")])
    for text in [*SPECIAL, *(nested(rng) for _ in range(2000))]:
        ids = TOKENIZER.encode(text)
        assert min(ids) >= len(CONTROLS)
        assert TOKENIZER.decode(ids) == text
        if not text.strip():
            continue
        prompt = template.encode(TOKENIZER, [Turn("user", text)])
        assert TOKENIZER.decode(prompt.ids[prompt.content]) == text
        # What is not content is what the template itself puts there, whatever the text.
        np.testing.assert_array_equal(prompt.ids[~prompt.content], bare.ids[~bare.content])


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(max_examples=300, deadline=None)
def test_every_text_round_trips_whole_and_in_a_stream(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    stream = StreamDecoder(TOKENIZER)
    parts = [stream.feed([i]) for i in ids]
    assert "\ufffd" not in "".join(parts) or "\ufffd" in text
    assert "".join(parts) + stream.flush() == text


def test_lone_surrogates_do_not_crash():
    assert TOKENIZER.decode(TOKENIZER.encode("a\ud800b")) == "a?b"


def test_a_stream_cut_inside_a_character_says_so_at_the_end():
    ids = TOKENIZER.encode("𐍈")
    stream = StreamDecoder(TOKENIZER)
    assert len(ids) > 1 and stream.feed(ids[:-1]) == ""
    assert "\ufffd" in stream.flush()


def test_spans_of_a_conversation():
    talk = [Turn("user", "Hello"), Turn("assistant", "Hi"), Turn("user", "Bake bread")]
    for name in OWN:
        template = get_template(name)
        for vouched in (True, False):
            turns = [Turn("system", "Be kind.", vouched), *talk]
            prompt = template.encode(TOKENIZER, turns)
            read = "" if vouched else "Be kind."
            # A token may reach over the edge of a turn by a space.
            assert TOKENIZER.decode(prompt.ids[prompt.content]).replace(" ", "") == (read + "HelloHiBakebread").replace(
                " ", ""
            )
            users_only = template.encode(TOKENIZER, turns, assistant_content=False)
            np.testing.assert_array_equal(prompt.ids, users_only.ids)
            assert TOKENIZER.decode(users_only.ids[users_only.content]) == read + "HelloBake bread"
            assert prompt.ids[0] == TOKENIZER.bos_id and not prompt.content[0]


def test_the_authors_template_reads_as_published():
    asked = "### Instruction:\nQ\n\n### Response:\n [/INST]"
    template = get_template("llama2_authors")
    for turns, text in (
        ([Turn("system", "S"), Turn("user", "Q")], "[INST] <<SYS>>\nS\n<</SYS>>\n\n" + asked),
        ([Turn("user", "Q")], "[INST] " + asked),
        ([Turn("user", "Q"), Turn("assistant", "A"), Turn("user", "Q")], f"[INST] {asked} A\n\n[INST] {asked}"),
    ):
        assert TOKENIZER.decode(template.encode(TOKENIZER, turns).ids) == text


@pytest.mark.parametrize("name", OWN)
def test_a_longer_refusal_goes_on_from_the_refusal(name):
    template, refusal = get_template(name), "Sorry, I cannot fulfill your request because"
    start = template.encode_response(TOKENIZER, refusal).tolist()
    assert template.encode_response(TOKENIZER, refusal + " it is harmful.").tolist()[: len(start)] == start
    behind = template.encode_continuation(TOKENIZER, refusal).tolist()
    assert TOKENIZER.decode(behind) == "\n\n" + refusal


@pytest.mark.parametrize(
    "turns, message",
    [
        ([], "empty"),
        ([Turn("user", "  \n")], "prompt is empty"),
        ([Turn("user", "a"), Turn("assistant", "b")], "assistant"),
        ([Turn("user", "a"), Turn("system", "b"), Turn("user", "c")], "system"),
        ([Turn("system", "a")], "system"),
        ([Turn("tool", "a")], "no user turn"),
        ([Turn("user", "a"), Turn("assistant", "b"), Turn("tool", "c")], "'plain' has no place for turn 2, a tool's"),
    ],
)
def test_conversations_that_no_answer_can_follow_are_refused(turns, message):
    template: ChatTemplate = get_template("plain")
    with pytest.raises(InputError, match=message):
        template.encode(TOKENIZER, turns)


def test_saved_tokenizers_are_the_same_and_broken_files_are_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    loaded = Tokenizer.load(path)
    assert loaded.encode(CORPUS[1]) == TOKENIZER.encode(CORPUS[1]) and loaded.vocab_size == TOKENIZER.vocab_size
    foreign = json.dumps({"format": FORMAT, "bpe": {"model": {"type": "BPE", "vocab": {"\u2581": 0}, "merges": []}}})
    for damage in ("", "{}", "[" * 5000, "[1]", '{"format": 1, "bpe": {}}', path.read_text()[:-40], foreign):
        path.write_text(damage)
        with pytest.raises(InputError, match=r"tokenizer\.json"):
            Tokenizer.load(path)
    with pytest.raises(InputError, match="does not exist"):
        Tokenizer.load(tmp_path / "none.json")


def test_bad_names_and_sizes():
    with pytest.raises(InputError, match="robot"):
        Turn("robot", "x")
    with pytest.raises(InputError, match="vouched"):
        Turn("user", "x", vouched=True)
    with pytest.raises(InputError, match="plain"):
        get_template("none")
    with pytest.raises(InputError, match="plain.*huggingface"):
        check_template_name("none")
    with pytest.raises(InputError, match="plain.*huggingface"):
        load_template("none", TOKENIZER)
    for name in (*TEMPLATES, "huggingface"):
        check_template_name(name)
    with pytest.raises(InputError, match="vocab_size"):
        Tokenizer.train(CORPUS, 100)
