"""Against torch `transformers`: the same files, the same hidden states, logits and greedy text, for every family."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.special

from safety_align import placement
from safety_align.decoding import decode, prefill
from safety_align.decoding.decoder import CHUNK, Decoder
from safety_align.decoding.state import Layout, PromptBatch
from safety_align.interop import load_pretrained
from safety_align.model import SafetyTransformer
from safety_align.model.layers import Block
from safety_align.placement import RowShape, Segment

torch = pytest.importorskip("torch", reason="torch is in the test extra: pip install -e '.[test]'")
transformers = pytest.importorskip("transformers", reason="transformers is in the test extra")

SIZES = dict(
    vocab_size=211, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=8, head_dim=8,
    max_position_embeddings=256,
)  # fmt: skip
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=2.0, beta_slow=0.5)
CASES = {
    "llama_mha": ("Llama", dict(num_key_value_heads=8, rms_norm_eps=1e-5)),
    "llama_gqa_tied": ("Llama", dict(num_key_value_heads=2, tie_word_embeddings=True)),
    "llama_wide_heads": ("Llama", dict(num_key_value_heads=4, head_dim=16)),
    "llama3_rope": ("Llama", dict(num_key_value_heads=2, rope_theta=5e5, rope_scaling=LLAMA3)),
    "llama_linear_rope": ("Llama", dict(num_key_value_heads=1, rope_scaling=dict(rope_type="linear", factor=2.0))),
    "mistral": ("Mistral", dict(num_key_value_heads=2, sliding_window=None)),
    "mistral_window": ("Mistral", dict(num_key_value_heads=4, sliding_window=9)),
    "qwen2": ("Qwen2", dict(num_key_value_heads=2, rope_theta=1e6)),
    "qwen2_tied_mha_yarn": ("Qwen2", dict(num_key_value_heads=8, tie_word_embeddings=True, rope_scaling=YARN)),
    "qwen3": ("Qwen3", dict(num_key_value_heads=2, rope_theta=1e6, tie_word_embeddings=True)),
    "qwen3_window": (
        "Qwen3",
        dict(num_key_value_heads=4, use_sliding_window=True, sliding_window=7, max_window_layers=0),
    ),
}


@pytest.fixture(scope="module", params=CASES)
def model(request, tmp_path_factory):
    """(torch model, directory) of random weights, large enough that attention is far from uniform."""
    family, options = CASES[request.param]
    torch.manual_seed(sum(map(ord, request.param)))
    config = getattr(transformers, f"{family}Config")(**SIZES | options, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    config._attn_implementation = "eager"
    theirs = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            scale = 0.3 if "norm" in name or "bias" in name else 0.15
            parameter.add_(scale * torch.randn_like(parameter))
    directory = tmp_path_factory.mktemp("model") / request.param
    theirs.save_pretrained(directory)
    return theirs, directory


def forward(config, params, ids):
    """(hidden states after each block, logits) of one plain row through the unrolled model."""
    segment = Segment(ids, np.zeros(len(ids), bool), ids[:0], np.zeros(0, bool))
    batch = placement.Batch.of([[segment]], RowShape(len(ids)))
    output, seen = SafetyTransformer(config).apply(
        {"params": params}, *batch.inputs,
        capture_intermediates=lambda module, _: isinstance(module, Block),
    )  # fmt: skip
    blocks = [seen["intermediates"][f"layer_{i}"]["__call__"][0][0] for i in range(config.layers)]
    return [np.asarray(x[0]) for x in blocks], np.asarray(output.logits[0])


def relative(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def test_hidden_states_and_logits(model):
    """Float32: 1e-4 of the largest value, for sums in another order; positions shifted by one must not matter."""
    theirs, directory = model
    ids = np.random.default_rng(0).integers(3, SIZES["vocab_size"], 40)
    with torch.no_grad():
        expected = theirs(torch.tensor(ids[None]), output_hidden_states=True)
    loaded = load_pretrained(directory, dtype="float32", scan_layers=False)
    blocks, logits = forward(loaded.config, loaded.params, ids)
    # Their last entry is after the final norm; the one before it is our last block's input.
    for ours, reference in zip(blocks[:-1], expected.hidden_states[1:-1], strict=True):
        assert relative(ours, reference[0].numpy()) < 1e-4
    assert relative(logits, expected.logits[0].numpy()) < 1e-4


@pytest.mark.slow
def test_bfloat16_stays_close(model):
    """Against their float32, our bfloat16 is no farther than twice theirs (KL of the next-token distributions)."""
    theirs, directory = model
    ids = np.random.default_rng(1).integers(3, SIZES["vocab_size"], 32)
    with torch.no_grad():
        exact = theirs(torch.tensor(ids[None])).logits[0].double().log_softmax(-1).numpy()
        half = type(theirs).from_pretrained(directory, dtype=torch.bfloat16).eval()
        rounded = half(torch.tensor(ids[None])).logits[0].double().log_softmax(-1).numpy()
    loaded = load_pretrained(directory, dtype="bfloat16", scan_layers=False)
    logits = forward(loaded.config, loaded.params, ids)[1].astype(np.float64)
    ours = scipy.special.log_softmax(logits, axis=-1)

    def divergence(other):
        return (np.exp(exact) * (exact - other)).sum(-1).mean()

    assert 0 <= divergence(ours) < 2 * divergence(rounded) + 1e-4


@pytest.mark.slow
def test_greedy_text_is_equal(model):
    """64 tokens through prefill and cache, rows of different lengths in one batch, against `generate`."""
    theirs, directory = model
    rng = np.random.default_rng(2)
    prompts = [rng.integers(3, SIZES["vocab_size"], n) for n in (5, 17, 30)]
    loaded = load_pretrained(directory, dtype="float32", scan_layers=False)
    layout, rows = Layout(prompt=32, prefill=0, steps=64 + CHUNK), len(prompts)
    padded = np.zeros((rows, 32), np.int32)
    for row, ids in enumerate(prompts):
        padded[row, 32 - len(ids) :] = ids
    batch = PromptBatch(
        padded, padded > 0, np.array([len(p) for p in prompts], np.int32), np.zeros((rows, 0), np.int32),
        np.zeros(rows, np.int32), np.full(rows, 64, np.int32), *np.zeros((2, rows), np.float32), np.zeros(rows, np.int32),
        np.ones(rows, np.float32), np.zeros(rows, np.uint32), np.zeros(rows, np.uint32),
    )  # fmt: skip
    decoder = Decoder(loaded.config, None, (), (), eos=(-1,), layout=layout)
    state = decode(decoder, loaded.params, batch, prefill(decoder, loaded.params, batch))
    for row, ids in enumerate(prompts):
        with torch.no_grad():
            expected = theirs.generate(
                torch.tensor(ids[None]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=64, do_sample=False,
                eos_token_id=None,
            )  # fmt: skip
        ours = np.asarray(state.tokens[row])[np.asarray(state.rank[row]) >= 0]
        assert ours.tolist() == expected[0, len(ids) :].tolist()
    assert len({tuple(np.asarray(state.tokens[r]).tolist()) for r in range(rows)}) == rows


def test_scanned_and_unrolled_layouts_hold_the_same(model):
    _, directory = model
    scanned, flat = (load_pretrained(directory, scan_layers=scan) for scan in (True, False))
    for i in range(scanned.config.layers):
        for a, b in zip(
            jax.tree.leaves(jax.tree.map(lambda p, i=i: p[i], scanned.params["layers"]["block"])),
            jax.tree.leaves(flat.params[f"layer_{i}"]),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    assert dataclasses.replace(scanned.config, scan_layers=False) == flat.config
