"""One training example, and its encoding to a `routing.Segment`, or of two answers to a `routing.Pair`."""

import dataclasses

import numpy as np

from safety_align.errors import InputError
from safety_align.placement import Pair, Segment
from safety_align.routing import Check, Kind, RoutingConfig, sample_checks
from safety_align.text import ChatTemplate, Prompt, Tokenizer, Turn
from safety_align.text.budget import RunsAway

MALICIOUS, BENIGN = 1, 0

MAX_UNSAFE_START = 100
"""Tokens of an unsafe answer that stand before a refusal, at most (Qi et al. 2025: C = 100)."""


@dataclasses.dataclass(frozen=True)
class Example:
    """A conversation and its answer, with what is known of both.

    Attributes:
      turns: the conversation, ending with the user's turn; empty for plain text.
      response: the answer; "" for a query alone.
      query_label, response_label: 1 malicious, 0 benign, None unknown.
      train_lm: the answer counts in the LM loss; never true for one that is labelled unsafe (docs/method.md section 4). An
        attacker's sources, which label nothing, are kept apart by their names (`sources.ATTACKERS`).
      source: the name of its source.
      id: unique within the source.
      text_label: of plain text, a guard model's probability that it is unsafe (pretraining); None unknown.
      unsafe_start: an unsafe answer; some of its first tokens stand before `response`, as context (data augmentation).
      rejected: an answer that `response` is preferred to (DPO); never in the LM loss.
      reference: the reference model's summed log-probabilities of `response` and `rejected`, in nats; None unknown.
    """

    turns: tuple[Turn, ...]
    response: str
    query_label: int | None
    response_label: int | None
    train_lm: bool
    source: str
    id: str
    text_label: float | None = None
    unsafe_start: str = ""
    rejected: str = ""
    reference: tuple[float, float] | None = None

    def __post_init__(self):
        if self.train_lm and self.response_label == MALICIOUS:
            raise InputError(f"example {self.source}/{self.id}: an unsafe answer may not enter the LM loss")
        if not self.turns and not self.response:
            raise InputError(f"example {self.source}/{self.id} is empty")
        if (self.unsafe_start or self.rejected) and not (self.turns and self.response):
            raise InputError(f"example {self.source}/{self.id}: a second answer needs a conversation and an answer")
        if self.unsafe_start and self.rejected:
            raise InputError(f"example {self.source}/{self.id} is either augmented or a preference pair, not both")

    @property
    def query(self) -> str:
        """The last user turn; "" for plain text."""
        return self.turns[-1].text if self.turns else ""


class BadExample(InputError):
    """An example that this tokenizer or chat template cannot encode; it is left out."""


class TooLong(BadExample):
    """The prompt alone does not fit."""


def encode_example(
    example: Example,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    max_length: int,
    routing: RoutingConfig | None,
    rng: np.random.Generator,
) -> Segment | Pair:
    """The example as a segment of at most `max_length` slots; a preference as a pair, each side at most half of them.

    A response that does not fit is cut (and then has no EOS); a prompt that leaves no room for an answer is `TooLong`,
    what the template refuses or the tokenizer has no token for a `BadExample`.
    `rng` draws the windows, and how much of an unsafe start comes first. Without `routing` the segment has no `[CLS]`:
    plain SFT.
    """
    if example.rejected:
        chosen = dataclasses.replace(example, rejected="", reference=None)
        rejected = dataclasses.replace(chosen, response=example.rejected, response_label=None, train_lm=False)
        sides = [encode_example(e, tokenizer, template, max_length // 2, routing, rng) for e in (chosen, rejected)]
        return Pair(*sides, example.reference or (0.0, 0.0))
    copies = _copies(example, routing)
    beside = routing is not None and routing.beside
    prompt, response, start = _encode(example, tokenizer, template)
    room = max_length - (0 if beside else copies) - len(prompt.ids)
    if room < (8 if example.response else 0):
        raise TooLong(f"prompt of {len(prompt.ids)} tokens leaves no room in {max_length}")
    content = np.ones(len(response), bool)
    if not example.turns:
        content[0] = False  # BOS
    if example.response:
        response, content = np.append(response, tokenizer.eos_id), np.append(content, False)
    context = 0
    if example.unsafe_start:
        context = _start_length(rng, min(len(start), room - len(response)))
        response = np.concatenate([start[:context], response])
        content = np.concatenate([np.ones(context, bool), content])
    response, content = response[:room].astype(np.int32), content[:room]
    checks: tuple[Check, ...] = ()
    if copies and not example.turns:
        # Pretraining: sees all content, is seen by nothing (docs/method.md section 3).
        checks = (Check(Kind.TEXT, 0, len(response), example.text_label),)
    elif copies:
        # An answer that begins unsafe and then refuses is neither: no windows.
        label = None if context else example.response_label
        checks = sample_checks(rng, len(prompt.ids), int(content.sum()), example.query_label, label, routing)
    train_lm = example.train_lm and bool(example.response)
    return Segment(prompt.ids, prompt.content, response, content, checks, train_lm, context, beside)


def _encode(example: Example, tokenizer, template) -> tuple[Prompt, np.ndarray, np.ndarray]:
    """(prompt, ids of the answer, ids of the unsafe start); of plain text the answer is all of it, behind BOS."""
    try:
        if not example.turns:
            ids = np.array([tokenizer.bos_id, *tokenizer.encode(example.response)], np.int32)
            return Prompt(np.zeros(0, np.int32), np.zeros(0, bool)), ids, ids[:0]
        prompt = template.encode(tokenizer, example.turns)
        answer, start = (template.encode_response(tokenizer, text) for text in (example.response, example.unsafe_start))
        return prompt, answer, start
    except RunsAway:  # a matter of time too: a run must not depend on it
        raise
    except InputError as error:
        raise BadExample(f"example {example.source}/{example.id}: {error}") from error


def _start_length(rng: np.random.Generator, most: int) -> int:
    """How many tokens of an unsafe answer come first: none in half of the cases, else 1 to C uniformly (Qi et al. 2025,
    section 4). [ours] C is no more than `most`, what the answer has and the row has room for before a whole refusal."""
    most = min(most, MAX_UNSAFE_START)
    if most < 1 or rng.random() < 0.5:
        return 0
    return int(rng.integers(1, most + 1))


def _copies(example: Example, routing: RoutingConfig | None) -> int:
    """`[CLS]` copies of the example, at most."""
    if routing is None:
        return 0
    if not example.turns:
        return 1 if example.text_label is not None else 0
    return 1 + (routing.windows if example.response else 0)
