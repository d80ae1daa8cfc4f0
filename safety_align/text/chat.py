"""Conversations → ids and spans. A template returns what is content (a `[CLS]` may read it) beside the ids.

A template is a list of pieces around each turn: control ids, or text that is encoded like any other. Only templates
place control ids; a user's text goes through `Tokenizer.encode`, which cannot.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from safety_align.errors import InputError
from safety_align.text.assemble import Part, assemble
from safety_align.text.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")


@dataclasses.dataclass(frozen=True)
class Control:
    """A control token by its text; its id is the tokenizer's."""

    text: str


Piece = int | str | Control
"""A control id of our own `Tokenizer`, text, or a control token by name."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn of a conversation; role is "system", "user" or "assistant".

    vouched: the operator wrote this system turn, and no `[CLS]` reads it; one that came with the request is content.
    """

    role: str
    text: str
    vouched: bool = False

    def __post_init__(self):
        if self.role not in ROLES:
            raise InputError(f"turn role {self.role!r} is not one of {', '.join(ROLES)}")
        if self.vouched and self.role != "system":
            raise InputError(f"the {self.role}'s turn is vouched for; vouched is for system turns only")


@dataclasses.dataclass(frozen=True)
class Prompt:
    """ids [P] int32, BOS first where the model has one, ending where the answer starts; content [P] bool. There is no
    `[CLS]` in it."""

    ids: np.ndarray
    content: np.ndarray


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

        User turns are content, and so is a system turn that nobody vouches for [ours]; BOS, the operator's system turn
        and template pieces are auxiliary (Rule 4); earlier assistant turns are content if `assistant_content` [ours].
        """
        check_turns(turns)
        parts: list[Part] = [tokenizer.bos_id] if self.begin is None else _resolve(tokenizer, self.begin)
        for number, turn in enumerate(turns):
            role = ROLES.index(turn.role)
            opened = self.system_opens and number == 1 and turns[0].role == "system"
            is_content = (
                turn.role == "user"
                or (turn.role == "assistant" and assistant_content)
                or (turn.role == "system" and not turn.vouched)
            )
            parts += [] if opened else _resolve(tokenizer, self.before[role])
            text = turn.text
            if self.strip and not (self.system_opens and turn.role == "system"):
                text = text.rstrip() if opened else text.strip()
            parts.append((text, is_content))
            parts += _resolve(tokenizer, self.after[role])
        return Prompt(*assemble(tokenizer, parts + _resolve(tokenizer, self.answer)))

    def encode_response(self, tokenizer, text: str) -> np.ndarray:
        """Ids [R] int32 of an answer, without EOS."""
        return np.array(tokenizer.encode(self.answer_prefix + text), np.int32)


def _resolve(tokenizer, pieces: Sequence[Piece]) -> list[Part]:
    """The parts that pieces are for this tokenizer."""
    return [
        (piece, False)
        if isinstance(piece, str)
        else piece
        if isinstance(piece, int)
        else tokenizer.control_id(piece.text)
        for piece in pieces
    ]


def check_turns(turns: Sequence[Turn]) -> None:
    """Raises InputError unless `turns` is a conversation that an answer can follow."""
    if not turns:
        raise InputError("the conversation is empty; give at least one user turn")
    if turns[-1].role != "user":
        raise InputError(f"the last turn is the {turns[-1].role}'s; an answer follows a user turn")
    for number, turn in enumerate(turns):
        if turn.role == "user" and not turn.text.strip():
            raise InputError(f"the prompt is empty (turn {number} of the conversation); give it some text")
        if turn.role == "system" and number:
            raise InputError(f"turn {number} is a system turn; only the first may be")


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
        # The authors' (method.md section 2): all text, system prompt and query in one instruction.
        ChatTemplate(
            name="llama2_authors",
            before=(("[INST] <<SYS>>\n",), ("### Instruction:\n",), ()),
            after=(("\n<</SYS>>\n\n",), ("\n\n### Response:\n",), (_T.eos_id, "\n\n")),
            answer=(" [/INST]",),
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
