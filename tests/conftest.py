"""One compilation cache for all tests of a session, its workers and the processes they start; deleted afterwards, unless
JAX_COMPILATION_CACHE_DIR names a place for it."""

import os
import sys
import tempfile

import pytest


def pytest_configure(config):
    # Before any test module imports jax, and before the workers, which inherit the environment, are started.
    if not hasattr(config, "workerinput") and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="safety_align_tests_")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # Most of the time is LLVM's: with fewer of its optimizations programs of a few layers are compiled in three quarters
    # of it. (With none of them a float32 logarithm is some bits off, and equality is no longer exact.)
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A worker takes whole files: what tests of a file share, programs and trained runs above all, is made once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # in the order of `pytest_collection_modifyitems`
    return LoadFileScheduling(config, log)


LONGEST = (
    "test_pod.py", "test_inference_processes.py", "test_commands.py", "test_faults.py", "test_distributed.py", "test_training.py",
    "test_decoder_oracle.py", "test_generator.py", "test_rap.py", "test_soft_prompt.py", "test_benchmark_suite.py", "test_tpu_vm.py",
    "test_parity.py", "test_reread.py", "test_tradeoff.py", "test_watch.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """The longest files first: none is left to one worker at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True, scope="module")
def programs_go_with_their_file():
    """Every compiled program takes memory maps, of which a process has 65,530 on Linux: a worker that keeps those of
    all files dies in the compiler."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()
