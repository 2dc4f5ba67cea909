"""Memory that stays ours between training steps.

glibc hands every large block back to the system when it is freed and takes it anew at the next
step; each time the kernel clears its pages. How much keeping them saves depends on the kernel and
the sizes: ``make bench`` measures it.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_KEEP = 1 << 30


def keep_memory() -> bool:
    """Ask glibc to keep up to 1 GiB of freed memory; return whether it took it.

    Elsewhere than on Linux with glibc nothing happens. Called by training commands only: a
    process that predicts gives its memory back.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, _KEEP))
    except (OSError, AttributeError):
        return False
