"""Tokenizer and template of a directory: a run's own (`tokenizer.json`), or a published model's (`tokenizer/`, or the
model directory itself)."""

import pathlib

from safety_align.errors import InputError
from safety_align.text.chat import TEMPLATES, ChatTemplate, get_template
from safety_align.text.imported import ImportedTokenizer
from safety_align.text.jinja_chat import JinjaTemplate
from safety_align.text.tokenizer import Tokenizer

IMPORTED = "tokenizer"
"""Folder of a run that holds the files of a published tokenizer."""


def save_tokenizer(tokenizer: Tokenizer | ImportedTokenizer, workdir: pathlib.Path) -> None:
    """Writes a run's tokenizer into its workdir."""
    tokenizer.save(workdir / IMPORTED if isinstance(tokenizer, ImportedTokenizer) else workdir / "tokenizer.json")


def load_tokenizer(workdir: pathlib.Path) -> Tokenizer | ImportedTokenizer:
    """What `save_tokenizer` wrote."""
    if (workdir / IMPORTED).is_dir():
        return ImportedTokenizer(workdir / IMPORTED)
    return Tokenizer.load(workdir / "tokenizer.json")


def check_template_name(name: str) -> None:
    """Raises InputError, with all names, unless a template is called that."""
    if name not in TEMPLATES and name != JinjaTemplate.name:
        raise InputError(f"template {name!r} is not one of {', '.join((*TEMPLATES, JinjaTemplate.name))}")


def load_template(name: str, tokenizer: Tokenizer | ImportedTokenizer) -> ChatTemplate | JinjaTemplate:
    """The typed template of that name, or, for "huggingface", the one that came with the tokenizer."""
    if name != JinjaTemplate.name:
        return get_template(name)
    source = tokenizer.chat_template if isinstance(tokenizer, ImportedTokenizer) else None
    if source is None:
        raise InputError(f"this tokenizer came without a chat template; choose one of {', '.join(TEMPLATES)}")
    names = {key: tokenizer.named(key) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    return JinjaTemplate(source, {key: text for key, text in names.items() if text is not None})
