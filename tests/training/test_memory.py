"""What a process keeps of the memory that it gives back."""

import os
import platform
import subprocess
import sys

import pytest

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


RESIDENT = """
import torch
from spectral_repro.training.memory import keep_freed, return_freed

def resident():
    return int(open("/proc/self/statm").read().split()[1])

keep_freed()
torch.empty(2**24).fill_(1)
kept = resident()
return_freed()
print(kept, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
def test_memory_of_freed_tensors_can_be_given_back():
    command = [sys.executable, "-c", RESIDENT]
    kept, left = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert kept - left > 0.9 * 2**26 / os.sysconf("SC_PAGESIZE")


def test_memory_of_freed_tensors_is_not_asked_for_again():
    command = [sys.executable, "-c", FAULTS]
    returned, kept = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert 5 * kept < returned or platform.libc_ver()[0] != "glibc"
