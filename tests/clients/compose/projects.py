#!/usr/bin/env python3
"""Drives applications and single containers that bind files of this machine, and compares what two engines make of it.

    projects.py --host H                 with what a Docker Engine did, as it is kept in expected.json and bindcases/expected
    projects.py --host H --host H2       H2 with H, one after the other
    projects.py --host H --bless         keeps what H does as the expectation: H must be a Docker Engine
    projects.py --list                   what there is

SUITE... in the arguments does those only, `--only WORDS` those cases whose name has the words, `-o json` prints all observations.
What differs for a known reason is in projects/differences; it counts as a failure where it differs no more or differs in another way.
Must run as root, on the machine of the engines, as it looks at files, owners and mounts. The exit code is 1 where anything differs.
A few steps need a machine whose root is mounted shared, as systemd does; on others run the engine and this program by
`unshare --mount --propagation shared`."""

import argparse
import json
import os
import pathlib
import sys
import time
import uuid

from bindcases import options, published, published_dev, requests, sources, suites, targets, uses  # noqa: F401
from bindcases.engine import Engine

DIFFERENCES = pathlib.Path(__file__).resolve().parent / "projects/differences"
NOTHING = "(nothing)"
WIDTH = 160


def count(value):
    """How many single observations there are in a value."""
    return sum(map(count, value.values())) if isinstance(value, dict) and value else 1


def differences(suite, wanted, got, known, path=()):
    """Where two values differ: the names that lead there, both, and the reason where it is known."""
    where = " / ".join(path)
    reason = known.get((suite, where, json.dumps(got, ensure_ascii=False)))
    if wanted == got:
        return
    if not reason and isinstance(wanted, dict) and isinstance(got, dict):
        for key in [*wanted, *(key for key in got if key not in wanted)]:
            yield from differences(suite, wanted.get(key, NOTHING), got.get(key, NOTHING), known, (*path, str(key)))
    else:
        yield where, wanted, got, reason


def text(value, indent=""):
    """The value as JSON with what fits into a line in one line, as a person reads and compares it."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= WIDTH or not isinstance(value, (dict, list)) or not value:
        return line
    deeper = indent + " "
    if isinstance(value, list):
        return "[\n" + ",\n".join(deeper + text(inner, deeper) for inner in value) + f"\n{indent}]"
    rows = (f"{deeper}{json.dumps(key, ensure_ascii=False)}: {text(inner, deeper)}" for key, inner in value.items())
    return "{\n" + ",\n".join(rows) + f"\n{indent}}}"


def known_differences():
    """Suite, observation and what is observed instead, each to the reason."""
    known = {}
    for line in DIFFERENCES.read_text().splitlines():
        if line and not line.startswith("#"):
            suite, where, value, reason = (field.strip() for field in line.split(" | "))
            known[suite, where, value] = reason
    return known


def drive(host, names, only, show):
    """All observations on an engine: suite to step to observations."""
    engine = Engine(host, f"binds{uuid.uuid4().hex[:6]}x")
    for image in ("busybox", "nginx"):
        pulled = engine.docker("pull", "-q", image)
        if pulled.code:
            sys.exit(f"cannot pull {image} by {host}: {pulled.err.strip()}; point the engine to a registry that has it")
    seen = {}
    for name in names:
        seen[name] = suites.drive(suites.found[name], engine, only, show)
    return {name: steps for name, steps in seen.items() if steps}


def kept(driven):
    """What a Docker Engine did, as far as it was done here, too."""
    wanted = {}
    for name in driven:
        path = suites.found[name].expected
        if not path.exists():
            sys.exit(f"{path} is not there; write it by `projects.py --host tcp://ENGINE --bless {name}` with a Docker Engine")
        steps = json.loads(path.read_text())
        independent = bool(suites.found[name].steps)
        wanted[name] = {step: seen for step, seen in steps.items() if not independent or step in driven[name]}
    return wanted


def bless(seen):
    """Keeps the observations as the expectation."""
    for name, steps in seen.items():
        path = suites.found[name].expected
        path.parent.mkdir(exist_ok=True)
        if suites.found[name].steps and path.exists():
            before = json.loads(path.read_text())
            steps = {case: steps.get(case, before.get(case)) for case, _, _ in suites.found[name].steps}
            steps = {case: what for case, what in steps.items() if what is not None}
        path.write_text(text(steps) + "\n")


def report(wanted, got, complete):
    """Prints each suite's result with the rows that differ; how many do for no known reason."""
    known, failures = known_differences(), 0
    unused = set(known) if complete else set()
    for suite in got:
        rows = list(differences(suite, wanted.get(suite, {}), got[suite], known))
        unused -= {(suite, where, json.dumps(other, ensure_ascii=False)) for where, _, other, _ in rows}
        unknown = [row for row in rows if not row[3]]
        failures += len(unknown)
        known_rows = len(rows) - len(unknown)
        print(
            f"{'not ok' if unknown else 'ok'} - {suite}: {count(got[suite])} observations, {len(unknown)} differ, {known_rows} for a known reason"
        )
        for where, one, other, reason in rows:
            print(f"  {where}\n    wanted {json.dumps(one, ensure_ascii=False)}\n    got    {json.dumps(other, ensure_ascii=False)}")
            if reason:
                print(f"    known: {reason}")
    for suite, where, value in sorted(unused):
        if where.split(" / ")[0] in got.get(suite, {}):
            failures += 1
            print(f"not ok - {suite}: {where}: differs no more as projects/differences says, or in another way: {value}")
    return failures


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    parser.add_argument("--host", action="append", help="tcp:// address of an engine on this machine; default: DOCKER_HOST")
    parser.add_argument("--only", default="", metavar="WORDS")
    parser.add_argument("--bless", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("-o", dest="output", choices=["text", "json"], default="text")
    asked = parser.parse_args()
    asked.host = asked.host or [os.environ.get("DOCKER_HOST", "")]
    unknown = set(asked.suites) - set(suites.found)
    if unknown:
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(suites.found)}")
    if not asked.list and (len(asked.host) > 2 or not all(host.startswith("tcp://") for host in asked.host)):
        parser.error("name one or two engines by --host tcp://ADDRESS:PORT")
    return asked


def main():
    asked = arguments()
    names = asked.suites or list(suites.found)
    if asked.list:
        for name in names:
            print(name, *(f"  {case}" for case, _, _ in suites.found[name].steps), sep="\n")
        return 0
    if os.geteuid() != 0:
        sys.exit("run this as root: it makes files of other owners, and mounts")
    driven, times = [], []
    for host in asked.host:
        begin = time.monotonic()
        driven.append(drive(host, names, asked.only, lambda words: print(f"{words}", file=sys.stderr, flush=True)))
        times.append(time.monotonic() - begin)
    for host, seconds in zip(asked.host, times):
        print(f"# {host}: {seconds:.0f} s", file=sys.stderr)
    if asked.bless:
        bless(driven[0])
        return 0
    wanted = driven[0] if len(driven) == 2 else kept(driven[0])
    if asked.output == "json":
        rows = {suite: list(differences(suite, wanted.get(suite, {}), driven[-1][suite], known_differences())) for suite in driven[-1]}
        print(json.dumps({"wanted": wanted, "got": driven[-1], "differences": rows}, indent=1, ensure_ascii=False))
        return int(any(not row[3] for found in rows.values() for row in found))
    return int(report(wanted, driven[-1], not asked.only and not Engine(asked.host[-1], "").is_docker()) > 0)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
