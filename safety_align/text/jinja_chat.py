"""Chat templates that come with a model (Jinja): rendered in a sandbox, taken apart into controls, text and content.

The template is rendered twice: with the conversation, and with a mark in place of each turn's text. The second tells
where the first has text of a turn, so that only what the *template* wrote is searched for control tokens, and that each
turn is there, once and whole.
"""

import collections
import json
import re
import secrets
from collections.abc import Iterator, Sequence

import numpy as np

from safety_align.errors import InputError
from safety_align.text.assemble import Part, assemble, encode_answer, encode_continuation, split_controls
from safety_align.text.budget import RunsAway, rendering, said
from safety_align.text.model_files import unknown_marks
from safety_align.text.sandbox import Sandbox
from safety_align.text.turns import Prompt, Turn, check_turns

_SPACE = re.compile(r"\s*")


class JinjaTemplate:
    """A model's own chat template; the same interface as `ChatTemplate`.

    Args:
      source: the template's text.
      variables: what it may read beside `messages` (`bos_token`, `eos_token`, …).

    Raises InputError for a template that does not parse, or runs away.
    """

    name = "huggingface"

    def __init__(self, source: str, variables: dict[str, str]):
        self.source, self.variables = source, dict(variables)
        self._template = Sandbox().compile_chat(source)
        self._opening, self.answer_prefix = self._open()

    def encode(self, tokenizer, turns: Sequence[Turn], assistant_content: bool = True) -> Prompt:
        """Ids and content of a conversation that ends with the user's or a tool's turn; as `ChatTemplate.encode`.

        Raises InputError if the template raises, runs away, leaves out or changes a turn's text (beyond white space
        around it), or writes a control token that the tokenizer does not have.
        """
        check_turns(turns)
        return Prompt(*assemble(tokenizer, self._parts(tokenizer, turns, assistant_content)))

    def encode_response(self, tokenizer, text: str) -> np.ndarray:
        """Ids [R] int32 of an answer, without EOS: those that it has behind a prompt of this template."""
        asked = [("x", True), *split_controls(tokenizer, self._opening)]
        return encode_answer(tokenizer, asked, self.answer_prefix, text)

    def encode_continuation(self, tokenizer, text: str) -> np.ndarray:
        """Ids [R] int32 of `text` behind an answer that already has text, from which a blank line parts it."""
        return encode_continuation(tokenizer, text)

    def render(self, turns: Sequence[Turn], answer: bool = True) -> str:
        """What the template writes; `answer` opens the assistant's turn."""
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        try:
            with rendering(sum(100 + len(turn.text) for turn in turns)):
                return self._template.render(
                    messages=messages, add_generation_prompt=answer, tools=None, documents=None, **self.variables
                )
        except InputError:
            raise
        except Exception as error:  # templates raise what they like
            raise InputError(f"the model's chat template refuses this conversation: {said(error)}") from None

    def _parts(self, tokenizer, turns: Sequence[Turn], assistant_content: bool) -> list[Part]:
        real = self.render(turns)
        written, numbers = self._taken_apart(turns)
        _check_numbers(turns, numbers)
        shown = _place(real, written, [turns[number].text for number in numbers])
        if shown is None:
            raise InputError("the model's chat template rewrites the text of a turn; use a typed template")
        if unknown := [mark for text in written for mark in unknown_marks(text, tokenizer)]:
            raise InputError(
                f"the model's chat template writes {unknown[0]!r}, which is no token of this tokenizer; "
                "its files do not fit one another"
            )
        parts = split_controls(tokenizer, written[0])
        for number, text, following in zip(numbers, shown, written[1:], strict=True):
            parts.append((text, turns[number].is_content(assistant_content)))
            parts += split_controls(tokenizer, following)
        return parts

    def _taken_apart(self, turns: Sequence[Turn], answer: bool = True) -> tuple[list[str], list[int]]:
        """What the template writes around the turns' texts (one more than these), and the turns in its order.

        A turn of nothing but white space has no mark: it may go, and a template may look whether it is empty.
        """
        mark = f"\ue000{secrets.randbits(64)}:{{}}\ue001"  # no text can guess it
        marked = [
            Turn(turn.role, mark.format(number) if turn.text.strip() else turn.text)
            for number, turn in enumerate(turns)
        ]
        pieces = re.split(mark.format(r"(\d+)"), self.render(marked, answer))
        return pieces[::2], [int(number) for number in pieces[1::2]]

    def _open(self) -> tuple[str, str]:
        """What opens an answer behind the user's text, and white space between that and the answer's text."""
        user = Turn("user", "x")
        try:
            opened, _ = self._taken_apart([user])
            full, _ = self._taken_apart([user, Turn("assistant", "x")], answer=False)
        except RunsAway:
            raise
        except InputError:
            return "", ""
        if len(opened) != 2 or len(full) != 3 or full[0] != opened[0] or not full[1].startswith(opened[1]):
            return opened[-1], ""
        between = full[1][len(opened[1]) :]
        return opened[1], between if between.isspace() else ""


def _check_numbers(turns: Sequence[Turn], numbers: list[int]) -> None:
    """Raises InputError unless each turn that says something stands there once, and the exchange is in order."""
    counts = collections.Counter(numbers)
    for number, turn in enumerate(turns):
        if (count := counts[number]) != 1 and turn.text.strip():
            what = f"writes turn {number} {count} times" if count else f"leaves out turn {number}"
            raise InputError(f"the model's chat template {what} (role {turn.role}); use a typed template")
    exchange = [number for number in numbers if turns[number].role != "system"]
    if exchange != sorted(exchange):
        raise InputError("the model's chat template changes the order of the turns; use a typed template")


def _place(real: str, written: list[str], texts: list[str]) -> list[str] | None:
    """How each text stands between the written pieces of `real`; None where they do not make it up."""
    reached: dict[int, tuple] = {len(written[0]): ()} if real.startswith(written[0]) else {}
    for text, following in zip(texts, written[1:], strict=True):
        further: dict[int, tuple] = {}
        for at, before in reached.items():
            for shown in _shown(real, at, text, following):
                further.setdefault(at + len(shown) + len(following), (before, shown))
        reached = further
    if (chain := reached.get(len(real))) is None:
        return None
    found: list[str] = []
    while chain:
        chain, shown = chain
        found.append(shown)
    return found[::-1]


def _shown(real: str, at: int, text: str, following: str) -> Iterator[str]:
    """The forms of `text` that stand at `at` in `real`, with `following` behind: less white space around it, or as a
    JSON string (what tools gave back)."""
    core = text.strip()
    lead, trail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    start = _SPACE.match(real, at).end()
    stop = start + len(core)
    if lead.endswith(real[at:start]) and real.startswith(core, start):
        spaces = _SPACE.match(real, stop).end() - stop
        # White space of the text ends where that of the following piece starts; only if this has no more, nobody knows.
        counts = (
            [spaces - _SPACE.match(following).end()] if following.strip() else range(min(spaces, len(trail)), -1, -1)
        )
        for count in counts:
            end = stop + count
            if 0 <= count <= len(trail) and real[stop:end] == trail[:count] and real.startswith(following, end):
                yield real[at:end]
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    if escaped != text and real.startswith(escaped + following, at):
        yield escaped
