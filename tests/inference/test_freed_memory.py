import platform
import subprocess
import sys

import pytest

from helpers.builders import ROOT

FILE = ROOT / "projects/SMCA/smca/inference/command/freed_memory.py"
FAULTS = """
import ctypes, resource, runpy, sys
if sys.argv[2] == "kept":
    runpy.run_path(sys.argv[1])["keep_freed_memory"]()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(2):
    before = faults()
    memory = libc.malloc(100 << 20)
    ctypes.memset(memory, 1, 100 << 20)
    libc.free(memory)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_memory_is_not_fetched_anew():
    """Pages that 100 MiB need the second time; 50 where a system gives pages of 2 MiB."""
    given_back, kept = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS, str(FILE), how], text=True))
        for how in ("given back", "kept")
    )
    assert given_back > 20 > kept
