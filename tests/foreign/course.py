"""What happened in a run, derived from its records alone.

planner_progress ──> ticks ─────────────────────┐
assignment ──> generations ──> maps ── by stamp ┴──> who owned what in a tick
"""

import bisect
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Generation:
    number: int
    # The index of the tick that committed it.
    tick: int
    # Records and tombstones, in their order.
    records: tuple
    # Start of each range -> its record, once the generation is whole.
    ranges: dict


class Course:
    """All that was read, and what follows from it. None of it is changed once it is made."""

    def __init__(self, topics, report, held):
        self.topics = topics
        self.report = report
        # What workers hold, by node.
        self.held = held

    @cached_property
    def ticks(self):
        """The progress records of ticks."""
        return [it for it in self.topics["planner_progress"] if it.value["tick"] is not None]

    @cached_property
    def done_stamps(self):
        return [it.stamp for it in self.ticks]

    def committed_by(self, record):
        """The index of the tick in whose transaction the planner wrote a record.

        Progress is the last record of a transaction, and the next one begins when that is committed.
        """
        return bisect.bisect_left(self.done_stamps, record.stamp)

    def tick_number(self, index):
        return self.ticks[index].value["tick"]["tick"] if index < len(self.ticks) else None

    def box_ends(self, index, topic):
        """Where the box of a tick ends, by partition."""
        spans = self.ticks[index].value["tick"]["spans"] if index < len(self.ticks) else []
        return {it["partition"]: it["to"] for it in spans if it["topic"] == topic}

    @cached_property
    def generations(self):
        """A generation is whole at its record marked `last`, or at the first record of a greater one."""
        res, pending, ranges = [], [], {}

        def end():
            nonlocal ranges, pending
            if not any(it.value for it in pending):
                return
            number = max(it.value["generation"] for it in pending if it.value)
            ranges = dict(ranges)
            for it in pending:
                if it.value is None:
                    ranges.pop(it.key, None)
                else:
                    ranges[it.key] = it
            res.append(Generation(number, self.committed_by(pending[0]), tuple(pending), ranges))
            pending = []

        for it in self.topics["assignment"]:
            if it.value and any(p.value and p.value["generation"] < it.value["generation"] for p in pending):
                end()
            pending.append(it)
            if it.value and it.value["last"]:
                end()
        end()
        return res

    def before(self, tick):
        """The last generation committed by the ticks before this index; None: there was none."""
        at = bisect.bisect_left([it.tick for it in self.generations], tick)
        return self.generations[at - 1] if at else None

    @cached_property
    def starts(self):
        return [it for it in self.topics["migrate_range"] if it.value["command"] == "START"]

    @cached_property
    def statuses(self):
        """The statuses of each migration, in their order."""
        res = {}
        for it in self.topics["migration_status"]:
            res.setdefault(it.value["migration"], []).append(it)
        return res

    def ending(self, migration):
        """The first end counts."""
        ends = (it for it in self.statuses.get(migration, []) if it.value["status"] in ("COMPLETE", "FAILED"))
        return next(ends, None)

    @cached_property
    def plans(self):
        return {it.value["plan"]: it for it in self.topics["plan"]}

    @cached_property
    def nodes(self):
        """The newest report of each node."""
        return {it.value["node_id"]: it.value for it in self.topics["node_capacity"] if it.value}

    @cached_property
    def rows(self):
        """The last record of each primary key of the table."""
        return {it.key: it for it in self.topics["table"]}

    @cached_property
    def boxed(self):
        """The queries of each tick, by index: (operation, key, cost) each."""
        res = [[] for _ in self.ticks]
        spans = {}
        for index, it in enumerate(self.ticks):
            for span in it.value["tick"]["spans"]:
                if span["topic"] == "query_log":
                    spans.setdefault(span["partition"], []).append((span["from"], span["to"], index))
        for it in self.topics["query_log"]:
            those = spans.get(it.partition, [])
            at = bisect.bisect_right(those, (it.offset, float("inf"))) - 1
            if 0 <= at and those[at][0] <= it.offset < those[at][1]:
                queries = it.value["queries"]
                res[those[at][2]].extend((query["op"], query["key"], query["cost_us"]) for query in queries)
        return res

    @cached_property
    def loads(self):
        """Of each tick, what each node was asked for, in microseconds; queries without a cost are counted."""
        res = []
        for index, queries in enumerate(self.boxed):
            generation = self.before(index) or (self.generations[0] if self.generations else None)
            sums, starts = {}, sorted(generation.ranges) if generation else []
            for _, key, cost_us in queries:
                at = bisect.bisect_right(starts, key) - 1
                if 0 <= at:
                    node = generation.ranges[starts[at]].value["node"]
                    sums[node] = sums.get(node, 0) + (cost_us or 0)
            res.append(sums)
        return res


def text(key):
    return "0x" + key.hex()


def span(value):
    end = value["range_end"]
    return f"[{text(value['range_start'])}, {text(end) if end else ''})"


def overlaps(a, b):
    """Of two records with range_start and range_end."""
    return ends_after(a["range_end"], b["range_start"]) and ends_after(b["range_end"], a["range_start"])


def ends_after(end, key):
    """An end that is empty is unbounded."""
    return not end or key < end
