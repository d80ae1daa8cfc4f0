"""Runs a module or a script, for tests that start many processes: python tests/child.py launch.train --config=…

Two things that cost seconds a process are left out. Where torch is installed, tensorboardX imports it; here it is not there, as in an
environment of the package alone. And of several processes jax lets only the first write what it compiled, while the others,
whose keys differ from the first's, compile all of it every time; here each writes its own.
"""

import os
import runpy
import sys

sys.path[0] = os.getcwd()
sys.modules["torch"] = None

from jax._src import compiler, distributed  # noqa: E402  (private: there is no option for it)

write = getattr(compiler, "_cache_write", None)


def write_too(*arguments, **options):
    state = distributed.global_state
    own, state.process_id = state.process_id, 0
    try:
        write(*arguments, **options)
    finally:
        state.process_id = own


if write is not None:  # else only slower
    compiler._cache_write = write_too
what = sys.argv.pop(1)
if what.endswith(".py"):
    runpy.run_path(what, run_name="__main__")
else:
    runpy.run_module(what, run_name="__main__", alter_sys=True)
