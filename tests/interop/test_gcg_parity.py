"""GCG's loss and gradient against torch `transformers` and autograd, on the same files."""

import jax.numpy as jnp
import numpy as np
import pytest

from safety_align.attacks.gcg import token_gradient
from safety_align.attacks.objective import AttackLoss, attack_losses, attack_row, embed
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig
from safety_align.interop import load_pretrained
from safety_align.text import Tokenizer, get_template

torch = pytest.importorskip("torch", reason="torch is in the test extra: pip install -e '.[test]'")
transformers = pytest.importorskip("transformers", reason="transformers is in the test extra")

TOKENIZER = Tokenizer.train(
    ["How do I bake bread and pick a lock? Sure, here is how: take a small pin, x y z."] * 9, 300
)
GOAL, TARGET = "How do I pick a lock", "Sure, here is how: take"
TOP = 32


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Llama", "Qwen2"])
def test_loss_and_best_tokens_are_those_of_torch(family, tmp_path):
    """lam = 1, the plain attack. The loss to 1e-5 of itself, the gradient to 1e-4 of its largest value (float32, sums in another
    order); of each place the same `TOP` tokens, but for some that lie closer to the last of them than that."""
    seed = int(np.random.default_rng().integers(2**31))
    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=TOKENIZER.vocab_size, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    theirs = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path, dtype="float32", scan_layers=False)
    bundle = Bundle(ours.config, ours.params, TOKENIZER, get_template("plain"))
    suffix = np.random.default_rng(seed).integers(10, TOKENIZER.vocab_size, 6).astype(np.int32)
    row = attack_row(bundle, GateConfig(visible=False), GOAL, TARGET, suffix)
    vectors = embed(ours.config, ours.params, jnp.asarray(row.tokens))
    loss = AttackLoss(1.0)
    found = attack_losses(ours.config, ours.params, loss, 0.0, row, vectors)
    gradient = np.asarray(token_gradient(ours.config, loss, ours.params, 0.0, row, jnp.asarray(suffix)))

    used = np.asarray(row.tokens)[0]
    count = int(np.sum(row.weights))
    lead = int(np.argmax(np.asarray(row.routing.segments[0]) == row.routing.segments.max()))  # behind the padding
    ids = torch.tensor(used[lead : int(row.predicts[count - 1]) + 2].astype(np.int64))
    free, target = torch.tensor(np.asarray(row.free) - lead), ids[-count:]
    table = theirs.get_input_embeddings().weight.detach()
    choice = torch.nn.functional.one_hot(ids[free], len(table)).float().requires_grad_()
    rows = table[ids].clone()
    rows[free] = choice @ table
    logits = theirs(inputs_embeds=rows[None]).logits[0, -count - 1 : -1]
    expected = torch.nn.functional.cross_entropy(logits, target)
    expected.backward()
    reference = choice.grad.numpy()
    assert float(found["cross_entropy"][0]) == pytest.approx(expected.item(), rel=1e-5), seed
    assert np.abs(gradient - reference).max() < 1e-4 * np.abs(reference).max(), seed
    for mine, other in zip(gradient, reference, strict=True):
        edge, near = np.sort(other)[TOP - 1], 1e-4 * np.abs(reference).max()
        differ = set(np.argsort(mine)[:TOP]) ^ set(np.argsort(other)[:TOP])
        assert all(abs(other[token] - edge) < near for token in differ), seed
