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
        if args.breaks == "each":
            return each(course)
        if args.breaks is not None:
            course = breaks.broken(course, args.breaks)
    except (topics.Unreadable, held.Unsettled, breaks.Unbreakable, OSError, ValueError) as err:
        print(f"reader: {err}", file=sys.stderr)
        return 2
    return int(any(check(course).values()))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap-servers", required=True, metavar="HOST:PORT")
    parser.add_argument("--prefix", required=True, help="of the topics, as the demonstration says")
    parser.add_argument("--report", required=True, metavar="FILE.json")
    parser.add_argument("--break", dest="breaks", metavar="NAME", choices=[*breaks.BREAKS, "each"])
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
    print(
        f"{'read':10} {len(records)} topics, {count} records to their last stable offsets, each by the schema it names"
    )
    return Course(records, report, said)


def check(course):
    """Tells what holds and what does not; returns the faults of each check."""
    res = {}
    for name, one in CHECKS.items():
        line, faults = one(course)
        print(f"{name:10} {line}{f'; {len(faults)} FAULTS' if faults else ''}", flush=True)
        for fault in faults[:FAULTS_MAX]:
            print(f"{name}: {fault}", file=sys.stderr)
        if len(faults) > FAULTS_MAX:
            print(f"{name}: and {len(faults) - FAULTS_MAX} more", file=sys.stderr)
        res[name] = faults
    return res


def each(course):
    """Changes one thing at a time; each change must be found, and nothing may be before it. Returns the status."""
    before = check(course)
    unfound = []
    for name, value in breaks.unreadable(course):
        try:
            topics.Codec("table").decode(value)
            unfound.append(f"{name} was read")
        except topics.Unreadable as err:
            print(f"  {name}: read: {err}")
    for name, it in breaks.BREAKS.items():
        faults = CHECKS[it.finder](breaks.broken(course, name))[1]
        found = next(
            (fault for fault in faults if it.words in fault and fault not in before[it.finder]), None
        )
        print(f"  {name}: {it.finder}: {found or 'NOT FOUND'}")
        unfound += [] if found else [f"{name} was not found by {it.finder}, which says {faults[:2]}"]
    for it in unfound:
        print(it, file=sys.stderr)
    return int(bool(unfound or any(before.values())))


if __name__ == "__main__":
    sys.exit(main())
