#!/usr/bin/env python3
"""Kills sweeps at random and looks at what is lost, which has to be nothing.

Usage: sweep_kill.py MOESIM SOURCE [--kills N] [--points N] [--efficiency] [--seed N]

A study is run through by one process, by two ranks and by four; the tables have to be equal row for
row, run_origin aside. Then it is started again and again on one, two or four ranks and killed with
SIGKILL, all processes or one rank, when a random number of further points is stored. Every point that
was stored has to be there afterwards, and the last, undisturbed start has to simulate exactly those
that miss. --efficiency prints, in place of this, how well two workers share a longer study.
"""
import argparse
import glob
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

ENVIRONMENT = dict(
    os.environ,
    OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    OMPI_MCA_btl_vader_single_copy_mechanism="none",  # needs rights that containers take away
    OMPI_MCA_mpi_yield_when_idle="1",
)


def fail(text):
    sys.exit(f"sweep_kill: {text}")


def write_study(path, source, num_points, steps):
    seeds = ", ".join(str(seed) for seed in range(1, num_points // 4 + 1))
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            "version: 1\n"
            f"scenario: {source}/scenarios/studies/router_lab_training_8xh100.yaml\n"
            f"set: {{trace.steps: {steps}, trace.tokens_per_rank: 64, trace.batching: shuffled}}\n"
            "points:\n"
            "  - {placement.strategy: static}\n"
            "  - {placement.strategy: eplb, placement.redundant_experts: 8, "
            "placement.rebalance_interval_steps: 2}\n"
            "vary:\n"
            f"  seed: [{seeds}]\n"
            "  routing.capacity_factor: [0, 1.5]\n")


class Sweep:
    def __init__(self, moesim, study, has_mpi):
        self.moesim = moesim
        self.study = study
        self.has_mpi = has_mpi

    def command(self, results, ranks, threads=1):
        own = [self.moesim, "sweep", self.study, "-o", results, "--threads", str(threads), "--json"]
        if ranks == 1:
            return own
        return ["mpirun", "-np", str(ranks), "--oversubscribe", "--bind-to", "none"] + own

    def start(self, results, ranks, threads=1):
        environment = dict(ENVIRONMENT)
        if ranks > 1:  # Open MPI leaks
            environment["ASAN_OPTIONS"] = "detect_leaks=0"
        return subprocess.Popen(self.command(results, ranks, threads), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=environment,
                                start_new_session=True)

    def run(self, results, ranks, threads=1):
        process = self.start(results, ranks, threads)
        out, err = process.communicate()
        if process.returncode != 0:
            fail(f"{ranks} ranks: exit code {process.returncode}\n{err}")
        return json.loads(out)


def tables(path):
    """Every table as its rows in the order in which they are stored."""
    database = sqlite3.connect(path)
    names = [name for (name,) in database.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    content = {name: database.execute(f"SELECT * FROM {name}").fetchall()
               for name in names if name != "run_origin"}
    database.close()
    return content


def compare(name, content, wanted):
    for table, rows in wanted.items():
        if content[table] != rows:
            fail(f"{name}: table {table} differs: {len(content[table])} rows, expected {len(rows)}")


def stored(results, mode="ro"):
    """The points on disk now, in the results and the files of ranks; None: somebody writes."""
    ids = set()
    for path in [results] + glob.glob(results + ".rank-*"):
        if path.endswith("-journal") or not os.path.exists(path):
            continue
        try:
            wait_s = 0 if mode == "ro" else 10  # after a kill nobody else may hold it for long
            database = sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=wait_s)
            ids.update(run for (run,) in database.execute(
                "SELECT run_id FROM run WHERE complete = 1"))
            database.close()
        except sqlite3.Error as problem:
            if "no such table" not in str(problem):  # else killed before it was a results file
                if mode == "rw":
                    fail(f"{path}: {problem}")
                return None
    return ids


def ranks_of(group, moesim):
    """The moesim processes of a process group."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            pid = int(path.split("/")[2])
            if os.path.realpath(f"/proc/{pid}/exe") == os.path.realpath(moesim) and \
                    int(fields[3]) == group:  # its session
                found.append(pid)
        except (OSError, IndexError):
            pass
    return found


def kill(process, moesim, everything):
    pids = ranks_of(process.pid, moesim)
    if everything or not pids:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        pids = [random.choice(pids)]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.communicate()
    while ranks_of(process.pid, moesim):
        pass  # mpirun ends the others when it sees that one is gone


def kill_once(sweep, results, ranks, further, everything):
    """Returns what was on disk when the sweep was killed, or None if it came to its end first."""
    before = len(stored(results) or ())
    process = sweep.start(results, ranks)
    seen = set()
    while process.poll() is None:
        now = stored(results)
        seen = seen | now if now is not None else seen
        if len(seen) >= before + further:
            kill(process, sweep.moesim, everything)
            return seen
    process.communicate()
    return None


def check_kills(sweep, directory, wanted, num_kills, num_points):
    results = os.path.join(directory, "killed.db")
    choices = (1, 2, 4) if sweep.has_mpi else (1,)
    kills = 0
    while kills < num_kills:
        ranks = random.choice(choices)
        seen = kill_once(sweep, results, ranks, random.randint(1, max(1, num_points // num_kills)),
                         random.random() < 0.5)
        if seen is None:
            for path in glob.glob(results + "*"):
                os.remove(path)  # it was done already: from the beginning
            continue
        kills += 1
        if not stored(results, "rw") >= seen:  # plays back what was being written, as moesim does
            fail(f"{len(seen)} points were on disk before kill {kills}, not all are after it")
    last = sweep.run(results, choices[-1])
    missing = num_points - len(seen)
    if last["simulated"] > missing or last["stored_before"] < len(seen):
        fail(f"{len(seen)} points were on disk, but {last['simulated']} were simulated again")
    if glob.glob(results + ".*"):
        fail(f"left behind: {glob.glob(results + '.*')}")
    compare("killed", tables(results), wanted)
    again = sweep.run(results, 1)
    if again["simulated"] != 0 or again["stored_before"] != num_points:
        fail(f"a second run simulated {again['simulated']} points")
    compare("run again", tables(results), wanted)
    print(f"{kills} kills on {', '.join(map(str, choices))} ranks: nothing lost; the last start "
          f"simulated {last['simulated']} of {num_points} points")


def check_diff(moesim, a, b, wanted):
    labels = [row[2] for row in wanted["run"]]
    for label in random.sample(labels, 5):
        done = subprocess.run([moesim, "diff", a, b, label, label], capture_output=True, text=True,
                              check=False)
        if done.returncode != 0 or "digest" not in done.stdout or "equal" not in done.stdout:
            fail(f"moesim diff {label}: {done.stdout}{done.stderr}")


def efficiency(sweep, directory):
    """Wall time, which whoever else uses the machine stretches, and CPU time, which only caches and
    hyperthreads do."""
    rows = []
    for ranks, threads in ((1, 1), (1, 2), (2, 1)):
        if ranks > 1 and not sweep.has_mpi:
            continue
        best = None
        for attempt in range(3):
            results = os.path.join(directory, f"{ranks}-{threads}-{attempt}.db")
            one = sweep.run(results, ranks, threads)
            best = one if best is None or one["wall_s"] < best["wall_s"] else best
        rows.append((ranks, threads, best))
    alone = rows[0][2]
    print("ranks,threads,wall_s,cpu_s,points_cpu_s,efficiency_wall,efficiency_cpu")
    for ranks, threads, one in rows:
        workers = ranks * threads
        print(f"{ranks},{threads},{one['wall_s']:.2f},{one['cpu_s']:.2f},{one['points_cpu_s']:.2f},"
              f"{alone['wall_s'] / workers / one['wall_s']:.3f},"
              f"{alone['cpu_s'] / one['cpu_s']:.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("moesim")
    parser.add_argument("source")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--efficiency", action="store_true")
    options = parser.parse_args()
    random.seed(options.seed)
    moesim = os.path.abspath(options.moesim)
    has_mpi = shutil.which("mpirun") is not None and \
        os.path.exists(os.path.join(os.path.dirname(moesim), "moesim_mpi.so"))
    if not has_mpi:
        print("no mpirun, or moesim was built without MPI: one process alone")
    with tempfile.TemporaryDirectory() as directory:
        study = os.path.join(directory, "study.yaml")
        write_study(study, os.path.abspath(options.source), options.points,
                    32 if options.efficiency else 2)
        sweep = Sweep(moesim, study, has_mpi)
        if options.efficiency:
            efficiency(sweep, directory)
            return
        first = os.path.join(directory, "1.db")
        if sweep.run(first, 1)["simulated"] != options.points:
            fail("one process did not simulate every point")
        wanted = tables(first)
        if len(wanted["run"]) != options.points:
            fail(f"{len(wanted['run'])} runs, expected {options.points}")
        for ranks in (2, 4) if has_mpi else ():
            results = os.path.join(directory, f"{ranks}.db")
            outcome = sweep.run(results, ranks)
            if outcome["ranks"] != ranks or outcome["simulated"] != options.points:
                fail(f"{ranks} ranks: {outcome}")
            compare(f"{ranks} ranks", tables(results), wanted)
            check_diff(moesim, first, results, wanted)
        print(f"{options.points} points: equal row for row on 1"
              f"{', 2 and 4 ranks' if has_mpi else ' rank'}")
        check_kills(sweep, directory, wanted, options.kills, options.points)


main()
