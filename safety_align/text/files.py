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
    """Raises InputError, which lists all names, unless `load_template` knows `name`."""
    if name not in (*TEMPLATES, JinjaTemplate.name):
        raise InputError(f"chat template {name!r} is not one of {', '.join((*TEMPLATES, JinjaTemplate.name))}")


def load_template(name: str, tokenizer: Tokenizer | ImportedTokenizer) -> ChatTemplate | JinjaTemplate:
    """The typed template of that name, or, for "huggingface", the one that came with the tokenizer."""
    check_template_name(name)
    if name != JinjaTemplate.name:
        template = get_template(name)
        template.check(tokenizer)
        return template
    source = tokenizer.chat_template if isinstance(tokenizer, ImportedTokenizer) else None
    if source is None:
        raise InputError(f"this tokenizer came without a chat template; choose one of {', '.join(TEMPLATES)}")
    return JinjaTemplate(source, tokenizer.named)
