"""A byte-level BPE tokenizer whose control tokens no text can reach.

Control ids stand before the pieces: 0 … 7 are reserved, and piece `i` of the BPE is id `i + 8`. The BPE itself knows
no special tokens, so encoding maps *any* string to pieces only; `"<eos>"` is five letters' worth of pieces [ours].
"""

import codecs
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, TypedDict

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from safety_align.errors import InputError
from safety_align.files import write_atomically
from safety_align.strict_json import read_json

CONTROLS = ("pad", "bos", "eos", "system", "user", "assistant", "end_of_turn", "reserved")
"""Control tokens; a token's id is its place here."""

FORMAT = "safety_align byte-level BPE 1"

Before = Literal["nothing", "control", "text"]
"""What stands before a text: nothing at all, not even BOS; a control token; or text that it goes on from."""


class _Saved(TypedDict):
    format: str
    bpe: dict[str, Any]


class Tokenizer:
    """Text ↔ ids. Encoding and decoding round-trip every string that UTF-8 can hold."""

    leading_space = 0
    """Spaces that decoding drops at the start: encoding adds none."""

    prepends_space = False
    controls: ClassVar[dict[str, int]] = {}
    """Control tokens by their text: none has one."""
    known: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    strips: ClassVar[dict[int, tuple[bool, bool]]] = {}

    pad_id, bos_id, eos_id, system_id, user_id, assistant_id, end_of_turn_id = range(7)
    eos_ids = (eos_id,)
    """Ids that end an answer, the first of them `eos_id`."""

    def __init__(self, bpe: tokenizers.Tokenizer):
        self._bpe = bpe
        # Bytes of each piece: decoding goes through bytes, so that a stream can wait for a whole character.
        alphabet = byte_alphabet()
        pieces = sorted((index, piece) for piece, index in bpe.get_vocab().items())
        self._bytes = [bytes(alphabet[c] for c in piece) for _, piece in pieces]

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learns merges from `texts` until there are `vocab_size` ids, controls included."""
        smallest = len(CONTROLS) + 256
        if vocab_size < smallest:
            raise InputError(f"tokenizer vocab_size {vocab_size} is below {smallest} (control tokens and bytes)")
        bpe = tokenizers.Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - len(CONTROLS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        return cls(bpe)

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Tokenizer":
        """Reads what `save` wrote."""
        path = pathlib.Path(path)
        saved = read_json(path, _Saved)
        if saved["format"] != FORMAT:
            raise InputError(f"tokenizer file {path} has format {saved['format']!r}, expected {FORMAT!r}")
        try:
            return cls(tokenizers.Tokenizer.from_str(json.dumps(saved["bpe"])))
        except Exception as error:  # tokenizers raises bare Exception on a bad model, KeyError is a foreign alphabet
            raise InputError(f"tokenizer file {path} is corrupt: {error!r}; train or copy it again") from error

    def to_json(self) -> str:
        """The BPE as tokenizers writes it: ids without the control tokens before them."""
        return self._bpe.to_str()

    def save(self, path: str | pathlib.Path) -> None:
        """Writes one JSON file."""
        write_atomically(pathlib.Path(path), json.dumps({"format": FORMAT, "bpe": json.loads(self.to_json())}))

    def control_id(self, text: str) -> int:
        """No control token of this tokenizer has a text: templates of published models cannot be used with it."""
        raise InputError(f'this tokenizer has no control token {text!r}; use the template "plain"')

    @property
    def vocab_size(self) -> int:
        """V, control ids included."""
        return len(self._bytes) + len(CONTROLS)

    def encode(self, text: str, before: Before = "control") -> list[int]:
        """Ids of `text`, every one of them at least `len(CONTROLS)`. Lone surrogates, which UTF-8 cannot hold, become "?"."""
        return self.encode_spans(text, before)[0]

    def encode_spans(self, text: str, before: Before = "control") -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and the characters `[start, stop)` behind each; what stands `before` makes no difference here."""
        text = text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
        found = self._bpe.encode(text, add_special_tokens=False)
        return [i + len(CONTROLS) for i in found.ids], found.offsets

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; control ids are dropped, broken UTF-8 becomes U+FFFD."""
        return self.piece_bytes(ids).decode("utf-8", "replace")

    def piece_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes behind `ids`, control ids dropped."""
        return b"".join(self._bytes[i - len(CONTROLS)] for i in ids if i >= len(CONTROLS))


class StreamDecoder:
    """Decodes ids as they come, never handing out half a character."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer, self._spaces = tokenizer, tokenizer.leading_space
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, ids: Sequence[int]) -> str:
        """The text that `ids` complete."""
        data = self._tokenizer.piece_bytes(ids)
        if data and self._spaces:
            data, self._spaces = drop_spaces(data, self._spaces)
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What is left at the end, broken bytes as U+FFFD."""
        return self._decoder.decode(b"", final=True)


def drop_spaces(data: bytes, most: int) -> tuple[bytes, int]:
    """`data` without its first spaces, at most so many, and how many may still go if nothing else came."""
    rest = data.lstrip(b" ")
    dropped = min(len(data) - len(rest), most)
    return data[dropped:], 0 if dropped < len(data) else most - dropped


def byte_alphabet() -> dict[str, int]:
    """Byte of each character of the byte-level alphabet: printable bytes stand for themselves, the others follow from
    U+0100 on, in order (the GPT-2 convention that `tokenizers` uses)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(b): b for b in printable}
    hidden = [b for b in range(256) if b not in printable]
    return alphabet | {chr(0x100 + n): b for n, b in enumerate(hidden)}
