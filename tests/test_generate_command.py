"""launch.generate: what is refused before a model is read, and what reaches a terminal."""

import os

import pytest

from launch import devices, generate
from safety_align.decoding.generator import Piece
from safety_align.decoding.requests import Result
from safety_align.errors import InputError


@pytest.mark.parametrize("arguments, named", [
    (["--prompt="], "--prompt is empty"), (["--prompt= \n"], "--prompt is empty"), (["--prompt=\udcff"], "not UTF-8"),
    (["--prompt=a", "--input=b", "--output=c"], "either"), (["--input=b"], "--output"), (["--prompt=a", "--output=c"], "--output"),
    (["--input=b", "--output=c", "--prefill=d"], "--prefill"), (["--prompt=a", "--seed=-1"], "--seed"),
    (["--prompt=a", "--seed=1000000000000000000000000000000"], "--seed"), (["--prompt=a", "--temperature=nan"], "--temperature"),
    (["--prompt=a", "--temperature=-1"], "temperature"), (["--prompt=a", "--top-p=0"], "top_p"), (["--prompt=a", "--top-p=inf"], "--top-p"),
    (["--prompt=a", "--top-k=3000000000"], "--top-k"), (["--prompt=a", "--top-k=-1"], "--top-k"),
    (["--prompt=a", "--max-new-tokens=0"], "--max-new-tokens"), (["--prompt=a", "--max-new-tokens=3000000000"], "--max-new-tokens"),
    (["--prompt=a", "--batch-size=0"], "--batch-size"), (["--prompt=a", "--max-length=-1"], "--max-length"),
    (["--prompt=a", "--gate.threshold=nan"], "gate.threshold"), (["--prompt=a", "--gate.threshold=1"], "gate.threshold"),
    (["--prompt=a", "--gate.tau=1e400"], "gate.tau"), (["--prompt=a", "--gate.tau=10000000000"], "gate.tau"),
    (["--prompt=a", "--gate.visible=1"], "gate.visible"), (["--prompt=a", "--gat.tau=1"], "--gat.tau"), (["--prompt=a", "tau"], "tau"),
    (["--prompt=a", "--mesh=data=--1"], "--mesh"), (["--prompt=a", "--mesh=data=\u00b2"], "--mesh"),
], ids=lambda value: " ".join(map(ascii, value))[:60] if isinstance(value, list) else "")  # fmt: skip
def test_arguments_are_refused_before_anything_is_read(arguments, named, monkeypatch):
    monkeypatch.setattr(generate, "load_unrolled", None)  # not reached
    monkeypatch.setattr("sys.argv", ["generate", "--checkpoint=none", *arguments])
    with pytest.raises(InputError) as caught:
        generate.main()
    assert named in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("output, said", [("in.jsonl", "same file"), ("./x/../in.jsonl", "same file"), ("hard", "same file"),
    ("soft", "is a link"), ("pipe", "no regular file"), (".", "directory"), ("a\nb", "control"), ("..", "name of its own")])  # fmt: skip
def test_an_output_never_overwrites_another_file(output, said, tmp_path, monkeypatch):
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": 1, "prompt": "a"}\n')
    (tmp_path / "x").mkdir()
    os.link(source, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(source)
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices, "start", None)  # not reached
    monkeypatch.setattr("sys.argv", ["generate", "--checkpoint=none", "--input=in.jsonl", f"--output={output}"])
    with pytest.raises(InputError, match=said):
        generate.main()
    assert source.read_text() == '{"id": 1, "prompt": "a"}\n'


def test_an_answer_reaches_the_terminal_without_its_control_characters(capsys):
    class Generator:
        gate = None

    result = Result("", [], False, 0.0, 0.0, "ungated", None, None, "eos", [])
    texts = "one\n\x1b]0;ti", "tle\x07two\u202e", "\t\u200bthree"
    generate.print_pieces([Piece(text, False, float("nan"), result) for text in texts], Generator())
    assert capsys.readouterr().out == "one\n\\x1b]0;title\\x07two\\u202e\t\\u200bthree\n"
