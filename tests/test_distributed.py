"""Two and four real processes (gloo): the same training as one, the same order of data, stops and dead peers."""

import signal

import numpy as np
import pytest
from processes import finish, log, losses, run, start, wait_for_step

from safety_align import distributed
from safety_align.errors import InputError
from safety_align.training.checkpoint import load_run

pytestmark = pytest.mark.slow

STEPS = 30
LENGTH = (f"--config.steps={STEPS}", "--config.save_every=10")


def first_ten(workdir) -> list[float]:
    """Losses of the first ten steps; later ones drift apart, as training amplifies rounding."""
    return list(losses(workdir).values())[:10]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Thirty steps in one process of four devices."""
    workdir = tmp_path_factory.mktemp("runs") / "alone"
    assert run(workdir, *LENGTH, "--tell-stopped", devices=4) == [0], log(workdir)[-2000:]
    return workdir


@pytest.mark.parametrize("processes, mesh", [(2, ("fsdp=2",)), (4, ("data=2", "fsdp=1", "tensor=2"))])
def test_processes_train_as_one_does(alone, processes, mesh):
    """The same batches: sums in another order, so float32 losses of ten steps to 2e-5; and to the bit with itself."""
    changes = [f"--config.mesh.{part}" for part in mesh]
    workdirs = [alone.parent / f"{processes}.{i}" for i in range(2 if processes == 2 else 1)]
    for workdir in workdirs:
        codes = run(workdir, *LENGTH, *changes, processes=processes, devices=4 // processes)
        assert codes == [0] * processes, log(workdir)[-2000:]
        assert losses(workdir) == losses(workdirs[0])
        assert all("window_auroc" not in log(workdir, index) for index in range(1, processes))  # only the first speaks
    assert list(losses(workdirs[0])) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(first_ten(workdirs[0]), first_ten(alone), rtol=2e-5)


def test_a_stop_of_one_process_saves_in_all_and_another_number_goes_on(alone):
    workdir = alone.parent / "stopped"
    started = start(workdir, f"--config.steps={STEPS}", "--config.save_every=100", processes=2, devices=2)
    wait_for_step(workdir, 3, started)
    started[1].send_signal(signal.SIGTERM)
    assert finish(started, 60) == [0, 0], log(workdir)[-2000:]
    stopped = load_run(workdir).step
    assert 3 <= stopped < STEPS and f"stopped after step {stopped}, saved" in log(workdir)
    # From two processes to four, onto another mesh; the data goes on where it was.
    changes = (f"--config.steps={STEPS}", "--config.mesh.fsdp=2", "--config.mesh.tensor=2")
    assert run(workdir, *changes, "--config.save_every=100", processes=4) == [0] * 4, log(workdir)[-2000:]
    np.testing.assert_allclose(first_ten(workdir), first_ten(alone), rtol=2e-5)
    assert len(losses(workdir)) == STEPS


@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_peer_ends_the_others(alone, victim):
    workdir = alone.parent / f"dead{victim}"
    started = start(workdir, "--config.steps=100000", "--config.save_every=5", processes=2)
    wait_for_step(workdir, 6, started)
    started[victim].kill()
    codes = finish(started, 2 * distributed.HEARTBEAT_S + 30)
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] != 0
    assert load_run(workdir).step >= 5


@pytest.mark.parametrize("spec", ["here", "a:1,2", "a:1,2,2", "a:1,-1,0"])
def test_a_bad_address_is_named(spec):
    with pytest.raises(InputError, match="--distributed="):
        distributed.start(spec)


def test_a_run_that_was_stopped_can_say_so_to_its_scheduler(alone):
    """75 from every process, in good order; that it is 0 after the last step, `alone` has shown."""
    workdir, options = alone.parent / "told", ("--config.steps=100000", "--config.save_every=100000", "--tell-stopped")
    started = start(workdir, *options, processes=2, devices=2)
    wait_for_step(workdir, 2, started)
    started[0].send_signal(signal.SIGTERM)
    assert finish(started, 60) == [75, 75], log(workdir)[-2000:]
    assert load_run(workdir).step >= 2 and "Traceback" not in log(workdir) + log(workdir, 1)
