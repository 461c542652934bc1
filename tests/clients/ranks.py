"""What the clients share: their options, one process a rank, checks that are counted, reasons to skip.

A client's `work(rank)` runs in a process of its own for each rank. It opens groups of checks; this process prints a line for each group
that all ranks have left, and ends every rank when the time is over, so that no client runs for ever.
"""

import argparse
import contextlib
import faulthandler
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import sys
import time
import traceback

SKIPPED = 77
STARTING_SECONDS = 150  # importing torch from a cold disk, on every rank at once
NOTES = 4  # failures that a rank describes in a group; the others are counted


def program():
    return os.path.splitext(os.path.basename(sys.argv[0]))[0]


def skip(reason):
    print(f"{program()}: skipped: {reason}", flush=True)
    sys.exit(SKIPPED)


def parser(about, compares=False):
    """Options that every client has; `compares`: those of one whose results are held against another run's too."""
    result = argparse.ArgumentParser(description=about)
    result.add_argument("--ranks", type=int, default=0, help="how many (default: one for each GPU)")
    result.add_argument("--seconds", type=float, default=55, help="what the ranks may take once they have started (default: %(default)s)")
    result.add_argument("--json", metavar="FILE", help="write checks, library and results")
    if compares:
        result.add_argument("--against", metavar="FILE", help="compare the results with those that another run has written")
    return result


def nccl_libraries():
    """The files named libnccl* that this process has mapped."""
    with open("/proc/self/maps") as maps:
        return sorted(set(re.findall(r"/\S*/libnccl[^/\s]*", maps.read())))


class Rank:
    """A rank's own side: who it is, and what it reports."""

    def __init__(self, rank, ranks, options, shared, pipe):
        self.rank, self.ranks, self.options, self.shared = rank, ranks, options, shared
        self._pipe, self._calls, self._group = pipe, 0, None

    def ready(self):
        """From here on the time counts."""
        self._pipe.send(("ready",))

    def next_call(self):
        """A number that no other call of this run has; the same on every rank if all ask in the same order."""
        self._calls += 1
        return self._calls

    @contextlib.contextmanager
    def group(self, name):
        """Checks that are reported in one line. An exception is a check that failed, and the next group goes on."""
        self._group, self._checks, self._wrong, self._notes = name, 0, 0, []
        self._pipe.send(("begin", name))
        begin = time.monotonic()
        try:
            yield
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            mine = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(f"{program()}.py")]
            line = (mine[-1] if mine else where).lineno
            self.check(False, f"line {line}: {type(error).__name__}: {' '.join(str(error).split())[:600]}")
        self._pipe.send(("end", name, self._checks, self._wrong, self._notes, time.monotonic() - begin))
        self._group = None

    def check(self, right, what):
        self._checks += 1
        if right:
            return
        self._wrong += 1
        if len(self._notes) < NOTES:
            self._notes.append(what() if callable(what) else what)

    def result(self, key, value):
        """Something that goes into --json; the last rank that says it is heard."""
        self._pipe.send(("result", key, value))

    def line(self, text):
        """Something to print between the groups."""
        self._pipe.send(("line", text))


def _enter(work, rank, ranks, options, shared, pipe):
    faulthandler.register(signal.SIGUSR1, all_threads=False)
    mine = Rank(rank, ranks, options, shared, pipe)
    try:
        work(mine)
        pipe.send(("done",))
    except BaseException as error:
        pipe.send(("died", "".join(traceback.format_exception(error))[-1500:]))
        sys.exit(1)


class Team:
    """The parent's side: starts the ranks, adds up what they report, ends them in time."""

    def __init__(self, work, ranks, options, shared=None):
        self.ranks, self.options = ranks, options
        self.checks, self.wrong, self.results = 0, 0, {}
        self._groups, self._where = {}, ["starting"] * ranks
        self._ready, self._done, self._died = set(), set(), False
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(ranks):
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_enter, args=(work, rank, ranks, options, shared, theirs))
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)

    def count(self, right, what):
        """A check of the parent's own."""
        self.checks += 1
        if not right:
            self.wrong += 1
            print(f"  {what}", flush=True)

    def wait(self):
        """Until all ranks have ended, by themselves or not."""
        deadline = time.monotonic() + STARTING_SECONDS
        started = False
        open_pipes = dict(zip(self._pipes, range(self.ranks)))
        while open_pipes:
            if not started and len(self._ready) == self.ranks:
                started, deadline = True, time.monotonic() + self.options.seconds
            left = deadline - time.monotonic()
            if left <= 0:
                self._give_up("time is over")
                break
            for pipe in multiprocessing.connection.wait(list(open_pipes), timeout=left):
                rank = open_pipes[pipe]
                try:
                    self._hear(rank, pipe.recv())
                except (EOFError, ConnectionResetError):
                    del open_pipes[pipe]
                    if rank not in self._done:
                        self._processes[rank].join(2)
                        self.count(False, f"rank {rank} ended with status {self._processes[rank].exitcode} in: {self._where[rank]}")
                        if not self._died:  # the others wait for it; what they have to say about that takes a moment
                            self._died, deadline = True, min(deadline, time.monotonic() + 5)
                            started = True
        self._end_processes()
        for name, said in self._groups.items():
            if said is not None:
                self._print_group(name, said)

    def _hear(self, rank, message):
        kind, *said = message
        if kind == "ready":
            self._ready.add(rank)
        elif kind == "begin":
            self._where[rank] = said[0]
        elif kind == "end":
            self._where[rank] = f"after {said[0]}"
            heard = self._groups.setdefault(said[0], {})
            heard[rank] = said[1:]
            if len(heard) == self.ranks:
                self._print_group(said[0], heard)
                self._groups[said[0]] = None
        elif kind == "result":
            self.results[said[0]] = said[1]
        elif kind == "line":
            print(said[0], flush=True)
        elif kind == "done":
            self._done.add(rank)
        elif kind == "died":
            print(f"  rank {rank}: {said[0]}", flush=True)

    def _print_group(self, name, heard):
        checks, wrong = sum(said[0] for said in heard.values()), sum(said[1] for said in heard.values())
        seconds = max(said[3] for said in heard.values())
        missing = "" if len(heard) == self.ranks else f" (only {len(heard)} of {self.ranks} ranks came through)"
        self.checks += checks
        self.wrong += wrong
        print(f"{name}: {checks} checks, {wrong} wrong, {seconds:.1f} s{missing}", flush=True)
        for rank, said in sorted(heard.items()):
            for note in said[2]:
                print(f"  rank {rank}: {note}", flush=True)

    def _give_up(self, why):
        for rank, process in enumerate(self._processes):
            if process.is_alive():
                self.count(False, f"rank {rank}: {why} in: {self._where[rank]}; its stack is on standard error")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGUSR1)
        time.sleep(1)

    def _end_processes(self):
        for process in self._processes:
            process.join(10 if not self._died else 1)
            if process.is_alive():
                self.count(process.pid is None, f"rank {self._processes.index(process)} does not end by itself")
                process.kill()
                process.join()

    def finish(self):
        """Writes --json, prints the last line and ends this process."""
        if self.options.json:
            with open(self.options.json, "w") as file:
                json.dump({"program": program(), "ranks": self.ranks, "checks": self.checks, "wrong": self.wrong, "results": self.results}, file, indent=1)
        print(f"{program()}: {self.checks} checks, {self.wrong} wrong", flush=True)
        sys.exit(1 if self.wrong else 0)


def read_other(options, ranks):
    """The results that --against names, or none."""
    if not getattr(options, "against", None):
        return None
    with open(options.against) as file:
        other = json.load(file)
    if other["program"] != program() or other["ranks"] != ranks:
        sys.exit(f"{options.against} is of {other['program']} with {other['ranks']} ranks: expected {program()} with {ranks}")
    return other["results"]
