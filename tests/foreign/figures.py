"""Recomputes the figures of a report from the topics.

Not on any topic, and so not here: latencies, the time to the first query, when the planner knew of its
commits, lead times, and the part of the load that no split can help.
"""

from course import text
from checks import OVERLOAD_ABOVE

# Figures that rest on loads may differ by so much.
PART_MAX = 0.01

# So many reads there may be before the load begins, until the index answers.
FIRST_READS_MAX = 100


def overload(course):
    """Per tick, sum over nodes of max(0, load ÷ capacity - 0.8) × seconds; load by who owned it before the tick."""
    faults, report = [], course.report
    costless = sum(1 for queries in course.boxed for _, _, cost_us in queries if cost_us is None)
    if costless:
        faults.append(f"{costless} queries have no cost, and what they are to count is on no topic")
    capacities = {node: it["capacity_us_per_s"] for node, it in course.nodes.items()}
    tick_s = report["tick_ms"] / 1000
    parts = [{n: sums.get(n, 0) / (c * tick_s) for n, c in capacities.items()} for sums in course.loads]
    area = sum(max(0, part - OVERLOAD_ABOVE) * tick_s for tick in parts for part in tick.values())
    said = report["overload_node_seconds"]["measured"]
    if differs(area, said):
        faults.append(f"the overload area is {area:.4f} node-seconds, the report says {said:.4f}")
    faults += nodes(report, capacities, parts, tick_s)
    return f"area {area:.4f} node-seconds, the report says {said:.4f}", faults


def nodes(report, capacities, parts, tick_s):
    """The report's nodes are of the ticks until the load ended: of so many as fit all of them."""
    said = {it["node"]: it for it in report["nodes"]}
    if {n: it["capacity_us_per_s"] for n, it in said.items()} != capacities:
        return [f"the nodes have the capacities {capacities}, which the report does not say"]
    fits = []
    for count in range(len(parts), 0, -1):
        fits.append(
            [
                f"{node} has {name} {value:.4f} over {count} ticks, the report says {said[node][name]:.4f}"
                for node in said
                for name, value in of_node([tick[node] for tick in parts[:count]], tick_s).items()
                if differs(value, said[node][name])
            ]
        )
        if not fits[-1] or count * tick_s < report["duration_s"] - 2 * tick_s:
            break
    return min(fits, key=len, default=[])


def of_node(parts, tick_s):
    return {
        "load_mean": sum(parts) / len(parts),
        "load_max": max(parts),
        "overload_node_seconds": sum(max(0, it - OVERLOAD_ABOVE) for it in parts) * tick_s,
    }


def counts(course):
    """What is counted in a report, counted on the topics."""
    report, plans = course.report, [it.value for it in course.topics["plan"]]
    ends = [(it, course.ending(it.value["migration"])) for it in course.starts]
    statuses = {it.value["migration"]: course.statuses.get(it.value["migration"], []) for it in course.starts}
    # PENDING says what is to be copied, not what was.
    moved = {
        id: max((s.value["bytes"] for s in those if s.value["status"] != "PENDING"), default=0)
        for id, those in statuses.items()
    }
    complete = [it.value["migration"] for it, end in ends if end and end.value["status"] == "COMPLETE"]
    # The table is filled before anything is asked, and changed only when the index has answered.
    first = min(
        (query["time"] for it in course.topics["query_log"] for query in it.value["queries"]), default=0
    )
    filled = sum(1 for it in course.topics["table"] if it.stamp < first)
    entries = sum(1 for it in course.rows.values() if it.value and it.value["after"] is not None)
    is_compared = report["verify"]["not_compared"] is None
    wanted = {
        "tick_ms": course.ticks[0].value["tick"]["tick_ms"] if course.ticks else 0,
        "ticks": len(course.ticks),
        "plans": len(plans),
        "splits": sum(len(it["splits"]) for it in plans),
        "joins": sum(len(it["joins"]) for it in plans),
        "ranges": len(course.generations[-1].ranges) if course.generations else 0,
        "migrations": {
            "complete": len(complete),
            "failed": sum(1 for _, end in ends if end and end.value["status"] == "FAILED"),
            "bytes": sum(moved[it] for it in complete),
        },
        "updates": {"sent": len(course.topics["table"]) - filled},
        "verify": {
            "entries": entries if is_compared else 0,
            **dict.fromkeys(("missing", "extra", "stale", "foreign", "gaps", "overlaps"), 0),
        },
    }
    faults = list(unequal(wanted, report, ""))
    queries = [query["op"] for it in course.topics["query_log"] for query in it.value["queries"]]
    reads, updates = sum(it != "WRITE" for it in queries), queries.count("WRITE")
    said = report["queries"]
    # Who is asked again may log it again.
    is_asked_once = not said["repeated"] and not said["failed"]
    if reads < said["answered"] or is_asked_once and said["sent"] + FIRST_READS_MAX < reads:
        faults.append(
            f"query_log has {reads} reads, the report {said['sent']} sent, {said['answered']} answered"
        )
    if updates < report["updates"]["sent"]:
        faults.append(
            f"query_log has {updates} updates, the report {report['updates']['sent']} that were sent"
        )
    if said["sent"] != said["answered"] + said["failed"]:
        faults.append(
            f"queries: {said['sent']} sent are not {said['answered']} answered and {said['failed']} failed"
        )
    faults += moves(course, moved)
    dead = course.topics["dead_letter"]
    if dead:
        why = ", ".join(sorted({it.reason or "no reason" for it in dead}))
        faults.append(f"{len(dead)} records could not be used, and lie in dead_letter: {why}")
    line = f"{reads} reads and {updates} updates in the log; of {said['answered']} answered, {report['updates']['sent']} sent"
    return line, faults


def moves(course, moved):
    """The report's moves, one by one."""
    faults, wanted = [], {}
    tick_ms, first = course.report["tick_ms"], course.tick_number(0)
    for it in course.starts:
        start, index = it.value, course.committed_by(it)
        id, tick = start["migration"], course.tick_number(index)
        active = next((s.stamp for s in course.statuses.get(id, []) if s.value["phase"] == "ACTIVE"), None)
        end = course.ending(id)
        wanted[f"m-{id}"] = {
            "source": start["source_node"],
            "destination": start["destination_node"],
            "outcome": {"COMPLETE": "complete", "FAILED": "failed"}[end.value["status"]] if end else "open",
            "bytes": moved[id],
            "tick": tick - first,
            "active_after_ms": None if active is None else max(0, active - (tick + 1) * tick_ms),
        }
    said = {it["migration"]: it for it in course.report["moves"]}
    for id in sorted(set(wanted) ^ set(said)):
        faults.append(f"{id} is {'not in the report' if id in wanted else 'only in the report'}")
    for id in sorted(set(wanted) & set(said)):
        faults += unequal(wanted[id], said[id], f"{id}: ")
    for it in course.starts:
        told = said.get(f"m-{it.value['migration']}")
        if told and (key(told["range_start"]), key(told["range_end"])) != (
            it.value["range_start"],
            it.value["range_end"],
        ):
            faults.append(
                f"m-{it.value['migration']} is of {text(it.value['range_start'])}, the report says {told['range_start']}"
            )
    return faults


def unequal(wanted, said, name):
    for field, value in wanted.items():
        if isinstance(value, dict):
            yield from unequal(value, said[field], f"{name}{field}.")
        elif said[field] != value:
            yield f"{name}{field} is {value}, the report says {said[field]}"


def differs(value, said):
    return abs(value - said) > PART_MAX * max(abs(value), abs(said)) + 1e-9


def key(text):
    return bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
