"""Changes one thing of what was read, so that a check must fail: the proof that it can."""

import copy
import dataclasses
from functools import partial

from course import Course
from topics import Codec


def broken(course, name):
    """Returns another course, with one thing changed."""
    topics = {topic: list(records) for topic, records in course.topics.items()}
    res = Course(topics, copy.deepcopy(course.report), dict(course.held))
    BREAKS[name][1](course, res)
    return res


def unreadable(course):
    """Names, and bytes that are a record of the table but for one thing."""
    value = Codec("table").encode(last_update(course).value)
    yield "other-schema", value[:2] + bytes([value[2] ^ 1]) + value[3:]
    yield "no-header", value[10:]
    yield "bytes-behind", value + b"\0"


def change(res, record, change):
    """Changes the value of a record by a function, or leaves the record out, if that is None."""
    records = res.topics[record.topic]
    at = next(i for i, it in enumerate(records) if it is record)
    if change is None:
        del records[at]
        return
    value = copy.deepcopy(record.value)
    change(value)
    records[at] = dataclasses.replace(record, value=value)


def last_update(course):
    """The last record of the table that is not its row's first."""
    seen, res = set(), None
    for it in course.topics["table"]:
        res = it if it.key in seen else res
        seen.add(it.key)
    return res


def first_child(course):
    """A range that a split has made, and that is not the first of its parts."""
    for before, generation in zip(course.generations, course.generations[1:]):
        for it in generation.records:
            if it.value and it.value["source"] == "NONE" and it.key not in before.ranges:
                return it
    raise ValueError("nothing was split")


def commit(course):
    return next(it for it in course.topics["assignment"] if it.value and it.value["source"] == "NODE")


def plan_of_start(course):
    return course.plans[course.starts[-1].value["plan"]]


def drop_update(course, res):
    change(res, last_update(course), None)


def drop_entry(course, res):
    it = last_update(course)
    for node, held in course.held.items():
        entries = dict(held.entries)
        if entries.pop((it.value["after"], it.key), None) is not None:
            res.held[node] = dataclasses.replace(held, entries=entries)
            return
    raise ValueError("nobody holds it")


def drop_answer(course, res):
    node, held = next((node, held) for node, held in course.held.items() if held.served)
    served = dict(held.served)
    served.popitem()
    res.held[node] = dataclasses.replace(held, served=served)


def change_payload(course, res):
    node, held = next((node, held) for node, held in course.held.items() if held.entries)
    entries = dict(held.entries)
    name, (partition, offset, payload) = next(iter(entries.items()))
    entries[name] = (partition, offset, payload[::-1] + b"!")
    res.held[node] = dataclasses.replace(held, entries=entries)


def serve_twice(course, res):
    one, other = [it for it in sorted(course.held) if course.held[it].intervals][:2]
    held = course.held[other]
    res.held[other] = dataclasses.replace(held, intervals=held.intervals + course.held[one].intervals[:1])


def drop_range(course, res):
    change(res, first_child(course), None)


def widen_range(course, res):
    change(res, first_child(course), lambda it: it.update(range_end=b""))


def keep_epoch(course, res):
    change(res, commit(course), lambda it: it.update(epoch=it["epoch"] - 1))


def drop_queries(course, res):
    done = course.ticks[len(course.ticks) // 2].value["tick"]
    for span in done["spans"]:
        for it in course.topics["query_log"]:
            if (
                span["topic"] == "query_log"
                and it.partition == span["partition"]
                and span["from"] <= it.offset < span["to"]
            ):
                change(res, it, None)
                return
    raise ValueError("nothing was asked")


def open_box(course, res):
    def later(it):
        it["tick"]["spans"][0]["from"] += 1

    change(res, course.ticks[len(course.ticks) // 2], later)


def drop_tick(course, res):
    change(res, course.ticks[len(course.ticks) // 2], None)


def start_twice(course, res):
    at = res.topics["migrate_range"].index(course.starts[-1])
    res.topics["migrate_range"].insert(at, course.starts[-1])


def start_elsewhere(course, res):
    change(res, course.starts[-1], lambda it: it.update(source_epoch=it["source_epoch"] + 1))


def drop_commit(course, res):
    change(res, commit(course), None)


def drop_ready(course, res):
    those = course.statuses[commit(course).value["migration"]]
    change(res, next(it for it in those if it.value["phase"] == "READY"), None)


def drop_end(course, res):
    change(res, course.ending(course.starts[-1].value["migration"]), None)


def drop_plan(course, res):
    change(res, plan_of_start(course), None)


def drop_citation(course, res):
    start = course.starts[-1].value["range_start"]

    def without(it):
        it["rests_on"] = [cite for cite in it["rests_on"] if cite["range_start"] != start]

    change(res, plan_of_start(course), without)


def change_citation(course, res):
    def other(it):
        it["rests_on"][0]["reads"]["mean30"][5] += 1

    change(res, plan_of_start(course), other)


def cite_older(course, res):
    def older(it):
        it["rests_on"][0]["tick"] -= 1

    change(res, plan_of_start(course), older)


def heat_after_plan(course, res):
    """What is cited was published by the tick after the plan's."""
    plan = plan_of_start(course)
    start = course.starts[-1].value["range_start"]
    cite = next(it for it in plan.value["rests_on"] if it["range_start"] == start)
    heats = res.topics["heatmap"]
    at = next(
        i
        for i, it in enumerate(heats)
        if it.key == cite["range_start"] and it.value and it.value["tick"] == cite["tick"]
    )
    after = course.done_stamps[course.committed_by(plan) + 1]
    heats[at] = dataclasses.replace(heats[at], stamp=after)


def change_figure(path, course, res):
    *way, field = path.split(".")
    at = res.report
    for name in way:
        at = at[int(name) if name.isdigit() else name]
    value = at[field]
    if isinstance(value, str):
        at[field] = value + "00"
    else:
        at[field] = value * 1.02 + 0.01 if isinstance(value, float) else (value or 0) + 1


FIGURES = {
    "overload_node_seconds.measured": "overload",
    "nodes.0.capacity_us_per_s": "overload",
    "nodes.0.load_mean": "overload",
    "nodes.0.load_max": "overload",
    "nodes.0.overload_node_seconds": "overload",
    "ticks": "counts",
    "plans": "counts",
    "splits": "counts",
    "joins": "counts",
    "ranges": "counts",
    "queries.sent": "counts",
    "queries.answered": "counts",
    "updates.sent": "counts",
    "migrations.complete": "counts",
    "migrations.failed": "counts",
    "migrations.bytes": "counts",
    "moves.0.source": "counts",
    "moves.0.range_start": "counts",
    "moves.0.outcome": "counts",
    "moves.0.bytes": "counts",
    "moves.0.tick": "counts",
    "moves.0.active_after_ms": "counts",
    "verify.entries": "counts",
    "verify.missing": "counts",
}

# What is changed: by whom it is to be found, and how.
BREAKS = {
    "drop-update": ("index", drop_update),
    "drop-entry": ("index", drop_entry),
    "drop-answer": ("index", drop_answer),
    "change-payload": ("index", change_payload),
    "serve-twice": ("index", serve_twice),
    "drop-range": ("tiling", drop_range),
    "widen-range": ("tiling", widen_range),
    "keep-epoch": ("tiling", keep_epoch),
    "drop-queries": ("boxes", drop_queries),
    "open-box": ("boxes", open_box),
    "drop-tick": ("boxes", drop_tick),
    "start-twice": ("moves", start_twice),
    "start-elsewhere": ("moves", start_elsewhere),
    "drop-commit": ("moves", drop_commit),
    "drop-ready": ("moves", drop_ready),
    "drop-end": ("moves", drop_end),
    "drop-plan": ("citations", drop_plan),
    "drop-citation": ("citations", drop_citation),
    "change-citation": ("citations", change_citation),
    "cite-older": ("citations", cite_older),
    "heat-after-plan": ("citations", heat_after_plan),
    **{f"figure:{path}": (finder, partial(change_figure, path)) for path, finder in FIGURES.items()},
}
