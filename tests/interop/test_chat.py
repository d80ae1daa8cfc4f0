"""Tokenizers and chat templates of published models: equal to `transformers`, with spans, and closed to user text."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from safety_align.errors import InputError
from safety_align.text import ImportedTokenizer, JinjaTemplate, StreamDecoder, Turn, get_template

transformers = pytest.importorskip("transformers", reason="transformers is in the test extra: pip install -e '.[test]'")

DATA = pathlib.Path(__file__).parents[2] / "../shared/data/checkpoints/llama2_tokenizer.model"
CORPUS = [
    "How do I bake bread? Mix flour, water and salt. system user assistant <|im_sta [INST] the they then 123 4567"
] * 50

LLAMA3_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Written for these tests, in the manner of the families' own.
LLAMA2_JINJA = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for m in rest %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system != false %}{% set text = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + m['content'] %}"
    "{% else %}{% set text = m['content'] %}{% endif %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}{% else %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
MISTRAL_JINJA = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}{{ bos_token }}{% for m in rest %}"
    "{% if m.role == 'user' %}{{ ' [INST] ' + (system if loop.first else '') + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3_JINJA = (
    "{% for m in messages %}{% set text = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim"
    " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATML_JINJA = (
    "{%- for m in messages %}\n    {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\n' }}\n{%- endif %}\n"
)
KINDS = {
    "llama3": (
        LLAMA3_JINJA,
        ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"],
    ),
    "chatml": (CHATML_JINJA, ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>"]),
}


def write_byte_level(directory: pathlib.Path, kind: str) -> None:
    """A byte-level BPE as Llama 3 and Qwen have it: a regex, a small vocabulary, added control tokens."""
    source, controls = KINDS[kind]
    bpe = tokenizers.Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    )
    bpe.add_special_tokens([tokenizers.AddedToken(text, normalized=False) for text in controls])
    names = dict(bos_token=controls[0], eos_token=controls[1]) if kind == "llama3" else dict(eos_token=controls[2])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=source, **names)
    fast.save_pretrained(directory)


def write_llama2(directory: pathlib.Path, as_json: bool, source: str = LLAMA2_JINJA) -> None:
    if not DATA.is_file():
        pytest.skip(f"the Llama-2 tokenizer is not at {DATA}")
    directory.mkdir()
    shutil.copy(DATA, directory / "tokenizer.model")
    settings = dict(tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>", chat_template=source)
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    if as_json:
        fast = transformers.LlamaTokenizer.from_pretrained(directory)
        shutil.rmtree(directory)
        fast.save_pretrained(directory)


@pytest.fixture(scope="module", params=["llama2_model", "llama2_json", "mistral_json", "llama3", "chatml"])
def model(request, tmp_path_factory):
    """(name of the typed template, directory, our tokenizer, theirs, the model's own template)."""
    directory = tmp_path_factory.mktemp("tokenizer") / request.param
    if request.param.startswith(("llama2", "mistral")):
        source = LLAMA2_JINJA if request.param.startswith("llama2") else MISTRAL_JINJA
        write_llama2(directory, request.param.endswith("json"), source)
    else:
        write_byte_level(directory, request.param)
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    ours = ImportedTokenizer(directory)
    names = {"bos_token": theirs.bos_token or "", "eos_token": theirs.eos_token}
    return request.param.partition("_")[0], directory, ours, theirs, JinjaTemplate(theirs.chat_template, names)


WORDS = [
    "Hello", "bake bread", "  spaces around ", "line\nbreak", "\n\nlines", "héllo ☃ 𝔸", "12345", "don't", "{{ 7 }}", "日本語",
    "a" * 40, "tab\there", "it.  Then", "[INST]", "<<SYS>>", "### Response:",
]  # fmt: skip


def conversations():
    rng = np.random.default_rng(0)

    def text(stripped=False):
        words = [WORDS[i] for i in rng.integers(len(WORDS) - 3, size=rng.integers(1, 4))]
        words = re.sub(" +", " ", " ".join(words))  # runs of spaces: see test_sentencepiece_…
        return words.strip() if stripped else words

    for turns in (1, 3, 5):
        for system in (False, True):
            for _ in range(8):
                made = [Turn("system", text(True))] if system else []
                made += [Turn(("user", "assistant")[i % 2], text()) for i in range(turns)]
                yield made


def test_ids_equal_those_of_transformers(model):
    typed, _, ours, theirs, own = model
    for turns in conversations():
        messages = [{"role": t.role, "content": t.text} for t in turns]
        expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        prompt = own.encode(ours, turns)
        assert prompt.ids.tolist() == expected
        assert get_template(typed).encode(ours, turns).ids.tolist() == expected
        np.testing.assert_array_equal(get_template(typed).encode(ours, turns).content, prompt.content)


def test_content_is_the_turns_and_nothing_else(model):
    _, _, ours, _, own = model
    for turns in conversations():
        prompt = own.encode(ours, turns)
        without = own.encode(ours, turns, assistant_content=False)
        read = ours.piece_bytes(prompt.ids[prompt.content].tolist()).decode()
        for turn in turns:
            assert turn.text.strip() in read
        spoken = "".join(t.text.strip() for t in turns)
        # A token may reach over the edge of a turn by white space; nothing of the template is in it.
        assert "".join(read.split()) == "".join(spoken.split())
        users = "".join(t.text for t in turns if t.role != "assistant")
        read = ours.piece_bytes(without.ids[without.content].tolist()).decode()
        assert "".join(read.split()) == "".join(users.split())


def hostile(ours, rng) -> str:
    """Control tokens' texts whole, cut, nested, repeated, among ordinary text."""
    names = [*ours.controls, "[INST]", "[/INST]", "<<SYS>>", "<0x0A>", " ", "\n", "é", "x", "<|", "|>", "</", "\ud800"]
    text = ""
    for _ in range(rng.integers(1, 6)):
        other = names[rng.integers(len(names))]
        if rng.random() < 0.3:
            other = other[: rng.integers(len(other) + 1)]
        at = rng.integers(len(text) + 1)
        text = text[:at] + other + text[at:]
    return text


@pytest.mark.slow
def test_hostile_text_never_becomes_a_control_token(model):
    """A hundred thousand strings per tokenizer: no control id, and the text comes back."""
    _, _, ours, _, _ = model
    rng, controls = np.random.default_rng(1), set(ours.controls.values())
    for _ in range(100_000):
        text = hostile(ours, rng)
        ids = ours.encode(text)
        assert controls.isdisjoint(ids)
        assert ours.piece_bytes(ids) == text.encode("utf-8", "replace")


def test_hostile_turns_change_nothing_of_the_template(model):
    typed, _, ours, _, own = model
    rng = np.random.default_rng(2)
    controls = list(ours.controls.values())
    for template in (own, get_template(typed)):
        bare = template.encode(ours, [Turn("user", "x")])
        for _ in range(300):
            text = hostile(ours, rng)
            if text.strip():
                ids = template.encode(ours, [Turn("user", text)]).ids
                assert [i for i in ids if i in controls] == [i for i in bare.ids if i in controls]


def test_streams_and_answers(model):
    _, _, ours, _, own = model
    for text in ["Sorry, I cannot.", "héllo ☃ 𝔸", "a\n b"]:
        ids = own.encode_response(ours, text).tolist()
        assert ours.decode(ids) == text
        stream = StreamDecoder(ours)
        assert "".join(stream.feed([i]) for i in ids) + stream.flush() == text


def test_a_copy_of_the_files_is_the_same_tokenizer(model, tmp_path):
    _, _, ours, _, _ = model
    ours.save(tmp_path / "copy")
    again = ImportedTokenizer(tmp_path / "copy")
    assert again.encode("bake bread") == ours.encode("bake bread")
    assert (again.controls, again.eos_id, again.bos_id, again.vocab_size) == (
        ours.controls, ours.eos_id, ours.bos_id, ours.vocab_size,
    )  # fmt: skip


def test_sentencepiece_text_is_encoded_as_sentencepiece_does(tmp_path):
    """`transformers` splits runs of spaces differently when it converts the file; the file's own library decides."""
    write_llama2(tmp_path / "model", as_json=False)
    ours = ImportedTokenizer(tmp_path / "model")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(DATA))
    rng = np.random.default_rng(3)
    for _ in range(500):
        text = " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=3)).lstrip()
        assert ours.encode_spans(text, before="nothing")[0] == reference.encode(text)


BAD = {
    "{{ raise_exception('no') }}": "refuses this conversation: no",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}": "does not come to an end",
    "{% for i in range(9999) %}{{ 'long text to write' * 99 }}{% endfor %}": "computes too much",
    "{{ 'x' * 999999999 }}": "too large",
    "{{ ''.__class__.__mro__ }}": "refuses this conversation",
    "{{ messages.append(1) }}": "refuses this conversation",
    "{{ messages[0].content | upper }}": "rewrites the text",
    "{{ undefined.field }}": "refuses this conversation",
}


@pytest.mark.parametrize("source", BAD)
def test_a_bad_template_is_an_error(source, tmp_path):
    write_byte_level(tmp_path / "model", "chatml")
    ours = ImportedTokenizer(tmp_path / "model")
    with pytest.raises(InputError, match=BAD[source]):
        JinjaTemplate(source, {}).encode(ours, [Turn("user", "hello")])
    with pytest.raises(InputError, match="does not parse"):
        JinjaTemplate("{% if %}", {})


def test_directories_without_a_usable_tokenizer(tmp_path):
    with pytest.raises(InputError, match="neither tokenizer.json nor tokenizer.model"):
        ImportedTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer.json is not JSON"):
        ImportedTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(InputError, match="Unigram"):
        ImportedTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.model").write_bytes(b"\xff\xff\xff")
    with pytest.raises(InputError, match=r"tokenizer.model is malformed|only BPE"):
        ImportedTokenizer(tmp_path)
