"""One training example, and its encoding to a `routing.Segment`."""

import dataclasses

import numpy as np

from safety_align.errors import InputError
from safety_align.routing import Check, Kind, RoutingConfig, Segment, sample_checks
from safety_align.text import ChatTemplate, Prompt, Tokenizer, Turn

MALICIOUS, BENIGN = 1, 0


@dataclasses.dataclass(frozen=True)
class Example:
    """A conversation and its answer, with what is known of both.

    Attributes:
      turns: the conversation, ending with the user's turn; empty for plain text.
      response: the answer; "" for a query alone.
      query_label, response_label: 1 malicious, 0 benign, None unknown.
      train_lm: the answer counts in the LM loss; never true for an unsafe answer (method.md section 4).
      source: the name of its source.
      id: unique within the source.
      text_label: of plain text, a guard model's probability that it is unsafe (pretraining); None unknown.
    """

    turns: tuple[Turn, ...]
    response: str
    query_label: int | None
    response_label: int | None
    train_lm: bool
    source: str
    id: str
    text_label: float | None = None

    def __post_init__(self):
        if self.train_lm and self.response_label == MALICIOUS:
            raise InputError(f"example {self.source}/{self.id}: an unsafe answer may not enter the LM loss")
        if not self.turns and not self.response:
            raise InputError(f"example {self.source}/{self.id} is empty")

    @property
    def query(self) -> str:
        """The last user turn; "" for plain text."""
        return self.turns[-1].text if self.turns else ""


class TooLong(InputError):
    """The prompt alone does not fit."""


def encode_example(
    example: Example,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    max_length: int,
    routing: RoutingConfig | None,
    rng: np.random.Generator,
) -> Segment:
    """The example as a segment of at most `max_length` slots.

    A response that does not fit is cut (and then has no EOS); a prompt that leaves no room for an answer is `TooLong`.
    `rng` draws the windows. Without `routing` the segment has no `[CLS]`: plain SFT.
    """
    copies = _copies(example, routing)
    if example.turns:
        prompt = template.encode(tokenizer, example.turns)
    else:
        prompt = Prompt(np.zeros(0, np.int32), np.zeros(0, bool))
    room = max_length - copies - len(prompt.ids)
    if room < (8 if example.response else 0):
        raise TooLong(f"prompt of {len(prompt.ids)} tokens leaves no room in {max_length}")
    if example.turns:
        response = template.encode_response(tokenizer, example.response)
    else:
        response = np.array([tokenizer.bos_id, *tokenizer.encode(example.response)], np.int32)
    content = np.ones(len(response), bool)
    if not example.turns:
        content[0] = False  # BOS
    if example.response:
        response, content = np.append(response, tokenizer.eos_id), np.append(content, False)
    response, content = response[:room].astype(np.int32), content[:room]
    checks: tuple[Check, ...] = ()
    if copies and not example.turns:
        # Pretraining: sees all content, is seen by nothing (method.md section 3).
        checks = (Check(Kind.TEXT, 0, len(response), example.text_label),)
    elif copies:
        checks = sample_checks(
            rng, len(prompt.ids), int(content.sum()), example.query_label, example.response_label, routing
        )
    return Segment(prompt.ids, prompt.content, response, content, checks, example.train_lm and bool(example.response))


def _copies(example: Example, routing: RoutingConfig | None) -> int:
    """`[CLS]` copies of the example, at most."""
    if routing is None:
        return 0
    if not example.turns:
        return 1 if example.text_label is not None else 0
    return 1 + (routing.windows if example.response else 0)
