"""What a process keeps of the memory that it gives back."""

import platform
import subprocess
import sys

FAULTS = """
import resource, torch
from spectral_repro.training.memory import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(2**23).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed()
faults()
print(faults())
"""


def test_memory_of_freed_tensors_is_not_asked_for_again():
    command = [sys.executable, "-c", FAULTS]
    returned, kept = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert 5 * kept < returned or platform.libc_ver()[0] != "glibc"
