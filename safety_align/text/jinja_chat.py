"""Chat templates that come with a model (Jinja): rendered in a sandbox, taken apart into controls, text and content.

The template is rendered twice: with the conversation, and with a mark in place of each turn's text. The second tells
where the first has user text, so that only what the *template* wrote is searched for control tokens.
"""

import datetime
import json
import re
from collections.abc import Sequence

import jinja2
import jinja2.ext
import jinja2.sandbox
import numpy as np

from safety_align.errors import InputError
from safety_align.text.assemble import Part, assemble
from safety_align.text.chat import Prompt, Turn, check_turns

STEPS = 100_000
"""Turns of `range` loops that one rendering may take, and characters that it may write per character of the turns."""

_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")


class JinjaTemplate:
    """A model's own chat template; the same interface as `ChatTemplate`.

    Args:
      source: the template's text.
      variables: what it may read beside `messages` (`bos_token`, `eos_token`, …).

    Raises InputError for a template that does not parse.
    """

    name = "huggingface"

    def __init__(self, source: str, variables: dict[str, str]):
        self.source, self.variables = source, dict(variables)
        try:
            self._template = _Sandbox().from_string(source)
        except jinja2.TemplateError as error:
            raise InputError(f"the model's chat template does not parse: {error}") from error
        self.answer_prefix = self._answer_prefix()

    def encode(self, tokenizer, turns: Sequence[Turn], assistant_content: bool = True) -> Prompt:
        """Ids and content of a conversation that ends with the user's turn; as `ChatTemplate.encode`.

        Raises InputError if the template raises, runs away, or changes a turn's text (beyond white space around it).
        """
        check_turns(turns)
        return Prompt(*assemble(tokenizer, self._parts(tokenizer, turns, assistant_content)))

    def encode_response(self, tokenizer, text: str) -> np.ndarray:
        """Ids [R] int32 of an answer, without EOS."""
        return np.array(tokenizer.encode(self.answer_prefix + text), np.int32)

    def render(self, turns: Sequence[Turn], answer: bool = True) -> str:
        """What the template writes; `answer` opens the assistant's turn."""
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        limit = STEPS + 10 * sum(len(turn.text) for turn in turns)
        self._template.environment.steps = 0
        written: list[str] = []
        try:
            for piece in self._template.generate(
                messages=messages, add_generation_prompt=answer, tools=None, documents=None, **self.variables
            ):
                written.append(piece)
                if (limit := limit - len(piece)) < 0:
                    raise InputError("the model's chat template does not come to an end")
        except InputError:
            raise
        except Exception as error:  # templates raise what they like
            raise InputError(f"the model's chat template refuses this conversation: {error}") from error
        return "".join(written)

    def _parts(self, tokenizer, turns: Sequence[Turn], assistant_content: bool) -> list[Part]:
        if marked := [turn for turn in turns if _MARKS.search(turn.text)]:
            raise InputError(
                f"a turn holds U+E000 or U+E001, which this template handling reserves: {marked[0].text!r:.60}"
            )
        real = self.render(turns)
        bare, padded = (
            self.render([Turn(turn.role, pad + _MARK.format(i) + pad) for i, turn in enumerate(turns)])
            for pad in ("", " ")
        )
        fixed, loose = (_MARKS.split(text) for text in (bare, padded))
        if len(fixed) != len(loose):
            raise InputError("the model's chat template inspects white space in a turn; use a typed template")
        # pads[k]: whether white space survives before and after the k-th stretch that the template wrote.
        pads = [
            _kept_pads(*pair, k > 0, 2 * k < len(fixed) - 1)
            for k, pair in enumerate(zip(fixed[::2], loose[::2], strict=True))
        ]
        parts: list[Part] = _split_controls(tokenizer, fixed[0])
        for hole, (number, written) in enumerate(zip(fixed[1::2], fixed[2::2], strict=True)):
            turn = turns[int(number)]
            text = turn.text if pads[hole][1] else turn.text.lstrip()
            text = text if pads[hole + 1][0] else text.rstrip()
            parts.append((text, turn.role == "user" or (turn.role == "assistant" and assistant_content)))
            parts += _split_controls(tokenizer, written)
        names = {i: name for name, i in tokenizer.controls.items()}
        if "".join(names[part] if isinstance(part, int) else part[0] for part in parts) != real:
            raise InputError("the model's chat template rewrites the text of a turn; use a typed template")
        return parts

    def _answer_prefix(self) -> str:
        """White space between the opened answer and the answer's text."""
        user = Turn("user", _MARK.format(0))
        try:
            opened = self.render([user])
            full = self.render([user, Turn("assistant", _MARK.format(1))], answer=False)
        except InputError:
            return ""
        if not full.startswith(opened):
            return ""
        between = full[len(opened) :].partition(_MARK.format(1))[0]
        return between if between.isspace() else ""


def _kept_pads(bare: str, padded: str, after_hole: bool, before_hole: bool) -> tuple[bool, bool]:
    """Which pads of the neighbouring holes a stretch of template text kept."""
    for front in (after_hole, False):
        for back in (before_hole, False):
            if padded == " " * front + bare + " " * back:
                return front, back
    raise InputError("the model's chat template inspects white space in a turn; use a typed template")


def _split_controls(tokenizer, text: str) -> list[Part]:
    """Template text cut at the control tokens in it, the longest first."""
    if not text:
        return []
    names = sorted(tokenizer.controls, key=len, reverse=True)
    parts: list[Part] = []
    for piece in re.split("(" + "|".join(map(re.escape, names)) + ")", text):
        if piece in tokenizer.controls:
            parts.append(tokenizer.controls[piece])
        elif piece:
            parts.append((piece, False))
    return parts


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """No attributes of Python objects, no unbounded loops, no huge products."""

    intercepted_binops = frozenset(["*", "**"])

    def __init__(self):
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
        self.steps = 0
        self.globals |= {"range": self._range, "raise_exception": _raise, "strftime_now": _now}
        self.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)

    def _range(self, *arguments):
        found = range(*arguments)
        self.steps += len(found)
        if self.steps > STEPS:
            raise InputError("the model's chat template does not come to an end")
        return found

    def call_binop(self, context, operator, left, right):
        sizes = [len(x) for x in (left, right) if isinstance(x, (str, list, tuple))]
        counts = [x for x in (left, right) if isinstance(x, (int, float))]
        if operator == "**" or (sizes and counts and sizes[0] * counts[0] > STEPS):
            raise InputError("the model's chat template computes something too large")
        return super().call_binop(context, operator, left, right)


def _raise(message: str):
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
