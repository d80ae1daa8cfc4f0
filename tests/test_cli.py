"""What every command shares: options, config files and overrides, the one line of an error."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

import safety_align
from launch import cli
from safety_align.errors import InputError, RunFailed
from safety_align.training.checkpoint import CheckpointNotWritten
from safety_align.training.loop import NonFiniteLoss


def ended(main, capsys) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code, capsys.readouterr().err


def test_an_error_is_one_line_of_what_is_seen(capsys):
    def main():
        raise InputError("line one\nline two \x1b[2J\u202e\ud800")

    assert ended(main, capsys) == (2, "error: line one\\nline two \\x1b[2J\\u202e\\ud800\n")


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EPIPE, errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR]
)
def test_what_is_the_machines_fault_is_one_line_and_exit_code_1(capsys, number):
    def main():
        raise OSError(number, os.strerror(number), "out\n.jsonl")

    code, said = ended(main, capsys)
    assert code == 1 and said == f"error: out\\n.jsonl: {os.strerror(number)}; what was written before is kept\n"


def test_a_run_that_cannot_go_on_is_one_line_and_exit_code_1(capsys):
    def main():
        raise RunFailed("loss nan at step 7")

    assert ended(main, capsys) == (1, "error: loss nan at step 7\n")
    assert issubclass(NonFiniteLoss, RunFailed) and issubclass(CheckpointNotWritten, RunFailed)


def test_a_bug_keeps_its_traceback():
    def main():
        raise OSError(errno.EBADF, "a bug")

    with pytest.raises(OSError, match="a bug"):
        cli.run(main)


LINES = "import sys; from launch import cli\ndef main():\n    for i in range(100_000): print('line', i)\ncli.run(main)"


@pytest.mark.parametrize("target", ["/dev/full", "closed"])
def test_an_output_that_takes_no_more_is_one_line(target):
    command = [sys.executable, "-c", LINES]
    if target == "closed":
        done = subprocess.run(["sh", "-c", '{ "$0" -c "$1"; echo $? >&2; } | head -1', sys.executable, LINES],
            capture_output=True, text=True)  # fmt: skip
        assert done.stdout == "line 0\n"
        *lines, code = done.stderr.splitlines()
    else:
        with open(target, "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        lines, code = done.stderr.splitlines(), done.returncode
    assert int(code) == 1 and len(lines) == 1 and lines[0].startswith("error: output: ")


def parser():
    made = cli.Parser("")
    made.add_argument("--count", type=cli.integer(1))
    made.add_argument("--share", type=cli.number)
    return made


@pytest.mark.parametrize("argument", ["--count=0", "--count=2147483648", "--count=1e3", "--count=nan", "--count=",
    "--count=" + "9" * 5000, "--share=nan", "--share=-inf", "--share=1e400", "--share=x", "--share=", "--cuont=1"])  # fmt: skip
def test_options_that_are_no_such_numbers(argument):
    with pytest.raises(InputError) as caught:
        parser().parse_args([argument])
    assert argument.partition("=")[0] in str(caught.value) and len(str(caught.value)) < 120


def test_options_that_are():
    found = parser().parse_args(["--count=2147483647", "--share=-1e-3"])
    assert (found.count, found.share) == (2**31 - 1, -1e-3)
    with pytest.raises(InputError, match="not UTF-8"):
        parser().parse_args(["--count=\udcff"])


BAD_CONFIGS = {
    "x = (\n": "line 1: SyntaxError", "\n\nraise ValueError('a\\nb')\n": "line 3: ValueError",
    "import sys\nsys.exit(3)\n": "line 2: SystemExit: 3", "import nothing_of_that_name\n": "line 1: ModuleNotFoundError",
    "def get_config():\n    return 3\n": "must return a ConfigDict, not 3", "def get_config(name):\n    pass\n": "missing 1 required",
    "get_config = 3\n": "no get_config", "": "no get_config", "\0": "null bytes",
    "def get_config():\n    return {}['key']\n": "line 2: KeyError",
    "def get_config():\n    return get_config()\n": "line 2: RecursionError",
    "import json\ndef get_config():\n    return json.loads('{')\n": "line 3: JSONDecodeError",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD_CONFIGS, ids=lambda text: BAD_CONFIGS[text])
def test_a_config_file_that_fails_is_named_with_its_line(tmp_path, text):
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        cli.load_config(str(path))
    assert BAD_CONFIGS[text] in str(caught.value) and str(path) in str(caught.value)


def test_a_config_file_is_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe")
    for name in ("pipe", ".", "absent", "bytes.py"):
        with pytest.raises(InputError):
            cli.load_config(str(tmp_path / name))
    (tmp_path / "plain.txt").write_text(
        "import ml_collections\ndef get_config():\n    return ml_collections.ConfigDict()\n"
    )
    assert not cli.load_config(str(tmp_path / "plain.txt")).keys()


def test_a_bug_of_ours_that_a_config_file_meets_keeps_its_traceback(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("from safety_align.visible import visible\ndef get_config():\n    return visible(3)\n")
    with pytest.raises(AttributeError):
        cli.load_config(str(path))
    path.write_text("from safety_align.model import preset\ndef get_config():\n    return preset('huge')\n")
    with pytest.raises(InputError, match="huge"):
        cli.load_config(str(path))


@pytest.mark.parametrize("override", ["steps=1e30", "steps=10000000000000", "steps=true", "steps=-99999999999", "lambda_cls=inf",
    "lambda_cls=nan", "lambda_cls=1e400", "lambda_cls=" + "9" * 400, "optimizer.learning_rate=nan", "optimizer.clip=(" + "(" * 900,
    "model.safety_signal=1", "data.mixture.embedded=inf", "steps=", "steps=None"])  # fmt: skip
def test_overrides_that_are_no_such_values(override):
    config = cli.load_config("configs/embedded_gated.py")
    with pytest.raises(InputError, match=override.partition("=")[0]):
        cli.apply_overrides(config, [f"--config.{override}"])


def test_a_group_takes_none_and_nothing_else():
    config = ConfigDict(dict(model=dict(width=3), steps=1))
    cli.apply_overrides(config, ["--config.model=None"])
    assert config.model is None
    for bad in ("--config.model=0", "--config.steps=none"):
        with pytest.raises(InputError):
            cli.apply_overrides(ConfigDict(dict(model=dict(width=3), steps=1)), [bad])


def test_every_config_file_of_the_project_is_still_read():
    for path in pathlib.Path("configs").rglob("*.py"):
        if "get_config" in path.read_text():
            assert cli.load_config(str(path)).keys()


def test_bad_arguments_do_not_wait_for_jax():
    """Nor does the pod compiler come too late to say on which platform jax runs."""
    look = "import sys, launch.cli, launch.convert, launch.compile_pod, safety_align; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_all_that_the_package_offers_is_there():
    assert all(getattr(safety_align, name) is not None for name in safety_align.__all__)
    assert set(safety_align.__all__) <= set(dir(safety_align))
    with pytest.raises(AttributeError, match="no attribute 'no_such'"):
        _ = safety_align.no_such
