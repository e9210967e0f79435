#!/usr/bin/env python3
"""Runs every process of Isotherm under load on a real Kafka, and draws what they take over time.

  benches/hour.py [--seconds 3600] [--kafka HOST:PORT] [--out FOLDER]

Starts a planner (tick 1 s), four workers with capacities 1:2:3:4, two channels and two routers as a
user would, plays a load of 0.55 of them all, and looks at each of them every ten seconds: resident
memory, CPU, the lag of ticks and of channels. Writes hour.csv and hour.svg, prints a table, and ends
with `isotherm verify`. A process that ends is started again, as in docker/compose.yaml, and counted.
Status 1: a read failed, the index differs, memory grew by more than a tenth from the second quarter
to the last, or a lag at the end was above its bound.

Needs nothing but Python, a release build, and docker/kafka where no Kafka is given.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKERS = 4
CHANNELS = 2
ROUTERS = 2
READ_US, WRITE_US = 500, 1000
KEYS = 20_000
SHARE = 0.55
# A lag above these at the end is a process that does not keep up.
TICK_LAG_MAX_S = 5.0
CHANNEL_LAG_MAX_ROWS = 10_000
GROWTH_MAX = 0.10


def arguments():
    it = argparse.ArgumentParser(usage="benches/hour.py [options]", description=__doc__.splitlines()[0])
    it.add_argument("--seconds", type=int, default=3600)
    it.add_argument("--every", type=float, default=10.0, help="seconds from one look to the next")
    it.add_argument("--kafka", help="a Kafka that is there; otherwise docker/kafka brings one up")
    it.add_argument("--out", type=pathlib.Path, default=ROOT / "target" / "hour")
    it.add_argument("--scenario", default="moving-hotspot")
    it.add_argument("--reads-per-s", type=int, default=1000)
    it.add_argument("--writes-per-s", type=int, default=100)
    it.add_argument("--port", type=int, default=27000, help="the first port that processes listen on")
    it.add_argument("--isotherm", type=pathlib.Path, default=ROOT / "target" / "release" / "isotherm")
    return it.parse_args()


class Processes:
    """All that was started, each by its name, with its address."""

    def __init__(self, args, kafka, data):
        self.args, self.data = args, data
        self.env = dict(
            os.environ,
            ISOTHERM__KAFKA__BOOTSTRAP_SERVERS=kafka,
            ISOTHERM__KAFKA__PREFIX=f"hour-{int(time.time())}-",
            ISOTHERM__PLANNER__MODE="auto",
            ISOTHERM__PLANNER__TICK="1s",
            ISOTHERM__PLANNER__BIRTH_NODES=str(WORKERS),
            ISOTHERM__PLANNER__KEY_FIRST="0x0000000000000000",
            ISOTHERM__PLANNER__KEY_LAST=f"0x{KEYS:016x}",
            ISOTHERM__COSTS__READ_US=str(READ_US),
            ISOTHERM__COSTS__WRITE_US=str(WRITE_US),
            ISOTHERM__WORKER__DIR=str(data),
            ISOTHERM__WORKER__MEMORY_BYTES=str(128 << 20),
        )
        self.all = {}
        self.commands = {}
        self.restarts = 0
        self.ports = args.port

    def run(self, *command):
        subprocess.run([self.args.isotherm, *command], env=self.env, check=True, stdout=subprocess.DEVNULL)

    def start(self, name, *command, **env):
        address = f"127.0.0.1:{self.ports}"
        self.ports += 1
        full = dict(self.env, **env)
        kind = command[0].upper()
        full[f"ISOTHERM__{kind}__LISTEN"] = address
        self.commands[name] = (command, full)
        self.all[name] = (self.spawn(name), address)
        return address

    def spawn(self, name):
        command, env = self.commands[name]
        log = open(self.args.out / f"{name}.log", "a")
        return subprocess.Popen([self.args.isotherm, *command], env=env, stdout=log, stderr=log)

    def restart_ended(self):
        for name, (process, address) in self.all.items():
            if process.poll() is not None:
                print(f"{name} ended with {process.returncode}, and is started again", flush=True)
                self.restarts += 1
                self.all[name] = (self.spawn(name), address)

    def start_all(self):
        self.run("topics", "apply", "--replication-factor", "1")
        self.start("planner", "planner")
        load = self.args.reads_per_s * READ_US + self.args.writes_per_s * WRITE_US
        unit = load / SHARE / sum(range(1, WORKERS + 1))
        for i in range(1, WORKERS + 1):
            self.start(f"worker-{i}", "worker", "--node-id", f"n{i}", "--capacity", str(int(unit * i)))
        for i in range(1, CHANNELS + 1):
            self.start(f"channel-{i}", "channel", ISOTHERM__CHANNEL__MEMBER=f"c{i}")
        return [self.start(f"router-{i}", "router") for i in range(1, ROUTERS + 1)]

    def stop(self):
        for process, _ in self.all.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        late = []
        for name, (process, _) in self.all.items():
            try:
                if process.wait(60) != 0:
                    late.append(f"{name} ended with {process.returncode}")
            except subprocess.TimeoutExpired:
                process.kill()
                late.append(f"{name} did not end within a minute")
        return late


def get(address, path, within=2.0):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=within) as answer:
        return answer.read().decode()


def await_ready(address, within=120.0):
    end = time.monotonic() + within
    while True:
        try:
            get(address, "/readyz")
            return
        except OSError:
            if end < time.monotonic():
                sys.exit(f"{address} is not ready after {within:.0f} s")
            time.sleep(0.2)


def metric(text, name):
    """The sum of a metric over its attributes; None if it is not there."""
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found)) if found else None


def looked_at(pid):
    """Resident bytes and CPU seconds of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    resident = int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1]) << 10
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return resident, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def look(processes, elapsed):
    row = {"elapsed_s": round(elapsed, 1)}
    for name, (process, address) in processes.all.items():
        row[f"{name} bytes"], row[f"{name} cpu_s"] = looked_at(process.pid)
        if name.startswith(("planner", "channel")):
            try:
                text = get(address, "/metrics")
            except OSError:
                text = ""
            one = "isotherm_planner_tick_lag_seconds" if name == "planner" else "isotherm_channel_lag"
            row[f"{name} lag"] = metric(text, one)
    return row


def mean(values):
    return sum(values) / len(values) if values else 0.0


def quarters(rows, column):
    """The mean of a column in the second quarter of the run, and in the last."""
    values = [it[column] for it in rows if it.get(column) is not None]
    n = len(values)
    return mean(values[n // 4 : n // 2]), mean(values[n - n // 4 :])


COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442", "#000000"]


def svg(rows, names):
    """Two panels over time: resident memory of each process, and lags."""
    width, height, left, top, gap = 900, 220, 70, 30, 60
    end = max(it["elapsed_s"] for it in rows) or 1
    parts = []

    def panel(at, title, unit, lines, least):
        high = max([least] + [v for _, values in lines for v in values if v is not None]) * 1.1
        x = lambda s: left + (width - left - 170) * s / end
        y = lambda v: at + height - height * v / high
        parts.append(f'<text x="{left}" y="{at - 10}" font-weight="bold">{title}</text>')
        for i in range(5):
            v = high * i / 4
            parts.append(f'<line x1="{left}" x2="{x(end):.0f}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#ddd"/>')
            parts.append(f'<text x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.3g} {unit}</text>')
        for i in range(7):
            s = end * i / 6
            parts.append(f'<text x="{x(s):.0f}" y="{at + height + 16}" text-anchor="middle">{s / 60:.0f} min</text>')
        for i, (name, values) in enumerate(lines):
            colour = COLOURS[i % len(COLOURS)]
            points = [f"{x(r['elapsed_s']):.1f},{y(v):.1f}" for r, v in zip(rows, values) if v is not None]
            parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(points)}"/>')
            parts.append(f'<text x="{width - 160}" y="{at + 14 + 18 * i}" fill="{colour}">{name}</text>')

    memory = [(it, [row[f"{it} bytes"] / 2**20 for row in rows]) for it in names]
    panel(top, "resident memory", "MiB", memory, 1)
    lags = [("tick, s", [row["planner lag"] for row in rows])]
    panel(top + height + gap, "from the end of a tick to its commit", "s", lags, 1)
    channels = [(it, [row[f"{it} lag"] for row in rows]) for it in names if it.startswith("channel")]
    panel(top + 2 * (height + gap), "rows that a channel has yet to read", "", channels, 10)
    whole = top + 3 * (height + gap)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{whole}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    for old in args.out.glob("*.log"):
        old.unlink()
    kafka = args.kafka
    if kafka is None:
        kafka = subprocess.run([ROOT / "docker/kafka", "up"], check=True, capture_output=True, text=True).stdout.strip()
    faults, rows, load = [], [], None
    with tempfile.TemporaryDirectory(prefix="hour-") as data:
        processes = Processes(args, kafka, pathlib.Path(data))
        try:
            routers = processes.start_all()
            play = ["load", "--scenario", args.scenario, "-o", "json", "--keys", str(KEYS)]
            for router in routers:
                await_ready(router)
                play += ["--router", router]
            # Rows ask for capacity too: they come first, and all of them are there before the load begins.
            processes.run(*play, "--fill", "--duration", "1s", "--reads-per-s", "1", "--writes-per-s", "1")
            processes.run("verify")
            play += ["--duration", f"{args.seconds}s"]
            play += ["--reads-per-s", str(args.reads_per_s), "--writes-per-s", str(args.writes_per_s)]
            with open(args.out / "load.json", "w") as out, open(args.out / "load.log", "w") as log:
                load = subprocess.Popen([args.isotherm, *play], env=processes.env, stdout=out, stderr=log)
            begun = time.monotonic()
            while load.poll() is None:
                time.sleep(args.every)
                processes.restart_ended()
                rows.append(look(processes, time.monotonic() - begun))
            if load.returncode != 0:
                faults.append(f"isotherm load ended with {load.returncode}")
            verified = subprocess.run([args.isotherm, "verify"], env=processes.env, capture_output=True, text=True)
            print(verified.stdout, end="")
            if verified.returncode != 0:
                faults.append(f"isotherm verify ended with {verified.returncode}: {verified.stderr.strip()[-400:]}")
            migrations = subprocess.run(
                [args.isotherm, "tail", "migration_status", "--no-follow", "-o", "jsonl"],
                env=processes.env, capture_output=True, text=True, check=True,
            ).stdout
        finally:
            if load is not None and load.poll() is None:
                load.kill()
            faults += processes.stop()
            if args.kafka is None:
                subprocess.run([ROOT / "docker/kafka", "down"], check=False, stdout=subprocess.DEVNULL)

    names = list(processes.all)
    with open(args.out / "hour.csv", "w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    (args.out / "hour.svg").write_text(svg(rows, names))

    print(f"{'process':<12} {'MiB, 2nd quarter':>17} {'last quarter':>13} {'growth':>7} {'peak':>6} {'CPU':>6}")
    for name in names:
        column = f"{name} bytes"
        before, after = quarters(rows, column)
        peak = max(it[column] for it in rows)
        cpu = (rows[-1][f"{name} cpu_s"] - rows[0][f"{name} cpu_s"]) / max(rows[-1]["elapsed_s"] - rows[0]["elapsed_s"], 1)
        growth = after / before - 1
        print(f"{name:<12} {before / 2**20:17.1f} {after / 2**20:13.1f} {growth:7.1%} {peak / 2**20:6.0f} {cpu:6.1%}")
        if GROWTH_MAX < growth:
            faults.append(f"the memory of {name} grew by {growth:.1%}")
    for name in [it for it in names if f"{it} lag" in rows[0]]:
        lags = sorted(it[f"{name} lag"] for it in rows if it[f"{name} lag"] is not None)
        last = rows[-1][f"{name} lag"]
        unit = "s" if name == "planner" else "rows"
        if not lags or last is None:
            faults.append(f"{name} does not tell its lag")
            continue
        print(f"lag of {name}: median {lags[len(lags) // 2]:.3g}, greatest {lags[-1]:.3g}, at the end {last:.3g} {unit}")
        if (TICK_LAG_MAX_S if name == "planner" else CHANNEL_LAG_MAX_ROWS) < last:
            faults.append(f"the lag of {name} is {last:.3g} {unit} at the end")
    told = [json.loads(it) for it in migrations.splitlines()]
    ended = {"COMPLETE": set(), "FAILED": set()}
    for record in told:
        value = record.get("value", record)
        if value.get("status") in ended:
            ended[value["status"]].add(value.get("migration", value.get("migration_id")))
    print(f"started again: {processes.restarts}")
    print(f"moves: {len(ended['COMPLETE'])} complete, {len(ended['FAILED'])} failed")
    loaded = (args.out / "load.json").read_text().strip()
    print(loaded)
    if gone := json.loads(loaded)["vanished"]:
        faults.append(f"{gone} reads were answered that a row was not there which had been read before")
    for it in faults:
        print(f"benches/hour.py: {it}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
