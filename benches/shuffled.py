#!/usr/bin/env python3
"""Gives each request of a trace the key of another one: what is left says nothing of what comes.

  benches/shuffled.py IN.csv.zst OUT.csv.zst [--seed 1]

Times, operations, and how often each key is asked stay. Needs the command zstd.
"""

import argparse
import random
import subprocess


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("to")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    text = subprocess.run(["zstd", "-dc", args.source], check=True, capture_output=True, text=True).stdout
    head, *rows = [it.split(",") for it in text.splitlines()]
    at = head.index("key")
    keys = [it[at] for it in rows]
    random.Random(args.seed).shuffle(keys)
    for row, key in zip(rows, keys):
        row[at] = key
    text = "\n".join(",".join(it) for it in [head, *rows]) + "\n"
    subprocess.run(["zstd", "-qf", "-o", args.to], input=text, check=True, text=True)


main()
