"""What a model directory says about its tokenizer, in eight files, with the precedence that `transformers` 5 has.

`tokenizer_config.json` names tokens and lists the added ones; where it has no `added_tokens_decoder`, the older
`special_tokens_map.json` and `added_tokens.json` count, and the former wins. `tokenizer.json` carries added tokens of its
own. `generation_config.json`, else `config.json`, says which ids end an answer. Chat templates in files of their own
come before those in `tokenizer_config.json`.
"""

import pathlib
import re
from typing import Annotated, Any, TypedDict

import msgspec

from safety_align.errors import InputError
from safety_align.files import read_bytes
from safety_align.strict_json import check_type, parse_json

FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "generation_config.json", "config.json", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
TEMPLATES = "additional_chat_templates"
"""Folder of further chat templates, one a file, by name."""

Id = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Number = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}$")]
_MARK = re.compile(r"<\|[^|<>\s]+\|>|<｜[^｜<>\s]+｜>")
"""The form of a control token. Only what is one can look so in a chat template (but see `ROLE_MARKS`)."""
ROLE_MARKS = frozenset({"<|system|>", "<|user|>", "<|assistant|>"})
"""Zephyr and TinyLlama were trained with these as text."""


class AddedToken(msgspec.Struct):
    """A token beside the vocabulary's own, as `tokenizers` writes it."""

    content: Annotated[str, msgspec.Meta(min_length=1)]
    id: Id | None = None
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool | None = None
    special: bool = False


class _Config(TypedDict, total=False):
    added_tokens_decoder: dict[_Number, AddedToken]
    additional_special_tokens: list[str | AddedToken] | None
    extra_special_tokens: list[str | AddedToken] | dict[str, str | AddedToken] | None
    chat_template: str | list[dict[str, str]] | dict[str, str] | None
    add_prefix_space: bool | None
    legacy: bool | None
    tokenizer_class: str | None


class _Ends(TypedDict, total=False):
    eos_token_id: Id | list[Id] | None
    model_type: str | None


class ModelFiles:
    """The files of a directory that `FILES` names, and what they say.

    Attributes:
      data: their bytes by name.
      named: text of the tokens that have a part ("bos_token", say).
      silent: keys that the configuration holds with no token.
      added: added tokens outside `tokenizer.json`, by text.
      specials: texts of tokens that are called special.
      end_ids: ids that end an answer, as generation is configured; may be empty.
    """

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.data = {name: read_bytes(directory / name) for name in FILES if (directory / name).exists()}
        for path in sorted((directory / TEMPLATES).glob("*.jinja")):
            self.data[f"{TEMPLATES}/{path.name}"] = read_bytes(path)
        config = self.json("tokenizer_config.json", dict[str, Any])
        older = "added_tokens_decoder" not in config
        if older:
            config |= self.json("special_tokens_map.json", dict[str, Any])
        where = str(directory / "tokenizer_config.json")
        self.config: _Config = check_type(config, _Config, where)
        self.added: dict[str, AddedToken] = {}
        for number, token in self.config.get("added_tokens_decoder", {}).items():
            token.id = int(number)
            self.added[token.content] = token
        parts = {
            key: check_type(value, str | AddedToken | None, f"{where}: {key}")
            for key, value in config.items()
            if key.endswith("_token") and not isinstance(value, bool)
        }
        self.silent = {key for key, value in parts.items() if value is None}
        self.named = {key: text for key, value in parts.items() if value is not None and (text := _text(value))}
        # As in transformers, additional_special_tokens is the older name of extra_special_tokens.
        further = self.config.get("extra_special_tokens") or self.config.get("additional_special_tokens") or []
        further = list(further.values()) if isinstance(further, dict) else further
        self.specials = {*self.named.values(), *map(_text, further)} - {""}
        if older:
            # This file has no flags: what is not called special is not, and is looked for in normalised text.
            for text, number in self.json("added_tokens.json", dict[str, Id]).items():
                special = text in self.specials
                self.added[text] = AddedToken(text, number, normalized=not special, special=special)
        ends = self.json("generation_config.json", _Ends).get("eos_token_id")
        if ends is None:
            ends = self.json("config.json", _Ends).get("eos_token_id")
        self.end_ids = tuple(ends if isinstance(ends, list) else [] if ends is None else [ends])

    def json(self, name: str, schema: Any = Any) -> Any:
        """The value in a JSON file; {} where there is none."""
        return parse_json(self.data.get(name, b"{}"), str(self.directory / name), schema)

    def save(self, directory: pathlib.Path) -> None:
        """Writes a copy of the files."""
        for name, data in self.data.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(data)

    @property
    def rebuilt_as(self) -> str:
        """The class of tokenizer as which `transformers` rebuilds this one, whatever its files say of spaces and
        normalising: "LlamaTokenizer", "Qwen2Tokenizer", or "" where the files count."""
        name = (self.config.get("tokenizer_class") or "").removesuffix("Fast")
        family = self.json("config.json", _Ends).get("model_type")
        if family == "qwen2" or name == "Qwen2Tokenizer":
            return "Qwen2Tokenizer"
        return name if name == "LlamaTokenizer" and family in (None, "llama") else ""

    @property
    def chat_template(self) -> str | None:
        """The model's own chat template (Jinja), or None; InputError where it has several and none is the default."""
        found = self.chat_templates
        if found and "default" not in found:
            names = ", ".join(sorted(map(repr, found)))
            raise InputError(
                f"{self.directory}: of the chat templates {names}, none is the default; choose a typed one"
            )
        return found.get("default")

    @property
    def chat_templates(self) -> dict[str, str]:
        """All chat templates of the model by name; the one that counts is "default"."""
        found: dict[str, str] = {}
        for name, data in self.data.items():
            if name.endswith(".jinja"):
                key = "default" if name == "chat_template.jinja" else pathlib.PurePath(name).stem
                found[key] = self._decoded(name, data)
        if not found and (stored := self.config.get("chat_template")) is not None:
            found = self._stored(stored)
        if not found and (stored := self.json("chat_template.json", _Config).get("chat_template")) is not None:
            found = self._stored(stored)
        return found

    def _stored(self, stored: str | list[dict[str, str]] | dict[str, str]) -> dict[str, str]:
        if isinstance(stored, list):
            if odd := [entry for entry in stored if not {"name", "template"} <= set(entry)]:
                raise InputError(f"{self.directory}: a chat template in a list has no name or no text: {odd[0]!r:.60}")
            return {entry["name"]: entry["template"] for entry in stored}
        return stored if isinstance(stored, dict) else {"default": stored}

    def _decoded(self, name: str, data: bytes) -> str:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.directory / name} is not UTF-8 (byte {error.start})") from None

    def tokens(self, vocabulary: dict[str, int], stored: list[AddedToken]) -> dict[str, AddedToken]:
        """All added tokens by text, each with its id.

        Args:
          vocabulary: id of each piece of the model.
          stored: added tokens that the tokenizer's own file lists; their flags count before those of others, but a
            token is special if any file says so, or gives it a part.

        Raises InputError where two files give one token two ids, or two tokens one id.
        """
        found: dict[str, AddedToken] = {}
        for token in [*stored, *self.added.values()]:
            if token.id is None:
                raise InputError(f"{self.directory}: added token {token.content!r} has no id")
            kept = found.setdefault(token.content, token)
            number = vocabulary.get(token.content, kept.id)
            if number != token.id:
                raise InputError(
                    f"{self.directory}: the files give added token {token.content!r} the ids {number} and {token.id}"
                )
            kept.special = kept.special or token.special
        for text in self.specials:
            if text not in found and text in vocabulary:
                found[text] = AddedToken(text, vocabulary[text], special=True)
        for text in self.named.values():
            if text in found:
                found[text].special = True
        owners: dict[int | None, str] = {}
        for text, number in (*vocabulary.items(), *((text, token.id) for text, token in found.items())):
            if owners.setdefault(number, text) != text:
                raise InputError(f"{self.directory}: the tokens {owners[number]!r} and {text!r} both have id {number}")
        return found

    def closed(self, tokens: dict[str, AddedToken]) -> set[str]:
        """Texts of the control tokens: special ones, and, whatever its flag, one of the form <|…|> that a chat template
        writes (any, where there is no template). No text becomes them, or a user could forge a turn [ours]."""
        written = self.chat_templates.values()
        return {
            text
            for text, token in tokens.items()
            if token.special
            or text in self.specials
            or (_MARK.fullmatch(text) and (not written or any(text in template for template in written)))
        }


def unknown_marks(written: str, tokenizer) -> list[str]:
    """What a template wrote that reads as a control token but is no token: it would go to the model as mere text."""
    found = [mark for mark in _MARK.findall(written) if mark not in tokenizer.known]
    if ROLE_MARKS.isdisjoint(tokenizer.known):
        found = [mark for mark in found if mark not in ROLE_MARKS]
    return found + [text for text in sorted(tokenizer.missing) if text in written]


def _text(token: str | AddedToken) -> str:
    return token if isinstance(token, str) else token.content
