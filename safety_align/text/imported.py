"""Tokenizers of published models: `tokenizer.json` (through tokenizers) and `tokenizer.model` (through sentencepiece).

Both are taken apart: control tokens are known here by their text, and the encoder below does not know them, so that no
text can become one. Templates place controls by `control_id`. Added tokens that are not special are vocabulary: text
that spells them is encoded to them, and answers keep them.
"""

import itertools
import pathlib
from collections.abc import Sequence

from safety_align.errors import InputError
from safety_align.text.backends import JsonBackend, SentencePieceBackend, Span
from safety_align.text.model_files import ModelFiles
from safety_align.text.tokenizer import Before, drop_spaces


class ImportedTokenizer:
    """Text ↔ ids of a published model; the same interface as `Tokenizer`.

    Text round-trips, but for U+2581 in SentencePiece models, which is how these write a space, and for what the model's
    own normaliser or added tokens change.

    Args:
      directory: a model directory with `tokenizer.json`, or else `tokenizer.model`.

    Attributes:
      controls: id of each control token by its text.
      strips: id of a control token → whether it takes the white space (before, behind) it.
      known: texts of all added tokens.
      missing: texts that the files call special, but that have no id.
      bos_id: or None.
      eos_ids: ids that end an answer; the first is `eos_id`, the tokenizer's own.
      prepends_space: encoding puts a space before a text that stands behind a control token.
      leading_space: spaces that decoding drops at the start.

    Raises InputError if there is neither, if it is not a BPE, if the files contradict one another, or if no end-of-text
    token is named.
    """

    def __init__(self, directory: str | pathlib.Path):
        self.files = ModelFiles(pathlib.Path(directory))
        if "tokenizer.json" in self.files.data:
            self._backend = JsonBackend(self.files)
        elif "tokenizer.model" in self.files.data:
            self._backend = SentencePieceBackend(self.files)
        else:
            raise InputError(f"{directory} has neither tokenizer.json nor tokenizer.model")
        # Where a LlamaTokenizer or a tokenizer.model does not name BOS and EOS, they have their usual names.
        self._names_all = "tokenizer.json" in self.files.data and self.files.rebuilt_as != "LlamaTokenizer"
        tokens, closed = self._backend.tokens, self._backend.closed
        if odd := [text for text in closed if tokens[text].single_word]:
            raise InputError(f"{directory}: control token {odd[0]!r} is for single words, which is not implemented")
        self.known = frozenset(tokens)
        self.missing = frozenset(self.files.specials - tokens.keys())
        self.controls: dict[str, int] = {text: tokens[text].id for text in sorted(closed)}
        self.strips = {
            token.id: (token.lstrip, token.rstrip)
            for text, token in tokens.items()
            if text in closed and (token.lstrip or token.rstrip)
        }
        self._control_ids = frozenset(self.controls.values())
        self._silent = frozenset(token.id for token in tokens.values() if token.special)
        self._pieces = self._backend.pieces
        self.vocab_size = 1 + max(max(self._pieces, default=0), max(self._control_ids, default=0))
        self.bos_id = self._part("bos_token", ("<s>", "<|begin_of_text|>"))
        ends = self.files.end_ids
        eos = self._part("eos_token", ("</s>", "<|end_of_text|>", "<|endoftext|>"))
        if eos is None and not ends:
            raise InputError(f"{directory}: no file names an eos_token or an eos_token_id")
        self.eos_id: int = ends[0] if eos is None else eos
        self.eos_ids = tuple(dict.fromkeys((self.eos_id, *ends)))
        pad = tokens.get(self.files.named.get("pad_token", ""))
        self.pad_id: int = self.eos_id if pad is None else pad.id
        self.leading_space = self._backend.leading_space
        self.prepends_space = self.piece_bytes(self.encode("x", "control")).startswith(b" ")

    @property
    def chat_template(self) -> str | None:
        """The model's own chat template (Jinja), or None."""
        return self.files.chat_template

    @property
    def named(self) -> dict[str, str]:
        """Text of each token that has a part ("eos_token", say): what a chat template may read."""
        guessed = {} if self._names_all else {"bos_token": self.bos_id, "eos_token": self.eos_id}
        texts = {number: text for text, number in self.controls.items()}
        found = {key: texts[number] for key, number in guessed.items() if number in texts}
        return found | self.files.named

    def _part(self, key: str, guesses: Sequence[str]) -> int | None:
        if key in self.files.named:
            return self.control_id(self.files.named[key])
        if key in self.files.silent:
            return None
        return next((self.controls[guess] for guess in guesses if guess in self.controls), None)

    def control_id(self, text: str) -> int:
        """The id of a control token."""
        if text not in self.controls:
            raise InputError(f"{text!r} is not a control token of this tokenizer ({self.files.directory})")
        return self.controls[text]

    def save(self, directory: str | pathlib.Path) -> None:
        """Copies the files it was made of into `directory`."""
        self.files.save(pathlib.Path(directory))

    def encode(self, text: str, before: Before = "control") -> list[int]:
        """Ids of `text`, none of them a control token."""
        return self.encode_spans(text, before)[0]

    def encode_spans(self, text: str, before: Before = "control") -> tuple[list[int], list[Span]]:
        """Ids, and the characters `[start, stop)` behind each."""
        text = text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
        ids: list[int] = []
        spans: list[Span] = []
        waiting = [(0, len(text), before)]
        while waiting:
            start, stop, what = waiting.pop()
            if start == stop:
                continue
            new, found = self._backend.encode(text[start:stop], what)
            found = [(a + start, b + start) for a, b in found]
            # Where a merge spells a control token, the text is cut inside it, and the pieces are encoded by themselves.
            hits = [span for i, span in zip(new, found, strict=True) if i in self._control_ids]
            if not hits:
                if self._backend.drops:
                    _check_covered(text, start, stop, found)
                ids += new
                spans += found
                continue
            if short := [(a, b) for a, b in hits if b - a < 2]:
                raise InputError(f"this tokenizer cannot encode {text[slice(*short[0])]!r} without a control token")
            cuts = [start, *((a + b) // 2 for a, b in hits), stop]
            waiting += [(a, b, "text" if a > start else what) for a, b in itertools.pairwise(cuts)][::-1]
        return ids, spans

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special ids are dropped, broken UTF-8 becomes U+FFFD, the model's own first space goes."""
        return drop_spaces(self.piece_bytes(ids), self.leading_space)[0].decode("utf-8", "replace")

    def piece_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes behind `ids`, special ids (and ids beyond the vocabulary) dropped."""
        return b"".join(self._pieces.get(i, b"") for i in ids if i not in self._silent)


def _check_covered(text: str, start: int, stop: int, spans: Sequence[Span]) -> None:
    """Raises InputError if part of `text[start:stop]` is in no token's span: neither the model nor a check would see
    it."""
    for begin, end in (*spans, (stop, stop)):
        if begin > start:
            raise InputError(
                f"this tokenizer has no token for some character of {text[max(0, start - 20) : stop]!r:.60}"
            )
        start = max(start, end)
