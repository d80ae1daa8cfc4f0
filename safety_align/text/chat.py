"""Conversations → ids and spans. A template returns what is content (a `[CLS]` may read it) beside the ids.

A template is a list of pieces around each turn: control ids, or text that is encoded like any other. Only templates
place control ids; a user's text goes through `Tokenizer.encode`, which cannot.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from safety_align.errors import InputError
from safety_align.text.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")

Piece = int | str
"""A control id, or text."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn of a conversation; role is "system", "user" or "assistant"."""

    role: str
    text: str

    def __post_init__(self):
        if self.role not in ROLES:
            raise InputError(f"turn role {self.role!r} is not one of {', '.join(ROLES)}")


@dataclasses.dataclass(frozen=True)
class Prompt:
    """ids [P] int32, BOS first, ending where the answer starts; content [P] bool. There is no `[CLS]` in it."""

    ids: np.ndarray
    content: np.ndarray


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """Pieces before and after each turn's text.

    Attributes:
      name: its key in `TEMPLATES`.
      before, after: (system, user, assistant) pieces around a turn.
      answer: pieces that open the answer, after the last user turn.
    """

    name: str
    before: tuple[tuple[Piece, ...], tuple[Piece, ...], tuple[Piece, ...]]
    after: tuple[tuple[Piece, ...], tuple[Piece, ...], tuple[Piece, ...]]
    answer: tuple[Piece, ...]

    def encode(self, tokenizer: Tokenizer, turns: Sequence[Turn], assistant_content: bool = True) -> Prompt:
        """Ids and content of a conversation that ends with the user's turn.

        User turns are content; BOS, system turns and template pieces are auxiliary (Rule 4); earlier assistant turns
        are content if `assistant_content` [ours]. Each turn's text is encoded by itself, so a span is exact.
        """
        check_turns(turns)
        ids, content = [tokenizer.bos_id], [False]

        def add(new: Sequence[int], is_content: bool):
            ids.extend(new)
            content.extend([is_content] * len(new))

        for turn in turns:
            role = ROLES.index(turn.role)
            add(_encode_pieces(tokenizer, self.before[role]), False)
            add(tokenizer.encode(turn.text), turn.role == "user" or (turn.role == "assistant" and assistant_content))
            add(_encode_pieces(tokenizer, self.after[role]), False)
        add(_encode_pieces(tokenizer, self.answer), False)
        return Prompt(np.array(ids, np.int32), np.array(content, bool))

    def encode_response(self, tokenizer: Tokenizer, text: str) -> np.ndarray:
        """Ids [R] int32 of an answer, without EOS."""
        return np.array(tokenizer.encode(text), np.int32)


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


def _encode_pieces(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> list[int]:
    ids: list[int] = []
    for piece in pieces:
        ids.extend([piece] if isinstance(piece, int) else tokenizer.encode(piece))
    return ids


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
    )
}


def get_template(name: str) -> ChatTemplate:
    """The template of that name; an unknown name is an InputError."""
    if name not in TEMPLATES:
        raise InputError(f"chat template {name!r} is not one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
