"""A guard model as a labeller: the probability that a text is unsafe, from any model that answers "safe" or "unsafe".

The text goes into the model's own chat template as the user's turn; Llama-Guard's template carries its taxonomy. The
verdict is read where the two answers' tokens first differ, from one forward pass.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.bundle import Bundle
from safety_align.errors import InputError
from safety_align.model import SafetyTransformer, TransformerConfig
from safety_align.placement import Batch, RowShape, Segment
from safety_align.sizes import check_rows
from safety_align.text import Turn

SHORTEST = 64
"""Tokens of a row: the least, and what it grows by."""


@functools.partial(jax.jit, static_argnums=0)
def _next_logits(config: TransformerConfig, params, inputs, last):
    """Next-token logits [B, V] after slot `last` [B] of each row."""

    def run(model):
        hidden, _ = model.hidden(*inputs)
        return model.lm_logits(jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0])

    return SafetyTransformer(config).apply({"params": params}, method=run)


class Guard:
    """Labels texts with one model.

    Args:
      bundle: the model; its safety signal, if it has one, is not used.
      safe, unsafe: the two answers, as the model writes them.
      max_length: longest prompt in tokens; a longer text is cut at its end.
      batch_size: rows of a forward pass.
    """

    def __init__(
        self, bundle: Bundle, safe: str = "safe", unsafe: str = "unsafe", max_length: int = 1024, batch_size: int = 32
    ):
        config = dataclasses.replace(bundle.model_config, safety_signal=False)
        self._bundle = dataclasses.replace(bundle, model_config=config)
        self._batch_size, self._max_length = batch_size, max_length
        check_rows(config, batch_size, SHORTEST, "a smaller batch_size")
        answers = [list(bundle.template.encode_response(bundle.tokenizer, answer)) for answer in (safe, unsafe)]
        shared = 0
        while shared < min(map(len, answers)) and answers[0][shared] == answers[1][shared]:
            shared += 1
        if shared == min(map(len, answers)):
            raise InputError(f"the answers {safe!r} and {unsafe!r} do not differ in their first tokens")
        self._shared, self._pair = np.array(answers[0][:shared], np.int32), [int(a[shared]) for a in answers]

    def probabilities(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Probability [N], float64, that each text is unsafe: of the two answers alone."""
        prompts = [self._prompt(text) for text in texts]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found = np.zeros(len(prompts))
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            found[chosen] = self._run([prompts[i] for i in chosen])
            if progress:
                progress(len(chosen))
        return found

    def _run(self, prompts: list[np.ndarray]) -> np.ndarray:
        length = -(-max(map(len, prompts)) // SHORTEST) * SHORTEST
        none = np.zeros(0, np.int32)
        rows = [[Segment(p, np.ones(len(p), bool), none, none.astype(bool))] for p in prompts]
        batch = Batch.of(rows, RowShape(length), self._batch_size)
        last = np.zeros(self._batch_size, np.int32)
        last[: len(prompts)] = [len(p) - 1 for p in prompts]
        model, params = self._bundle.model_config, self._bundle.params
        logits = np.asarray(_next_logits(model, params, batch.inputs, last))[: len(prompts), self._pair]
        return 1 / (1 + np.exp(logits[:, 0].astype(np.float64) - logits[:, 1]))

    def _prompt(self, text: str) -> np.ndarray:
        template, tokenizer = self._bundle.template, self._bundle.tokenizer
        while True:
            ids = template.encode(tokenizer, (Turn("user", text),)).ids
            excess = len(ids) + len(self._shared) - self._max_length
            if excess <= 0:
                return np.concatenate([ids, self._shared]).astype(np.int32)
            kept = tokenizer.encode(text)[: -max(excess, 1)]
            if not len(kept):
                raise InputError(f"the guard's prompt without any text is longer than max_length ({self._max_length})")
            text = tokenizer.decode(kept)
