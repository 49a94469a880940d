#!/usr/bin/env python3
"""The rules of CONTRIBUTING.md that a program can check.

Usage: tidy.py [--self-test] [FILE ...]

Walks reference/, sim/, kernels/ and tests/ (or reads only the files named), prints every violation
as file:line: rule: what, and exits with 1 if there was one. --self-test feeds each rule something
bad and something good, and fails if the rule stays silent or cries wolf.
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TREES = ("reference", "sim", "kernels", "tests")
SUFFIXES = (".c", ".h", ".cu", ".cuh")

FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100
FILE_LINES_MAX = 400

PLUG_INS = ("route", "balance", "dispatch", "collective", "net", "gpu", "offload")
# What a plug-in may know of sim/: the structs that describe its world, and the plug-in interfaces.
CORE_STRUCTS = {"batch.h", "cluster.h", "digest.h", "message.h", "model.h", "placement.h",
                "precision.h", "rng.h", "token_sets.h", "trace.h", "trace_side.h", "traffic.h"}
INTERFACES = {f"{kind}/{kind}.h" for kind in PLUG_INS}


def blank(match):
    """Spaces instead of a comment or literal, so that lines and columns stay where they are."""
    return re.sub(r"[^\n]", " ", match.group())


def code_only(text):
    """The text without comments, strings and characters; #include "x.h" lines keep theirs."""
    pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    return re.sub(pattern, blank, text, flags=re.S)


class File:
    def __init__(self, path, text, headers):
        self.path = path  # relative to the root, with /
        self.text = text
        self.headers = headers  # paths of all headers of the project
        self.lines = text.split("\n")
        if self.lines[-1] == "":
            self.lines.pop()
        self.code = code_only(text).split("\n")
        self.folder = path.rsplit("/", 1)[0]
        self.name = path.rsplit("/", 1)[-1]
        self.stem = self.name.rsplit(".", 1)[0]
        self.tree = path.split("/", 1)[0]

    def plug_in(self):
        parts = self.path.split("/")
        return parts[1] if len(parts) == 3 and parts[0] == "sim" and parts[1] in PLUG_INS else None

    def includes(self):
        """(line number, '"' or '<', path as written) of every #include outside comments."""
        for number, line in enumerate(self.lines, 1):
            match = re.match(r"\s*#\s*include\s*([\"<])([^\">]+)[\">]", line)
            if match and "#" in self.code[number - 1]:
                yield number, match.group(1), match.group(2)

    def resolve(self, written):
        """The project's header that "written" names, or None: beside the file, then sim/, then
        reference/, as the compiler's search path has it."""
        for base in (self.folder, "sim", "reference", "kernels"):
            path = os.path.normpath(f"{base}/{written}").replace(os.sep, "/")
            if path in self.headers:
                return path
        return None


def line_length(file):
    for number, line in enumerate(file.lines, 1):
        if len(line) > COLUMNS_MAX:
            yield number, f"{len(line)} columns; at most {COLUMNS_MAX}"


def file_length(file):
    if not file.name.endswith(".cu") and len(file.lines) > FILE_LINES_MAX:
        yield len(file.lines), f"{len(file.lines)} lines; at most {FILE_LINES_MAX}"


def function_length(file):
    """A function's body is what stands between { and } in the first column; its head begins after
    the nearest line above that ends or separates something."""
    opened = None
    for number, line in enumerate(file.code, 1):
        if line.rstrip() == "{":
            opened = number
            while opened > 1 and re.match(r"[\w\s*].*[^;}\s]\s*$", file.code[opened - 2]):
                opened -= 1
        elif line.startswith("}") and opened:
            count = number - opened + 1
            if count > FUNCTION_LINES_MAX:
                yield opened, f"function of {count} lines; at most {FUNCTION_LINES_MAX}"
            opened = None


def white_space(file):
    for number, line in enumerate(file.lines, 1):
        if "\t" in line:
            yield number, "tab"
        if line != line.rstrip():
            yield number, "space at the end of the line"
    if file.text and (not file.text.endswith("\n") or file.text.endswith("\n\n")):
        yield len(file.lines), "a file ends with one newline"


def left_for_later(file):
    for number, line in enumerate(file.lines, 1):
        match = re.search(r"\b(TODO|FIXME|XXX)\b", line)
        if match:
            yield number, f"{match.group()}: do it, or take it out"


def purpose(file):
    """The first line of the opening comment is "name -- what the file is for"; a plug-in whose
    file begins with its kind (drop_position.c) may give its name alone (position)."""
    lines = (file.lines + ["", ""])[:2]
    first = lines[0][2:] if lines[0].strip() != "/*" else lines[1].strip()[1:]
    if not lines[0].startswith("/*"):
        yield 1, "begin with a comment: /* name -- purpose"
        return
    name = first.split(" -- ")[0].strip()
    if " -- " not in first or not (name == file.name or f"_{file.stem}".endswith(f"_{name}")):
        yield 1, f'the comment should begin "{file.name} -- " and the purpose'


def include_guard(file):
    if not file.name.endswith((".h", ".cuh")):
        return
    guard = "MOESIM_" + re.sub(r"[^A-Z0-9]", "_", file.name.upper())
    directives = [line for line in file.code if line.startswith("#")]
    if directives[:2] != [f"#ifndef {guard}", f"#define {guard}"]:
        yield 1, f"the first directives should be #ifndef {guard} and #define {guard}"
    same = [path for path in file.headers if path.endswith("/" + file.name) and path != file.path]
    if same:
        yield 1, f"{same[0]} has the same name, and so the same guard"


def include_rules(file):
    for number, kind, written in file.includes():
        target = file.resolve(written) if kind == '"' else None
        if kind == '"' and target is None:
            yield number, f'"{written}" is no header of the project; write <{written}>'
            continue
        if written == "sqlite3.h" and file.tree == "sim":
            if not (file.folder == "sim" and file.name.startswith("store")):
                yield number, "only sim/store*.c include sqlite3.h"
        if target is None:
            continue
        if file.tree == "reference" and not target.startswith("reference/"):
            yield number, f"reference/ includes nothing of {target.split('/')[0]}/"
        if file.tree == "sim" and target.startswith("kernels/"):
            yield number, "sim/ never includes kernels/"
        if file.tree == "kernels" and target.startswith("sim/"):
            yield number, "kernels/ includes nothing of sim/"
        if file.plug_in() and not allowed_in_plug_in(file, target):
            yield number, (f"a plug-in includes core structs and interfaces, "
                           f"not {target.removeprefix('sim/')}")


def allowed_in_plug_in(file, target):
    inside = target.removeprefix("sim/")
    return (target.startswith("reference/") or target.startswith(file.folder + "/")
            or inside in CORE_STRUCTS or inside in INTERFACES)


def only_the_cli_prints(file):
    if file.tree not in ("sim", "reference") or file.folder == "sim/cli":
        return
    pattern = re.compile(r"\b(?:printf|vprintf|puts|putchar|putc_unlocked|exit|_Exit|quick_exit)"
                         r"\s*\(|\b(?:fprintf|fputs|fputc|putc|fwrite|fflush)\s*\([^;]*\bstdout\b")
    for number, line in enumerate(file.code, 1):
        match = pattern.search(line)
        if match and "__attribute__" not in line:
            yield number, f"only sim/cli prints and exits: {match.group().strip()}"


def no_struct_typedef(file):
    for number, line in enumerate(file.code, 1):
        if re.search(r"\btypedef\s+(?:struct|union|enum)\b", line):
            yield number, "write struct, union or enum where it is used; no typedef"


RULES = (line_length, file_length, function_length, white_space, left_for_later, purpose,
         include_guard, include_rules, only_the_cli_prints, no_struct_typedef)


def check(file):
    for rule in RULES:
        for number, what in rule(file):
            yield f"{file.path}:{number}: {rule.__name__}: {what}"


def walk():
    for tree in TREES:
        for folder, folders, names in os.walk(os.path.join(ROOT, tree)):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "build")))
            for name in sorted(names):
                if name.endswith(SUFFIXES) and not name.startswith("."):
                    path = os.path.relpath(os.path.join(folder, name), ROOT)
                    yield path.replace(os.sep, "/")


def run(only):
    paths = list(walk())
    headers = {path for path in paths if path.endswith((".h", ".cuh"))}
    chosen = [os.path.relpath(os.path.abspath(path), ROOT) for path in only] or paths
    problems = 0
    for path in chosen:
        with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
            file = File(path, stream.read(), headers)
        for problem in check(file):
            print(problem)
            problems += 1
    print(f"tidy: {len(chosen)} files, {problems} problems")
    return 1 if problems or not chosen else 0


HEADERS = {"sim/engine.h", "sim/store.h", "sim/model.h", "sim/balance/balance.h",
           "sim/route/route.h", "sim/net/net.h", "sim/net/queue.h", "kernels/moe_kernels.h",
           "reference/status.h"}
TOP = "/*\n * {name} -- an example.\n */\n"


def self_test():
    """(rule, path, text after the opening comment, must it fire?)"""
    body = "    x++;\n"
    cases = [
        (line_length, "sim/a.c", "int " + "a" * 96 + ";\n", True),
        (line_length, "sim/a.c", "int " + "a" * 95 + ";\n", False),
        (file_length, "sim/a.c", "int a;\n" * 398, True),
        (file_length, "sim/a.c", "int a;\n" * 397, False),
        (file_length, "kernels/a.cu", "int a;\n" * 500, False),
        (function_length, "sim/a.c", "int f(int x,\n      int y)\n{\n" + body * 67 + "}\n", True),
        (function_length, "sim/a.c", "int f(int x,\n      int y)\n{\n" + body * 66 + "}\n", False),
        (function_length, "sim/a.c", "Test(a, b)\n{\n" + body * 68 + "}\n", True),
        (function_length, "sim/a.c", "int t[] = {\n" + body * 90 + "};\n", False),
        (white_space, "sim/a.c", "int a;\t/* b */\n", True),
        (white_space, "sim/a.c", "int a; \n", True),
        (white_space, "sim/a.c", "int a;", True),
        (white_space, "sim/a.c", "int a;\n\n", True),
        (white_space, "sim/a.c", "int a;\n", False),
        (left_for_later, "sim/a.c", "/* TODO */\n", True),
        (left_for_later, "sim/a.c", "int a; // FIXME later\n", True),
        (left_for_later, "sim/a.c", "/* XXX */\n", True),
        (left_for_later, "sim/a.c", "int todo;\n", False),
        (include_guard, "sim/a.h", "#ifndef A_H\n#define A_H\n#endif\n", True),
        (include_guard, "sim/a.h", "#pragma once\n", True),
        (include_guard, "sim/a.h", "#ifndef MOESIM_A_H\n#define MOESIM_A_H\n#endif\n", False),
        (include_guard, "tests/model.h", "#ifndef MOESIM_MODEL_H\n#define MOESIM_MODEL_H\n", True),
        (include_rules, "sim/a.c", '#include "moe_kernels.h"\n', True),
        (include_rules, "sim/a.c", '#include "../kernels/moe_kernels.h"\n', True),
        (include_rules, "sim/a.c", '#include "status.h"\n#include "net/queue.h"\n', False),
        (include_rules, "sim/a.c", "#include <sqlite3.h>\n", True),
        (include_rules, "sim/report.c", "  # include <sqlite3.h>\n", True),
        (include_rules, "sim/store_query.c", "#include <sqlite3.h>\n", False),
        (include_rules, "sim/a.c", "/*\n#include <sqlite3.h>\n*/\n", False),
        (include_rules, "tests/test_a.c", "#include <sqlite3.h>\n", False),
        (include_rules, "sim/balance/a.c", '#include "engine.h"\n', True),
        (include_rules, "sim/balance/a.c", '#include "store.h"\n', True),
        (include_rules, "sim/balance/a.c", '#include "net/queue.h"\n', True),
        (include_rules, "sim/balance/a.c", '#include "balance.h"\n#include "model.h"\n', False),
        (include_rules, "sim/balance/a.c", '#include "route/route.h"\n', False),
        (include_rules, "sim/net/a.c", '#include "queue.h"\n', False),
        (include_rules, "sim/a.c", '#include "nowhere.h"\n', True),
        (include_rules, "reference/a.c", '#include "../sim/model.h"\n', True),
        (include_rules, "reference/a.c", '#include "model.h"\n', True),
        (include_rules, "reference/a.c", '#include "status.h"\n#include <math.h>\n', False),
        (include_rules, "kernels/a.cu", '#include "../sim/model.h"\n', True),
        (only_the_cli_prints, "sim/a.c", '    printf("x");\n', True),
        (only_the_cli_prints, "sim/a.c", "    exit(1);\n", True),
        (only_the_cli_prints, "sim/a.c", '    fputs("x", stdout);\n', True),
        (only_the_cli_prints, "reference/a.c", '    puts("x");\n', True),
        (only_the_cli_prints, "sim/a.c", '    snprintf(a, 2, "exit(1)"); /* exit(1) */\n', False),
        (only_the_cli_prints, "sim/a.c", '    fprintf(file, "x");\n    on_exit_do();\n', False),
        (only_the_cli_prints, "sim/cli/a.c", '    printf("x");\n    exit(1);\n', False),
        (no_struct_typedef, "sim/a.c", "typedef struct a { int b; } a;\n", True),
        (no_struct_typedef, "sim/a.c", "typedef enum { A } a;\n", True),
        (no_struct_typedef, "sim/a.c", "typedef double real;\n", False),
        (no_struct_typedef, "sim/a.c", "/* typedef struct a a; */\n", False),
    ]
    whole = [
        (purpose, "sim/a.c", "int a;\n", True),
        (purpose, "sim/a.c", "/* A file. */\n", True),
        (purpose, "sim/a.c", "/*\n * b.c -- another file.\n */\n", True),
        (purpose, "sim/a.c", "// a.c -- a file.\n", True),
        (purpose, "sim/a.c", "/*\n * a.c -- a file.\n */\n", False),
        (purpose, "sim/a.c", "/* a -- a file. */\n", False),
        (purpose, "sim/route/drop_late.c", "/* late -- a policy. */\n", False),
        (purpose, "sim/route/drop_late.c", "/* ate -- a policy. */\n", True),
    ]
    whole += [(rule, path, TOP.format(name=path.rsplit("/", 1)[-1]) + text, fires)
              for rule, path, text, fires in cases]
    silent = 0
    for rule, path, text, fires in whole:
        found = list(rule(File(path, text, HEADERS)))
        if bool(found) != fires:
            silent += 1
            print(f"{rule.__name__} {'is silent' if fires else 'cries wolf'} on {path}:\n{text}")
    untested = {rule for rule in RULES} - {rule for rule, _, _, fires in whole if fires}
    for rule in untested:
        print(f"{rule.__name__} has no case that it must report")
    print(f"tidy: {len(whole)} cases, {silent + len(untested)} problems")
    return 1 if silent or untested else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(self_test() if arguments == ["--self-test"] else run(arguments))
