"""Changes one thing of what was read, so that a check must say one thing: the proof that it can."""

import copy
import dataclasses
from functools import partial

from course import Course
from topics import Codec, Record


class Unbreakable(Exception):
    """Nothing was read that could be changed in this way."""


def broken(course, name):
    """Returns another course, with one thing changed."""
    topics = {topic: list(records) for topic, records in course.topics.items()}
    res = Course(topics, copy.deepcopy(course.report), dict(course.held))
    try:
        BREAKS[name].change(course, res)
    except (LookupError, StopIteration, ValueError) as err:
        raise Unbreakable(f"{name} is not possible: in this run there is nothing to be changed so") from err
    return res


def unreadable(course):
    """Names, and bytes that are a record of the table but for one thing."""
    value = Codec("table").encode(last_update(course).value)
    yield "other-schema", value[:2] + bytes([value[2] ^ 1]) + value[3:]
    yield "no-header", value[10:]
    yield "bytes-behind", value + b"\0"


# Which records are changed.


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


def last_range(course):
    return next(it for it in course.generations[0].records if not it.value["range_end"])


def commit(course):
    return next(it for it in course.topics["assignment"] if it.value and it.value["source"] == "NODE")


def ready(course):
    return next(
        it for it in course.statuses[commit(course).value["migration"]] if it.value["phase"] == "READY"
    )


def last_start(course):
    return course.starts[-1]


def last_end(course):
    return course.ending(last_start(course).value["migration"])


def last_plan(course):
    """Of the last START."""
    return course.plans[last_start(course).value["plan"]]


def middle_tick(course):
    return course.ticks[len(course.ticks) // 2]


def first_tick(course):
    return course.ticks[0]


def first_heat(course):
    return course.topics["heatmap"][0]


def boxed_queries(course):
    """A record of queries in a box of the middle."""
    for span in middle_tick(course).value["tick"]["spans"]:
        for it in course.topics["query_log"] if span["topic"] == "query_log" else ():
            if it.partition == span["partition"] and span["from"] <= it.offset < span["to"]:
                return it
    raise ValueError("nothing was asked")


# How they are changed: each returns what does it.


def drop(pick):
    return lambda course, res: replace(res, pick(course), None)


def twice(pick):
    def change(course, res):
        record = pick(course)
        records = res.topics[record.topic]
        records.insert(at(records, record), record)

    return change


def edit(pick, **fields):
    """Sets fields; to what a function makes of what is there, if it is one."""

    def change(course, res):
        record = pick(course)
        value = copy.deepcopy(record.value)
        value.update({name: it(value[name]) if callable(it) else it for name, it in fields.items()})
        replace(res, record, dataclasses.replace(record, value=value))

    return change


def stamped_after(pick):
    """The tick behind the plan of the last START has written it."""

    def change(course, res):
        record = pick(course)
        after = course.done_stamps[course.committed_by(last_plan(course)) + 1]
        replace(res, record, dataclasses.replace(record, stamp=after))

    return change


def replace(res, record, other):
    records = res.topics[record.topic]
    records[at(records, record) : at(records, record) + 1] = [] if other is None else [other]


def at(records, record):
    return next(i for i, it in enumerate(records) if it is record)


def cited(plan, start):
    return next(it for it in plan["rests_on"] if it["range_start"] == start)


def cited_heat(course):
    """The heat of the range that was started last, as its plan cites it."""
    cite = cited(last_plan(course).value, last_start(course).value["range_start"])
    heats = (it for it in course.topics["heatmap"] if it.key == cite["range_start"] and it.value)
    return next(it for it in heats if it.value["tick"] == cite["tick"])


def later_box(topic):
    """The box of a tick begins one offset later in a partition that has records."""

    def change(tick):
        span = next(it for it in tick["spans"] if it["topic"] == topic and it["from"] < it["to"])
        span["from"] += 1
        return tick

    return change


def without_citation(course, res):
    start = last_start(course).value["range_start"]
    edit(last_plan, rests_on=lambda those: [it for it in those if it["range_start"] != start])(course, res)


def other_citation(change):
    def all_of(those):
        change(those[0])
        return those

    return edit(last_plan, rests_on=all_of)


def other_destination(moves):
    for it in moves:
        it["destination"] += "x"
    return moves


def without_heat(course, res):
    start = cited_heat(course).key
    res.topics["heatmap"] = [it for it in res.topics["heatmap"] if it.key != start]


def older_generation(course, res):
    for it in course.generations[-1].records:
        if it.value:
            replace(res, it, dataclasses.replace(it, value={**it.value, "generation": 1}))


def without_row(course, res):
    row = last_update(course).key
    res.topics["table"] = [it for it in res.topics["table"] if it.key != row]


def without_writes(course, res):
    def reads(it):
        return {"queries": [query for query in it["queries"] if query["op"] != "WRITE"]}

    those = res.topics["query_log"]
    res.topics["query_log"] = [dataclasses.replace(it, value=reads(it.value)) for it in those]


def costless(queries):
    queries[0]["cost_us"] = None
    return queries


def dead_letter(course, res):
    res.topics["dead_letter"].append(Record("dead_letter", 0, 0, 0, b"table", b"?"))


def hold(change, field):
    """Changes what one worker holds of the row that was updated last."""

    def of(course, res):
        it = last_update(course)
        name = (it.value["after"], it.key)
        node = next(node for node, held in course.held.items() if name in held.entries)
        entries = dict(getattr(course.held[node], field))
        change(entries, name)
        res.held[node] = dataclasses.replace(course.held[node], **{field: entries})

    return of


def other_payload(entries, name):
    partition, offset, payload = entries[name]
    entries[name] = (partition, offset, payload + b"!")


def held_elsewhere(course, res):
    one, other = sorted(it for it in course.held if course.held[it].entries)[:2]
    name, version = next(iter(course.held[one].entries.items()))
    entries = {**course.held[other].entries, name: version}
    res.held[other] = dataclasses.replace(course.held[other], entries=entries)


def served_twice(course, res):
    one, other = sorted(it for it in course.held if course.held[it].intervals)[:2]
    intervals = course.held[other].intervals + course.held[one].intervals[:1]
    res.held[other] = dataclasses.replace(course.held[other], intervals=intervals)


def not_served(course, res):
    node = next(it for it in course.held if course.held[it].intervals)
    res.held[node] = dataclasses.replace(course.held[node], intervals=course.held[node].intervals[1:])


def figure(path, course, res):
    *way, field = path.split(".")
    at = res.report
    for name in way:
        at = at[int(name) if name.isdigit() else name]
    value = at[field]
    if isinstance(value, str):
        at[field] = value + "00"
    elif isinstance(value, float):
        at[field] = value * 1.02 + 0.01
    else:
        at[field] = (value or 0) + 1


def more_queries(course, res):
    for field in ("sent", "answered"):
        res.report["queries"][field] += 1_000_000


def without_move(course, res):
    del res.report["moves"][0]


@dataclasses.dataclass(frozen=True)
class Break:
    # The check that is to find it, and words of what it is to say.
    finder: str
    words: str
    # Of what was read, and what is to be changed in.
    change: object


BREAKS = {
    "drop-range": Break("tiling", "no range covers", drop(first_child)),
    "cut-range": Break("tiling", ", )", edit(last_range, range_end=b"\xff" * 9)),
    "widen-range": Break("tiling", "overlaps", edit(first_child, range_end=b"")),
    "other-key": Break("tiling", "the record of key", edit(first_child, range_start=lambda it: it + b"\0")),
    "keep-epoch": Break("tiling", "and had", edit(commit, epoch=lambda it: it - 1)),
    "older-generation": Break("tiling", "comes behind", older_generation),
    "drop-queries": Break("boxes", "and its box has", drop(boxed_queries)),
    "open-box": Break("boxes", ", behind", edit(middle_tick, tick=later_box("query_log"))),
    "late-box": Break(
        "boxes", "the first box begins behind", edit(first_tick, tick=later_box("node_capacity"))
    ),
    "drop-tick": Break("boxes", "comes behind", drop(middle_tick)),
    "start-twice": Break("moves", "is there twice", twice(last_start)),
    "start-nowhere": Break("moves", "no range begins", edit(last_start, range_start=lambda it: it + b"\0")),
    "start-of-other": Break("moves", "at epoch", edit(last_start, source_epoch=lambda it: it + 1)),
    "drop-start": Break("moves", "has no START", drop(last_start)),
    "commit-twice": Break("moves", "is there twice", twice(commit)),
    "give-twice": Break("moves", "is given twice", twice(first_child)),
    "commit-elsewhere": Break("moves", "is not of what its START says", edit(commit, node="elsewhere")),
    "drop-commit": Break("moves", "was not committed", drop(commit)),
    "drop-ready": Break("moves", "was not asked for", drop(ready)),
    "drop-end": Break("moves", "has come to no end", drop(last_end)),
    "drop-plan": Break("citations", "has no plan record", drop(last_plan)),
    "late-plan": Break("citations", "before its plan", stamped_after(last_plan)),
    "other-tick": Break("citations", "says tick", edit(last_plan, tick=lambda it: it - 1)),
    "other-move": Break("citations", "has chosen", edit(last_plan, moves=other_destination)),
    "drop-citation": Break("citations", "rests on no heat", without_citation),
    "other-citation": Break(
        "citations",
        "has other quantiles",
        other_citation(lambda it: it["reads"]["mean30"].__setitem__(5, -1)),
    ),
    "older-citation": Break(
        "citations", "what stood was of tick", other_citation(lambda it: it.update(tick=it["tick"] - 1))
    ),
    "late-heat": Break("citations", "stood", stamped_after(cited_heat)),
    "drop-heat": Break("citations", "nothing stood", without_heat),
    "other-heat": Break("citations", "heatmap", edit(first_heat, tick=lambda it: it + 1)),
    "no-cost": Break("overload", "have no cost", edit(boxed_queries, queries=costless)),
    "drop-update": Break("index", "the table", drop(last_update)),
    "drop-row": Break("index", "the table nothing", without_row),
    "drop-entry": Break("index", "and no worker", hold(lambda those, it: those.pop(it), "entries")),
    "other-payload": Break("index", "another payload", hold(other_payload, "entries")),
    "other-answer": Break("index", "answers reads with", hold(other_payload, "served")),
    "hold-elsewhere": Break("index", "which it is not to have", held_elsewhere),
    "serve-twice": Break("index", "and is not to", served_twice),
    "serve-not": Break("index", "and does not", not_served),
    "dead-letter": Break("counts", "lie in dead_letter", dead_letter),
    "drop-writes": Break("counts", "updates, the report", without_writes),
    "more-queries": Break("counts", "reads, the report", more_queries),
    "drop-move": Break("counts", "is not in the report", without_move),
}

# Of a report: by which check a change is found, and how it says it.
FIGURES = {
    "overload_node_seconds.measured": ("overload", "the overload area is"),
    "nodes.0.capacity_us_per_s": ("overload", "capacities"),
    "nodes.0.load_mean": ("overload", "load_mean"),
    "nodes.0.load_max": ("overload", "load_max"),
    "nodes.0.overload_node_seconds": ("overload", "overload_node_seconds"),
    "queries.sent": ("counts", "queries:"),
    "queries.answered": ("counts", "queries:"),
    "moves.0.range_start": ("counts", "is of"),
    **{
        f"{group}{field}": ("counts", f"{field} is ")
        for group, fields in [
            ("", "tick_ms ticks plans splits joins ranges"),
            ("updates.", "sent"),
            ("migrations.", "complete failed bytes"),
            ("moves.0.", "source destination outcome bytes tick active_after_ms"),
            ("verify.", "entries missing extra stale foreign gaps overlaps"),
        ]
        for field in fields.split()
    },
}
BREAKS |= {f"figure:{path}": Break(*said, partial(figure, path)) for path, said in FIGURES.items()}
