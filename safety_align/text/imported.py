"""Tokenizers of published models: `tokenizer.json` (through tokenizers) and `tokenizer.model` (through sentencepiece).

Both are taken apart: control tokens are known here by their text, and the encoder below does not know them, so that no
text can become one. Templates place controls by `control_id`.
"""

import json
import pathlib
import re
import secrets
from collections.abc import Sequence

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from safety_align.errors import InputError
from safety_align.text.tokenizer import byte_alphabet

Span = tuple[int, int]
FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")
"""What a model directory may say about text; `save` copies these."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"


class ImportedTokenizer:
    """Text ↔ ids of a published model; the same interface as `Tokenizer`.

    Text round-trips, but for U+2581 in SentencePiece models, which is how these write a space.

    Args:
      directory: a model directory with `tokenizer.json`, or else `tokenizer.model`.

    Raises InputError if there is neither, if it is not a BPE, or if no end-of-text token is named.
    """

    def __init__(self, directory: str | pathlib.Path):
        directory = pathlib.Path(directory)
        self._files = {name: (directory / name).read_bytes() for name in FILES if (directory / name).is_file()}
        self.settings = self._json("tokenizer_config.json")
        if "tokenizer.json" in self._files:
            self._backend = _JsonBackend(self._json("tokenizer.json"), directory / "tokenizer.json")
        elif "tokenizer.model" in self._files:
            self._backend = _SentencePieceBackend(self._files["tokenizer.model"], directory / "tokenizer.model")
        else:
            raise InputError(f"{directory} has neither tokenizer.json nor tokenizer.model")
        self.controls: dict[str, int] = dict(self._backend.controls)
        self.controls |= {v["content"]: int(i) for i, v in self.settings.get("added_tokens_decoder", {}).items()}
        self._control_ids = frozenset(self.controls.values())
        self._pieces = self._backend.pieces
        self.vocab_size = 1 + max(max(self._pieces, default=0), max(self._control_ids, default=0))
        self.bos_id = self._control("bos_token", ("<s>", "<|begin_of_text|>"))
        self.eos_id = self._control("eos_token", ("</s>", "<|end_of_text|>", "<|endoftext|>"))
        if self.eos_id is None:
            raise InputError(f"{directory}: tokenizer_config.json names no eos_token among the control tokens")
        pad = self._control("pad_token", ())
        self.pad_id = self.eos_id if pad is None else pad
        self.leading_space = self._backend.leading_space

    def _json(self, name: str) -> dict:
        try:
            return json.loads(self._files.get(name, b"{}"))
        except ValueError as error:
            raise InputError(f"{name} is malformed: {error}") from error

    def named(self, key: str) -> str | None:
        """The text of a token that tokenizer_config.json names ("eos_token", say)."""
        value = self.settings.get(key)
        return value.get("content") if isinstance(value, dict) else value

    @property
    def chat_template(self) -> str | None:
        """The model's own chat template (Jinja), or None."""
        if "chat_template.jinja" in self._files:
            return self._files["chat_template.jinja"].decode("utf-8", "replace")
        found = self.settings.get("chat_template")
        if isinstance(found, list):  # several, by name
            found = next((t.get("template") for t in found if t.get("name") == "default"), None)
        return found

    def _control(self, key: str, guesses: Sequence[str]) -> int | None:
        text = self.named(key)
        if text is not None:
            return self.control_id(text)
        return None if key in self.settings else next((self.controls[g] for g in guesses if g in self.controls), None)

    def control_id(self, text: str) -> int:
        """The id of a control token."""
        if text not in self.controls:
            raise InputError(f"{text!r} is not a control token of this tokenizer")
        return self.controls[text]

    def save(self, directory: str | pathlib.Path) -> None:
        """Copies the files it was made of into `directory`."""
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in self._files.items():
            (directory / name).write_bytes(data)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, none of them a control token."""
        return self.encode_spans(text)[0]

    def encode_spans(self, text: str, first: bool = False) -> tuple[list[int], list[Span]]:
        """Ids, and the characters `[start, stop)` behind each. `first`: nothing stands before the text, not even BOS."""
        text = text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
        if not text:
            return [], []
        ids, spans = self._backend.encode(text, first)
        if self._control_ids.isdisjoint(ids):
            return ids, spans
        # Some merge spells a control token. Cut the text inside its first one and encode both sides by themselves.
        start, stop = next(span for i, span in zip(ids, spans, strict=True) if i in self._control_ids)
        if stop - start < 2:
            raise InputError(f"this tokenizer cannot encode {text[start:stop]!r} without a control token")
        middle = (start + stop) // 2
        head, tail = self.encode_spans(text[:middle], first), self.encode_spans(text[middle:])
        return head[0] + tail[0], head[1] + [(a + middle, b + middle) for a, b in tail[1]]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; control ids are dropped, broken UTF-8 becomes U+FFFD, the model's own first space goes."""
        data = self.piece_bytes(ids)
        return data[self.leading_space and data.startswith(b" ") :].decode("utf-8", "replace")

    def piece_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes behind `ids`, control ids (and ids beyond the vocabulary) dropped."""
        return b"".join(self._pieces.get(i, b"") for i in ids if i not in self._control_ids)


class _JsonBackend:
    """`tokenizer.json` without its added tokens and post-processing."""

    def __init__(self, saved: dict, path: pathlib.Path):
        model = saved.get("model") or {}
        if model.get("type") != "BPE":
            raise InputError(f"{path}: model type {model.get('type')!r} is not implemented, only BPE")
        added = saved.get("added_tokens") or []
        self.controls = {token["content"]: token["id"] for token in added}
        if odd := [t["content"] for t in added if t.get("lstrip") or t.get("rstrip") or t.get("single_word")]:
            raise InputError(f"{path}: control token {odd[0]!r} strips its neighbours, which is not implemented")
        # A token that stands for "something is before this text"; no text can guess it.
        self._before = f"<{secrets.token_hex(16)}>"
        marker = 1 + max(list(self.controls.values()) + list(model["vocab"].values()))
        anchor = dict(
            id=marker,
            content=self._before,
            single_word=False,
            lstrip=False,
            rstrip=False,
            normalized=False,
            special=True,
        )
        stripped = saved | {"added_tokens": [anchor], "post_processor": None, "truncation": None, "padding": None}
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(stripped))
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(f"{path} is malformed: {error}") from error
        text = json.dumps([saved.get("normalizer"), saved.get("pre_tokenizer"), saved.get("decoder")])
        byte_level = '"ByteLevel"' in text
        self.leading_space = not byte_level
        vocab = ((piece, i) for piece, i in model["vocab"].items() if piece not in self.controls)
        if byte_level:
            alphabet = byte_alphabet()
            self.pieces = {
                i: bytes(alphabet[c] for c in piece) for piece, i in vocab if all(c in alphabet for c in piece)
            }
        else:
            self.pieces = {i: _piece_bytes(piece) for piece, i in vocab}

    def encode(self, text: str, first: bool) -> tuple[list[int], list[Span]]:
        shift = 0 if first else len(self._before)
        found = self._tokenizer.encode(text if first else self._before + text, add_special_tokens=False)
        skip = 0 if first else 1
        return found.ids[skip:], [(max(a - shift, 0), max(b - shift, 0)) for a, b in found.offsets[skip:]]


class _SentencePieceBackend:
    """`tokenizer.model`. A space is put before a text that nothing stands before, as `transformers` does."""

    leading_space = True

    def __init__(self, serialised: bytes, path: pathlib.Path):
        model = sentencepiece_model_pb2.ModelProto()
        try:
            model.ParseFromString(serialised)
            kinds = model.SentencePiece
            special = (kinds.CONTROL, kinds.UNKNOWN, kinds.USER_DEFINED)
            self.controls = {p.piece: i for i, p in enumerate(model.pieces) if p.type in special}
            if model.trainer_spec.model_type != model.trainer_spec.BPE or not model.trainer_spec.byte_fallback:
                raise InputError(f"{path}: only BPE models with byte fallback are implemented")
            self.pieces = {i: _piece_bytes(p.piece) for i, p in enumerate(model.pieces) if p.type not in special}
            for piece in model.pieces:
                if piece.type == kinds.USER_DEFINED:  # would be matched in any text
                    piece.type = kinds.UNUSED
            model.normalizer_spec.add_dummy_prefix = False
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        except InputError:
            raise
        except Exception as error:  # protobuf and sentencepiece raise errors of their own
            raise InputError(f"{path} is malformed: {error}") from error

    def encode(self, text: str, first: bool) -> tuple[list[int], list[Span]]:
        shift = int(first and not text.startswith(" "))
        pieces = self._processor.encode(" " * shift + text, return_type="proto").pieces
        # Offsets are bytes; `at[b]` is the character that byte b belongs to, or the next one where b begins one.
        at = [0] * shift + [i for i, c in enumerate(text) for _ in c.encode()] + [len(text)]
        spans = [(at[p.begin], at[p.end] if p.end > p.begin else at[p.begin]) for p in pieces]
        return [p.id for p in pieces], [(a, max(a + 1, b)) if a < len(text) else (a, b) for a, b in spans]


def _piece_bytes(piece: str) -> bytes:
    """The bytes of a SentencePiece piece."""
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(_SPACE, " ").encode()
