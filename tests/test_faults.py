"""What happens to a run when the machine fails: kills, a full disk, damaged checkpoints."""

import pathlib
import random
import resource
import shutil
import signal
import time

import pytest
from kill_harness import torment
from processes import finish, log, losses, run, start, wait_for_step

from safety_align.training import integrity
from safety_align.training.checkpoint import load_run

pytestmark = pytest.mark.slow

SIX = ("--config.steps=6", "--config.save_every=2", "--config.keep=3")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    assert run(workdir, *SIX) == [0], log(workdir)[-2000:]
    return workdir


def test_a_run_killed_at_random_moments_equals_one_left_alone(tmp_path):
    """A short form of `python tests/kill_harness.py --kills=20`; another seed every day."""
    assert torment(tmp_path, kills=4, seed=int(time.time()) // 86400) == []


def flip(folder: pathlib.Path, rng: random.Random) -> pathlib.Path:
    """Flips one bit of one file of a checkpoint."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size]
    path = rng.choice(sorted(files))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return path


def test_a_flipped_bit_anywhere_is_noticed(whole, tmp_path):
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    source = whole / "checkpoints" / "6"
    assert integrity.damage(source) is None
    for _ in range(30):
        folder = tmp_path / "6"
        shutil.copytree(source, folder)
        path = flip(folder, rng)
        assert integrity.damage(folder) is not None, f"{path}, seed {seed}"
        shutil.rmtree(folder)


@pytest.mark.parametrize("harm", ["flip", "missing", "unsealed"])
def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_serves(whole, tmp_path, harm):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    newest = workdir / "checkpoints" / "6"
    if harm == "flip":
        (data,) = (p for p in (newest / "params").rglob("d/*") if p.stat().st_size > 10_000)
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    elif harm == "missing":
        next(p for p in (newest / "optimizer").rglob("d/*")).unlink()
    else:
        (newest / "checksums.0.json").unlink()
    assert run(workdir, *SIX) == [0], log(workdir)[-2000:]
    assert "checkpoints/6 is damaged" in log(workdir) and (workdir / "damaged" / "6").is_dir()
    assert losses(workdir) == losses(whole) and load_run(workdir).step == 6


def test_a_full_disk_is_named_and_the_run_goes_on_once_there_is_room(whole, tmp_path):
    """A limit on the size of files stands in for the disk's: writing fails in the same place."""
    workdir = tmp_path / "run"
    assert run(workdir, *SIX[1:], "--config.steps=3") == [0], log(workdir)[-2000:]
    shutil.rmtree(workdir / "checkpoints" / "3")
    config = workdir / "config.json"
    config.write_text(config.read_text().replace('"steps": 3', '"steps": 6'))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, resource.RLIM_INFINITY))

    assert run(workdir, *SIX, preexec_fn=limit) == [1]
    assert "checkpoints/4 could not be written" in log(workdir) and "make room" in log(workdir)
    assert log(workdir).count("Traceback") == 0
    assert load_run(workdir).step == 2
    assert run(workdir, *SIX) == [0], log(workdir)[-2000:]
    assert load_run(workdir).step == 6


def test_sigterm_saves_and_exits_with_zero_in_time(tmp_path):
    """Within 20 seconds here, where a save takes a fraction of one."""
    workdir = tmp_path / "run"
    started = start(workdir, "--config.steps=100000", "--config.save_every=100000")
    wait_for_step(workdir, 3, started)
    started[0].send_signal(signal.SIGTERM)
    assert finish(started, 20) == [0], log(workdir)[-2000:]
    assert load_run(workdir).step == max(losses(workdir)) >= 3
