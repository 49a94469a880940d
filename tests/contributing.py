#!/usr/bin/env python3
"""Does CONTRIBUTING.md tell the truth?

Usage: contributing.py BUILD_DIRECTORY [C_COMPILER]

Its recipes are the files of tests/examples/, letter by letter. They are put where it says, each
with the one line it says, into a copy of the source; the copy is built with all warnings as errors,
the laws over the registries are run there, and a scenario is simulated with them. Exits with 1 and
says what is wrong.
"""
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXAMPLES = os.path.join(ROOT, "tests", "examples")
COPIED = ("CMakeLists.txt", "packaging", "kernels", "reference", "sim", "tests", "scenarios",
          "reports")
LAWS = ("test_balance", "test_net", "test_gpu", "test_engine_laws")
LISTED = {"strategies": "swap_one", "networks": "uncontended", "gpu-models": "fixed_time",
          "models": "tiny-moe"}
SCENARIO = os.path.join("tests", "examples", "plug_ins.yaml")
CHOICES = ("placement.strategy=swap_one", "network=uncontended", "compute.model=fixed_time")


def fail(text):
    sys.exit(f"contributing: {text}")


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as stream:
        return stream.read()


def recipes(text):
    """(target path, registry path or None, entry or None, content) of every block of CONTRIBUTING.md
    that is announced as `path`: or as `path`, with the line `entry` in `registry`:"""
    pattern = (r"^`(?P<target>[\w/.-]+)`(?:, with the line `(?P<entry>[^`]+)` in "
               r"`(?P<registry>[\w/.]+)`)?:\n\n```\w+\n(?P<content>.*?)^```$")
    return [match.group("target", "registry", "entry", "content")
            for match in re.finditer(pattern, text, re.M | re.S)]


def check_text(found):
    shown = {os.path.basename(target): content for target, _, _, content in found}
    for name in sorted(set(os.listdir(EXAMPLES)) - {os.path.basename(SCENARIO)}):
        if name not in shown:
            fail(f"tests/examples/{name} is not in CONTRIBUTING.md")
        if shown.pop(name) != read(EXAMPLES, name):
            fail(f"{name} in CONTRIBUTING.md differs from tests/examples/{name}")
    if shown:
        fail(f"no file in tests/examples/ for {', '.join(shown)}")


def register(path, entry):
    """Adds entry as the last line of the first X-macro list that uses the same word."""
    text = read(path)
    word = re.escape(entry.split("(")[0])
    match = re.search(rf"^#define \w+\({word}\)(?:[^\n]*\\\n)*[^\n]*", text, re.M)
    if not match:
        fail(f"{path} has no list of {entry.split('(')[0]}(...)")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(f"{text[:match.end()]} \\\n    {entry}{text[match.end():]}")


def run(what, *command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        print(done.stdout[-8000:])
        fail(f"{what} failed: {' '.join(command)}")
    return done.stdout


def make_copy(copy, found):
    shutil.rmtree(copy, ignore_errors=True)
    os.makedirs(copy)
    for name in COPIED:
        source = os.path.join(ROOT, name)
        if os.path.isdir(source):
            shutil.copytree(source, os.path.join(copy, name))
        elif os.path.exists(source):
            shutil.copy(source, copy)
    for target, registry, entry, content in found:
        with open(os.path.join(copy, target), "x", encoding="utf-8") as stream:
            stream.write(content)
        if registry:
            register(os.path.join(copy, registry), entry)


def main(build, compiler="cc"):
    found = recipes(read(ROOT, "CONTRIBUTING.md"))
    check_text(found)
    copy = os.path.join(os.path.abspath(build), "contributing")
    make_copy(copy, found)
    environment = dict(os.environ, MOESIM_DATA=copy)
    laws = [name for name in LAWS if os.path.exists(os.path.join(copy, "tests", f"{name}.c"))]
    run("configuring", "cmake", "-S", copy, "-B", f"{copy}/build", "-G", "Ninja",
        "-DCMAKE_BUILD_TYPE=Debug", f"-DCMAKE_C_COMPILER={compiler}", "-DMOESIM_TESTS=ON")
    run("building", "cmake", "--build", f"{copy}/build", "-j", "2", "--target", "moesim", *laws, "--", "--quiet")
    for law in laws:
        run(f"the laws of {law}", f"{copy}/build/tests/{law}", cwd=f"{copy}/build/tests",
            env=environment)

    program = f"{copy}/build/moesim"
    for kind, name in LISTED.items():
        listed = run("listing", program, "list", kind, env=environment)
        if name not in listed:
            fail(f"moesim list {kind} does not know {name}:\n{listed}")
    options = [word for choice in CHOICES for word in ("--set", choice)]
    print(run("simulating", program, "run", f"{copy}/{SCENARIO}", *options,
              "-o", f"{copy}/results.db", env=environment))
    run("reporting", program, "report", f"{copy}/results.db", "-o", f"{copy}/out", env=environment)
    if "How throughput changed over the run" not in read(copy, "out", "index.html"):
        fail("the figure is not on the page")
    if not os.path.getsize(os.path.join(copy, "out", "figures", "throughput.svg")):
        fail("the figure was not drawn")
    shutil.rmtree(copy)
    print(f"contributing: {len(found)} recipes built, {len(laws)} law tests, one run")


if __name__ == "__main__":
    main(*sys.argv[1:])
