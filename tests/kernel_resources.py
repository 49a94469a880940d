#!/usr/bin/env python3
"""What nvcc makes of the grouped GEMMs: registers, spills, and Hopper's own instructions.

Usage: kernel_resources.py NVCC SOURCE_DIRECTORY

Compiles the files for sm_90a, reads ptxas' report, and counts instructions in the machine code: the
lower 12 bits of a 16-byte word are the operation. Exits with 77 where there is no NVCC, with 1 if a
kernel spills, waits for every single wgmma, needs more registers than it can have, starts with fewer
than its consumers will ask for, lacks the instructions that it is about, or orders memory for the
whole GPU where a block's order is enough.
"""
import os
import re
import struct
import subprocess
import sys
import tempfile

# Found by their counts, which are those of the PTX: wgmma of bf16, of fp8; tensor copies to shared
# memory, such to both blocks of a cluster, such from shared memory.
OPERATIONS = (0x9F0, 0x9F3, 0x5B4, 0x3B4, 0x3B5)
REGISTERS_MAX = 168  # of 384 threads, one block an SM
# Kernels whose warpgroups trade registers start with all of them: setmaxnreg.inc waits for what the
# block was launched with, for ever where that is less than the consumers' sum.
TRADERS = ("large", "stream")
# A fence of memory, and the bit of its second half that makes it one for the GPU: MEMBAR.ALL.GPU.
FENCE, FENCE_GPU = 0x992, 0x2000

# Most fences for the GPU: of a cluster's two barriers, and around a tile's parts at 5 widths.
FENCES_MAX = {"grouped_gemm.cu": 0, "grouped_gemm_large.cu": 2, "grouped_gemm_stream.cu": 2 * 5}

# File: {part of the mangled name (FP8, PAIRED, CLUSTERS as 0 and 1): least number of each}.
# Counted in the source: multiplies of a stage, boxes of a stage, boxes of a tile of out.
KERNELS = {
    "grouped_gemm.cu": {"plain": (0, 0, 0, 0, 0), "mma": (0, 0, 0, 0, 0)},
    "grouped_gemm_large.cu": {
        "largeILb0ELb0ELb0E": (4, 0, 4, 0, 4),
        "largeILb0ELb1ELb0E": (4, 0, 4, 0, 2),
        "largeILb1ELb0ELb0E": (0, 8, 4, 0, 4),
        "largeILb1ELb1ELb0E": (0, 8, 4, 0, 1),
        "largeILb0ELb0ELb1E": (4, 0, 4, 2, 4),
        "largeILb0ELb1ELb1E": (4, 0, 4, 2, 2),
        "largeILb1ELb0ELb1E": (0, 8, 4, 2, 4),
        "largeILb1ELb1ELb1E": (0, 8, 4, 2, 1),
        "singleILb0E": (4, 0, 3, 0, 4),
        "singleILb1E": (4, 0, 3, 0, 2),
    },
    "grouped_gemm_stream.cu": {
        "streamILb0ELb0E": (5 * 8, 0, 3, 0, 0),
        "streamILb0ELb1E": (5 * 8, 0, 3, 0, 0),
        "streamILb1ELb0E": (0, 4 * 8 + 16, 3, 0, 0),
        "streamILb1ELb1E": (0, 4 * 8 + 16, 3, 0, 0),
    },
}


def sections(elf):
    """(name, content) of every section of a 64-bit little-endian ELF file."""
    offset, = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, offset + i * size) for i in range(count)]
    name_table = headers[names][4]
    for name, kind, _, _, start, length in headers:
        end = elf.index(b"\0", name_table + name)
        yield elf[name_table + name:end].decode(), elf[start:start + length] if kind != 8 else b""


def instruction_counts(elf):
    """{kernel: how often it has each of OPERATIONS, and a fence for the GPU}"""
    counts = {}
    for name, content in sections(elf):
        if name.startswith(".text."):
            words = list(struct.iter_unpack("<QQ", content))
            fences = sum(low & 0xFFF == FENCE and high & FENCE_GPU != 0 for low, high in words)
            operations = [low & 0xFFF for low, _ in words]
            counts[name.removeprefix(".text.")] = (*map(operations.count, OPERATIONS), fences)
    return counts


def compile_file(nvcc, source, directory, folder):
    cubin = os.path.join(folder, source + ".cubin")
    command = [nvcc, "-gencode=arch=compute_90a,code=sm_90a", "-std=c++17", "-O2", "--fmad=false",
               "-Xptxas", "-v", "-I", os.path.join(directory, "kernels"), "-I",
               os.path.join(directory, "reference"), "-cubin", "-o", cubin,
               os.path.join(directory, "kernels", source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = done.stdout + done.stderr
    if done.returncode != 0:
        sys.exit(f"{source}: nvcc failed\n{report}")
    with open(cubin, "rb") as file:
        return report, instruction_counts(file.read())


def resources(report):
    """{kernel: (registers, bytes spilled)} of ptxas' words."""
    found = {}
    pattern = (r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill "
               r"stores, (\d+) bytes spill loads.*?Used (\d+) registers")
    for name, stack, stores, loads, registers in re.findall(pattern, report, re.S):
        found[name] = (int(registers), int(stack) + int(stores) + int(loads))
    return found


def check(source, report, counts):
    problems = [f"{source}: {line}" for line in report.split("\n")
                if "serialized" in line or "setmaxnreg" in line]
    used = resources(report)
    for part, least in KERNELS[source].items():
        kernels = [name for name in used if part in name]
        if len(kernels) != 1:
            problems.append(f"{source}: {len(kernels)} kernels are named {part}")
        for name in kernels:
            registers, spilled = used[name]
            print(f"{name[4:40]:36} {registers:4} registers {spilled:3} spilled; wgmma bf16 "
                  "{:2} fp8 {:2}; copies {} shared {} stores {}; fences {}".format(*counts[name]))
            if spilled:
                problems.append(f"{name}: {spilled} bytes of stack")
            if part.startswith(TRADERS) and registers < REGISTERS_MAX:
                problems.append(f"{name}: starts with {registers} registers; {REGISTERS_MAX} are traded")
            if registers > REGISTERS_MAX:
                problems.append(f"{name}: {registers} registers; at most {REGISTERS_MAX}")
            if any(count < limit for count, limit in zip(counts[name], least)):
                problems.append(f"{name}: {counts[name]} of {OPERATIONS}; at least {least}")
            if counts[name][-1] > FENCES_MAX[source]:
                problems.append(f"{name}: {counts[name][-1]} fences for the whole GPU; at most "
                                f"{FENCES_MAX[source]}")
    return problems


def main():
    nvcc, directory = sys.argv[1:]
    if not os.access(nvcc, os.X_OK):
        print("skipped: nvcc (of the CUDA Toolkit) was not found")
        return 77
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        for source in KERNELS:
            problems += check(source, *compile_file(nvcc, source, directory, folder))
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
