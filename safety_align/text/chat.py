"""Conversations → ids and spans. A template returns what is content (a `[CLS]` may read it) beside the ids.

A template is a list of pieces around each turn: control ids, or text that is encoded like any other. Only templates
place control ids; a user's text goes through `Tokenizer.encode`, which cannot.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from safety_align.errors import InputError
from safety_align.text.assemble import Part, assemble, encode_answer, encode_continuation, split_controls
from safety_align.text.tokenizer import Tokenizer
from safety_align.text.turns import Prompt, Turn, check_turns

ROLES = ("system", "user", "assistant")
"""Roles that a typed template has a place for, in the order of its pieces."""


@dataclasses.dataclass(frozen=True)
class Control:
    """A control token by its text; its id is the tokenizer's."""

    text: str


EOS = Control("")
"""The token that ends an answer, whatever its text."""

Piece = int | str | Control
"""A control id of our own `Tokenizer`, text, or a control token by name."""


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """Pieces before and after each turn's text.

    Attributes:
      name: its key in `TEMPLATES`.
      before, after: (system, user, assistant) pieces around a turn.
      answer: pieces that open the answer, after the last user turn.
      begin: opens the conversation; None is the tokenizer's BOS.
      strip: white space around a turn's text is dropped.
      system_opens: a system turn already opens the first user turn, whose own opening pieces are left out; the two are
        stripped as one text.
      answer_prefix: text that an answer starts with, joined to it ("" or " ").
    """

    name: str
    before: tuple[tuple[Piece, ...], tuple[Piece, ...], tuple[Piece, ...]]
    after: tuple[tuple[Piece, ...], tuple[Piece, ...], tuple[Piece, ...]]
    answer: tuple[Piece, ...]
    begin: tuple[Piece, ...] | None = None
    strip: bool = False
    system_opens: bool = False
    answer_prefix: str = ""

    def encode(self, tokenizer, turns: Sequence[Turn], assistant_content: bool = True) -> Prompt:
        """Ids and content of a conversation that ends with the user's turn.

        User turns and system turns that the operator does not vouch for are content, and so are earlier assistant turns
        if `assistant_content` [ours]; BOS, the operator's system turn and template pieces are auxiliary (Rule 4).
        """
        check_turns(turns)
        parts: list[Part] = [tokenizer.bos_id] if self.begin is None else self._resolve(tokenizer, self.begin)
        for number, turn in enumerate(turns):
            if turn.role not in ROLES:
                raise InputError(f"chat template {self.name!r} has no place for turn {number}, a {turn.role}'s")
            role = ROLES.index(turn.role)
            opened = self.system_opens and number == 1 and (turns[0].role, turn.role) == ("system", "user")
            parts += [] if opened else self._resolve(tokenizer, self.before[role])
            text = turn.text
            if self.strip and not (self.system_opens and turn.role == "system"):
                text = text.rstrip() if opened else text.strip()
            parts.append((text, turn.is_content(assistant_content)))
            parts += self._resolve(tokenizer, self.after[role])
        return Prompt(*assemble(tokenizer, parts + self._resolve(tokenizer, self.answer)))

    def check(self, tokenizer) -> None:
        """Raises InputError if the tokenizer lacks a control token of this template."""
        for pieces in (self.begin or (), *self.before, *self.after, self.answer):
            self._resolve(tokenizer, pieces)

    def encode_response(self, tokenizer, text: str) -> np.ndarray:
        """Ids [R] int32 of an answer, without EOS: those that it has behind a prompt of this template."""
        asked = [("x", True), *self._resolve(tokenizer, (*self.after[ROLES.index("user")], *self.answer))]
        return encode_answer(tokenizer, asked, self.answer_prefix, text)

    def encode_continuation(self, tokenizer, text: str) -> np.ndarray:
        """Ids [R] int32 of `text` behind an answer that already has text, from which a blank line parts it."""
        return encode_continuation(tokenizer, text)

    def _resolve(self, tokenizer, pieces: Sequence[Piece]) -> list[Part]:
        """The parts that pieces are for this tokenizer."""
        parts: list[Part] = []
        for piece in pieces:
            if isinstance(piece, str):
                parts += split_controls(tokenizer, piece)
            elif isinstance(piece, Control):
                parts.append(tokenizer.eos_id if piece is EOS else tokenizer.control_id(piece.text))
            elif isinstance(tokenizer, Tokenizer):
                parts.append(piece)
            else:
                raise InputError(
                    f"chat template {self.name!r} is for this project's own tokenizer, not a published one"
                )
        return parts


_T = Tokenizer

TEMPLATES = {
    template.name: template
    for template in (
        # The small models' own: roles are control tokens, no text around them.
        ChatTemplate(
            name="plain",
            before=((_T.system_id,), (_T.user_id,), (_T.assistant_id,)),
            after=((_T.end_of_turn_id,),) * 3,
            answer=(_T.assistant_id,),
        ),
        # The authors' (docs/method.md section 2): all text, system prompt and query in one instruction.
        ChatTemplate(
            name="llama2_authors",
            before=(("[INST] <<SYS>>\n",), ("[INST] ### Instruction:\n",), (" ",)),
            after=(("\n<</SYS>>\n\n### Instruction:\n",), ("\n\n### Response:\n [/INST]",), (EOS, "\n\n")),
            answer=(),
            system_opens=True,
            answer_prefix=" ",
        ),
        # The families' own, for models that come without a chat template.
        ChatTemplate(
            name="llama2",
            before=(("[INST] <<SYS>>\n",), ("[INST] ",), (" ",)),
            after=(("\n<</SYS>>\n\n",), (" [/INST]",), (" ", Control("</s>"), Control("<s>"))),
            answer=(),
            strip=True,
            system_opens=True,
            answer_prefix=" ",
        ),
        ChatTemplate(
            name="mistral",
            before=((" [INST] ",), (" [INST] ",), (" ",)),
            after=(("\n\n",), (" [/INST]",), (Control("</s>"),)),
            answer=(),
            system_opens=True,
            answer_prefix=" ",
        ),
        ChatTemplate(
            name="llama3",
            before=tuple(
                (Control("<|start_header_id|>"), role, Control("<|end_header_id|>"), "\n\n") for role in ROLES
            ),
            after=((Control("<|eot_id|>"),),) * 3,
            answer=(Control("<|start_header_id|>"), "assistant", Control("<|end_header_id|>"), "\n\n"),
            strip=True,
        ),
        ChatTemplate(
            name="chatml",
            before=tuple((Control("<|im_start|>"), f"{role}\n") for role in ROLES),
            after=((Control("<|im_end|>"), "\n"),) * 3,
            answer=(Control("<|im_start|>"), "assistant\n"),
            begin=(),
        ),
    )
}


def get_template(name: str) -> ChatTemplate:
    """The template of that name; an unknown name is an InputError."""
    if name not in TEMPLATES:
        raise InputError(f"chat template {name!r} is not one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
