#!/usr/bin/env python3
"""Recomputes what a run of `isotherm demo --stay --report FILE` claims, from its topics alone.

    topics ──> records ──> course ──┬─ tiling, boxes, moves, citations ─┐
    workers ──> held ───────────────┼─ index                            ├──> a line each; faults
    FILE ──> report ────────────────┴─ overload, counts ────────────────┘

Nothing of Isotherm is used but `schemas/`. Exit status: 0 all holds, 1 something does not, 2 it could not be read.
With `--break NAME` something of what was read is changed, so that it must not hold; with `--break each` one after
the other, and the status is 0 if each is found by the check that is to find it.
"""

import argparse
import json
import sys

import breaks
import checks
import figures
import held
import topics
from course import Course

CHECKS = {
    "tiling": checks.tiling,
    "boxes": checks.boxes,
    "moves": checks.moves,
    "citations": checks.citations,
    "overload": figures.overload,
    "counts": figures.counts,
    "index": checks.index,
}

# So many faults of a check are told.
FAULTS_MAX = 5

TABLE_WITHIN_S = 60


def main():
    args = arguments()
    try:
        course = read(args)
    except (topics.Unreadable, held.Unsettled, OSError, ValueError) as err:
        print(f"reader: {err}", file=sys.stderr)
        return 2
    if args.breaks == "each":
        return each(course)
    return check(course if args.breaks is None else breaks.broken(course, args.breaks))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap-servers", required=True, metavar="HOST:PORT")
    parser.add_argument("--prefix", required=True, help="of the topics, as the demonstration says")
    parser.add_argument("--report", required=True, metavar="FILE.json")
    parser.add_argument("--break", dest="breaks", choices=[*breaks.BREAKS, "each"])
    return parser.parse_args()


def read(args):
    with open(args.report, encoding="utf-8") as file:
        report = json.load(file)
    records = topics.read(args.bootstrap_servers, args.prefix)
    course = Course(records, report, {})
    if not course.generations:
        raise topics.Unreadable("nothing was ever assigned")
    ends = {}
    for it in records["table"]:
        ends[it.partition] = it.offset + 1
    endpoints = {node: it["endpoint"] for node, it in course.nodes.items()}
    said = held.ask(endpoints, course.generations[-1].number, ends, TABLE_WITHIN_S)
    count = sum(map(len, records.values()))
    print(f"{'read':10} {len(records)} topics, {count} records to their last stable offsets, each by the schema it names")
    return Course(records, report, said)


def check(course):
    """Tells what holds and what does not; returns the exit status."""
    status = 0
    for name, one in CHECKS.items():
        line, faults = one(course)
        print(f"{name:10} {line}{'' if not faults else f'; {len(faults)} FAULTS'}")
        for fault in faults[:FAULTS_MAX]:
            print(f"{name}: {fault}", file=sys.stderr)
        if len(faults) > FAULTS_MAX:
            print(f"{name}: and {len(faults) - FAULTS_MAX} more", file=sys.stderr)
        status |= bool(faults)
    return int(status)


def each(course):
    """Changes one thing at a time; each change must be found, and nothing may be before it."""
    status, unfound = check(course), []
    for name, (finder, _) in breaks.BREAKS.items():
        faults = CHECKS[finder](breaks.broken(course, name))[1]
        print(f"  {name}: {finder}: {faults[0] if faults else 'NOT FOUND'}")
        unfound += [] if faults else [name]
    for name in unfound:
        print(f"{name} was not found by {breaks.BREAKS[name][0]}", file=sys.stderr)
    return int(bool(status or unfound))


if __name__ == "__main__":
    sys.exit(main())
