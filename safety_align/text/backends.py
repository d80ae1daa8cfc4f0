"""The two encoders behind `ImportedTokenizer`: `tokenizer.json` (tokenizers) and `tokenizer.model` (sentencepiece).

A backend knows the vocabulary and the added tokens that are plain vocabulary. It does not know the control tokens, so
that no text can become one by its spelling.
"""

import json
import re
import secrets
from typing import Any, TypedDict

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from safety_align.errors import InputError
from safety_align.strict_json import check_type
from safety_align.text.model_files import AddedToken, Id, ModelFiles
from safety_align.text.tokenizer import Before, byte_alphabet

Span = tuple[int, int]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _Model(TypedDict):
    type: str
    vocab: dict[str, Id]


class _Json(TypedDict, total=False):
    added_tokens: list[AddedToken] | None
    model: dict[str, Any]


class JsonBackend:
    """`tokenizer.json` without its control tokens and post-processing.

    Attributes:
      tokens: all added tokens by text.
      closed: texts of those that are control tokens.
      pieces: bytes of each id.
      leading_space: how many spaces its decoder drops at the start.
      drops: whether it may silently drop a character, having neither all bytes nor a token for unknown ones.
    """

    def __init__(self, files: ModelFiles):
        path = files.directory / "tokenizer.json"
        saved = files.json("tokenizer.json", dict[str, Any])
        parts = _check_parts(saved, path)
        model = parts["model"]
        self.tokens = files.tokens(model["vocab"], parts["added_tokens"])
        self.closed = files.closed(self.tokens)
        byte_level = '"ByteLevel"' in json.dumps([saved.get(k) for k in ("normalizer", "pre_tokenizer", "decoder")])
        if files.rebuilt_as == "LlamaTokenizer" and not byte_level:
            saved = _as_llama(saved, files)
        elif files.rebuilt_as == "Qwen2Tokenizer" and byte_level:
            saved = _as_qwen2(saved, files)
        elif byte_level and _sets_byte_level_space(files):
            saved = _with_byte_level_space(saved, bool(files.config.get("add_prefix_space")))
        saved = saved | {"post_processor": None, "truncation": None, "padding": None}
        vocabulary = {piece: i for piece, i in model["vocab"].items() if piece not in self.closed}
        vocabulary |= {text: token.id for text, token in self.tokens.items()}
        self.pieces = (
            _byte_level_pieces(vocabulary) if byte_level else {i: _piece_bytes(p) for p, i in vocabulary.items()}
        )
        model = saved["model"]
        bytes_of = (
            byte_alphabet() if byte_level else [f"<0x{b:02X}>" for b in range(256)] * bool(model.get("byte_fallback"))
        )
        self.drops = not (bytes_of and model["vocab"].keys() >= set(bytes_of)) and model.get("unk_token") is None
        # A token that stands for "something is before this text"; no text can guess it.
        self._anchor = f"<{secrets.token_hex(16)}>"
        self._tokenizer = self._load(saved, path)
        self.leading_space = _stripped_spaces(saved.get("decoder"))
        bare = _without_spaces(saved)
        self._goes_on = self._load(bare, path) if bare != saved else self._tokenizer
        self._plain = frozenset(token.id for text, token in self.tokens.items() if text not in self.closed)

    def _load(self, saved: dict, path) -> tokenizers.Tokenizer:
        """Control tokens become place holders: `tokenizers` numbers added tokens by their order, not by their ids."""
        vocabulary = saved["model"]["vocab"]
        added, expected = [], {}
        for token in sorted(self.tokens.values(), key=lambda token: token.id or 0):
            if token.content not in self.closed:
                content = token.content
            elif token.content not in vocabulary:
                content = f"<{secrets.token_hex(16)}>"
            else:
                continue
            expected[content] = token.id
            normalized = not token.special if token.normalized is None else token.normalized
            flags = dict(single_word=token.single_word, lstrip=token.lstrip, rstrip=token.rstrip)
            added.append(
                dict(id=token.id, content=content, normalized=normalized and content == token.content, special=False)
                | flags
            )
        flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        last = 1 + max([*vocabulary.values(), *expected.values()], default=-1)
        added.append(dict(id=last, content=self._anchor) | flags)
        try:
            made = tokenizers.Tokenizer.from_str(json.dumps(saved | {"added_tokens": added}))
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(f"{path} is malformed: {error}") from error
        for content, number in expected.items():
            if (found := made.token_to_id(content)) != number:
                text = next(text for text, token in self.tokens.items() if token.id == number)
                raise InputError(f"{path}: added token {text!r} has id {number}, but the vocabulary goes on at {found}")
        return made

    def encode(self, text: str, before: Before) -> tuple[list[int], list[Span]]:
        """Ids and character spans of `text`."""
        shift = 0 if before == "nothing" else len(self._anchor)
        ids, spans = _encoded(self._tokenizer, self._anchor[:shift] + text, shift)
        if before != "text" or self._goes_on is self._tokenizer:
            return ids, spans
        # Up to the first added token, which starts anew, no space is put before the text.
        count = next((n for n, i in enumerate(ids) if i in self._plain), len(ids))
        stop = spans[count][0] if count < len(ids) else len(text)
        head, head_spans = _encoded(self._goes_on, self._anchor + text[:stop], len(self._anchor))
        return head + ids[count:], head_spans + spans[count:]


def _encoded(tokenizer: tokenizers.Tokenizer, text: str, shift: int) -> tuple[list[int], list[Span]]:
    found = tokenizer.encode(text, add_special_tokens=False)
    skip = 1 if shift else 0
    return found.ids[skip:], [(max(a - shift, 0), max(b - shift, 0)) for a, b in found.offsets[skip:]]


def _check_parts(saved: dict[str, Any], path) -> dict[str, Any]:
    """model (with a vocabulary of ids) and added_tokens of a `tokenizer.json`; InputError where they are not a BPE's."""
    parts = check_type({key: saved.get(key) for key in ("model", "added_tokens") if saved.get(key)}, _Json, str(path))
    kind = parts.get("model", {}).get("type")
    if kind != "BPE":
        raise InputError(f"{path}: model type {kind!r} is not implemented, only BPE")
    model = parts["model"]
    if affixes := [k for k in ("continuing_subword_prefix", "end_of_word_suffix") if model.get(k)]:
        raise InputError(f"{path}: {affixes[0]} {model[affixes[0]]!r} is not implemented")
    return {"model": check_type(model, _Model, f"{path}: model"), "added_tokens": parts.get("added_tokens") or []}


class SentencePieceBackend:
    """`tokenizer.model`; attributes as `JsonBackend`. Added tokens cut the text, as in `transformers`."""

    drops = False

    def __init__(self, files: ModelFiles):
        path = files.directory / "tokenizer.model"
        model = sentencepiece_model_pb2.ModelProto()
        try:
            model.ParseFromString(files.data["tokenizer.model"])
        except Exception as error:  # protobuf has errors of its own
            raise InputError(f"{path} is malformed: {error}") from error
        if model.trainer_spec.model_type != model.trainer_spec.BPE or not model.trainer_spec.byte_fallback:
            raise InputError(f"{path}: only BPE models with byte fallback are implemented")
        kinds = model.SentencePiece
        vocabulary = {piece.piece: i for i, piece in enumerate(model.pieces)}
        stored = [
            AddedToken(p.piece, i, special=p.type != kinds.USER_DEFINED, normalized=False)
            for i, p in enumerate(model.pieces)
            if p.type in (kinds.CONTROL, kinds.UNKNOWN, kinds.USER_DEFINED)
        ]
        self.tokens = files.tokens(vocabulary, stored)
        self.closed = files.closed(self.tokens)
        new = sorted((token.id, text) for text, token in self.tokens.items() if text not in vocabulary)
        for place, (number, text) in enumerate(new, len(model.pieces)):
            if number != place:
                raise InputError(f"{path}: added token {text!r} has id {number}, but the vocabulary goes on at {place}")
        self.pieces = {i: _piece_bytes(p.piece) for i, p in enumerate(model.pieces)}
        self.pieces |= {number: _piece_bytes(text) for number, text in new}
        for piece in model.pieces:
            if piece.type == kinds.USER_DEFINED:  # matched below, or no text may become it
                piece.type = kinds.UNUSED
        self._set_spaces(files, model)
        model.normalizer_spec.add_dummy_prefix = False
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        except Exception as error:  # as has sentencepiece
            raise InputError(f"{path} is malformed: {error}") from error
        self._plain = {text: token.id for text, token in self.tokens.items() if text not in self.closed}
        longest_first = sorted(self._plain, key=len, reverse=True)
        self._cut = re.compile("|".join(_pattern(self.tokens[text]) for text in longest_first) or "(?!)")

    def _set_spaces(self, files: ModelFiles, model) -> None:
        """Where a space is put before a text: before the first ("first"), or before each that is cut out ("always")."""
        llama = files.rebuilt_as == "LlamaTokenizer"
        legacy = files.config.get("legacy", not llama)
        if llama:
            prefix = files.config.get("add_prefix_space")
            adds, self._doubles = True if prefix is None else prefix, False
        else:
            adds, self._doubles = model.normalizer_spec.add_dummy_prefix, bool(legacy)
        self._scheme = "never" if not adds else "always" if legacy else "first"
        self.leading_space = int(adds)

    def encode(self, text: str, before: Before) -> tuple[list[int], list[Span]]:
        """Ids and character spans of `text`."""
        ids: list[int] = []
        spans: list[Span] = []
        at = 0
        for match in [*self._cut.finditer(text), None]:
            stop = match.start() if match else len(text)
            if at < stop:
                more, new = self._encode(text[at:stop], "control" if at else before)
                ids += more
                spans += [(a + at, b + at) for a, b in new]
            if match:
                ids.append(next(self._plain[t] for t in (match[0], match[0].strip()) if t in self._plain))
                spans.append(match.span())
                at = match.end()
        return ids, spans

    def _encode(self, text: str, before: Before) -> tuple[list[int], list[Span]]:
        wanted = before in {"always": ("nothing", "control"), "first": ("nothing",), "never": ()}[self._scheme]
        shift = int(wanted and (self._doubles or not text.startswith((" ", _SPACE))))
        pieces = self._processor.encode(" " * shift + text, return_type="proto").pieces
        # Offsets are bytes; `at[b]` is the character that byte b belongs to, or the next one where b begins one.
        at = [0] * shift + [i for i, c in enumerate(text) for _ in c.encode()] + [len(text)]
        spans = [(at[p.begin], at[p.end] if p.end > p.begin else at[p.begin]) for p in pieces]
        return [p.id for p in pieces], [(a, max(a + 1, b)) if a < len(text) else (a, b) for a, b in spans]


def _pattern(token: AddedToken) -> str:
    """What an added token matches in a text."""
    word = r"(?<!\w){}(?!\w)" if token.single_word else "{}"
    return r"\s*" * token.lstrip + word.format(re.escape(token.content)) + r"\s*" * token.rstrip


def _as_llama(saved: dict, files: ModelFiles) -> dict:
    """The spaces of `transformers`' LlamaTokenizer in place of the file's."""
    adds = files.config.get("add_prefix_space")
    adds = True if adds is None else adds
    scheme = "never" if not adds else "always" if files.config.get("legacy", False) else "first"
    decoder = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ] + [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] * adds
    return saved | {
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": scheme, "split": False},
        "decoder": {"type": "Sequence", "decoders": decoder},
        "model": saved["model"] | {"fuse_unk": True, "byte_fallback": True, "ignore_merges": False},
    }


def _as_qwen2(saved: dict, files: ModelFiles) -> dict:
    """The normalising and splitting of `transformers`' Qwen2Tokenizer in place of the file's."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": bool(files.config.get("add_prefix_space"))}
    byte_level |= {"trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": _QWEN2_SPLIT}, "behavior": "Isolated", "invert": False}
    return saved | {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "decoder": byte_level,
        "model": saved["model"] | {"unk_token": None, "byte_fallback": False, "ignore_merges": False},
    }


def _sets_byte_level_space(files: ModelFiles) -> bool:
    """Whether `transformers` takes `add_prefix_space` from the configuration, for tokenizers of GPT-2's kind."""
    name = (files.config.get("tokenizer_class") or "").removesuffix("Fast")
    return name in ("GPT2Tokenizer", "GPTNeoXTokenizer", "CohereTokenizer")


def _with_byte_level_space(node: Any, adds: bool) -> Any:
    return _mapped(node, lambda n: n | {"add_prefix_space": adds} if n.get("type") == "ByteLevel" else n)


def _without_spaces(saved: dict) -> dict:
    """`saved`, putting no space before any text."""

    def change(node: dict) -> dict:
        if node.get("type") == "Prepend":
            return {"type": "Sequence", "normalizers": []}
        if node.get("type") == "Metaspace" and (node.get("prepend_scheme") or "always") == "always":
            return {k: v for k, v in node.items() if k != "add_prefix_space"} | {"prepend_scheme": "never"}
        return node | {"add_prefix_space": False} if node.get("type") == "ByteLevel" else node

    return saved | {key: _mapped(saved.get(key), change) for key in ("normalizer", "pre_tokenizer")}


def _mapped(node: Any, change) -> Any:
    """A JSON value with `change` applied to each object in it."""
    if isinstance(node, list):
        return [_mapped(item, change) for item in node]
    if isinstance(node, dict) and "vocab" not in node:
        return change({key: _mapped(value, change) for key, value in node.items()})
    return node


def _stripped_spaces(decoder: dict | None) -> int:
    """How many spaces a decoder drops at the start of a text."""
    kind = (decoder or {}).get("type")
    if decoder is None or kind is None:
        return 0
    if kind == "Sequence":
        return sum(_stripped_spaces(part) for part in decoder.get("decoders") or [])
    if kind == "Metaspace":
        never = decoder.get("prepend_scheme") == "never" or decoder.get("add_prefix_space") is False
        return 0 if never else 1
    return decoder.get("start", 0) if kind == "Strip" and decoder.get("content") == " " else 0


def _byte_level_pieces(vocabulary: dict[str, int]) -> dict[int, bytes]:
    """Bytes of each id; a piece with a character that stands for no byte is text, as `tokenizers` decodes it."""
    alphabet = byte_alphabet()
    pieces = {}
    for piece, number in vocabulary.items():
        try:
            pieces[number] = bytes([alphabet[c] for c in piece])
        except KeyError:
            pieces[number] = piece.encode()
    return pieces


def _piece_bytes(piece: str) -> bytes:
    """The bytes of a SentencePiece piece."""
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(_SPACE, " ").encode()
