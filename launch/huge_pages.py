"""Large memory pages for training on a CPU.

XLA's CPU backend takes the buffers of each step from malloc anew, and faulting them in page by page costs a third of
a small model's step. glibc reads this setting only when a process starts, so the command starts itself once more.
"""

import os
import sys

SETTING = "glibc.malloc.hugetlb=1"


def restart_with_huge_pages() -> None:
    """Replaces this process by itself with huge pages on; does nothing off Linux or where GLIBC_TUNABLES is set."""
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = SETTING
        sys.stdout.flush()
        os.execv(sys.executable, sys.orig_argv)
