"""Checks what a run claims. Each check returns what it has counted, and what does not hold."""

from course import ends_after, overlaps, span, text

OVERLOAD_ABOVE = 0.8


def tiling(course):
    """Every generation covers the key space once, and epochs only grow."""
    faults, before, number = [], {}, 0
    for generation in course.generations:
        name = f"generation {generation.number}"
        if generation.number <= number:
            faults.append(f"{name} comes behind {number}")
        number = generation.number
        reached = b""
        for at, start in enumerate(sorted(generation.ranges)):
            value = generation.ranges[start].value
            if start != value["range_start"]:
                faults.append(f"{name}: the record of key {text(start)} is for {span(value)}")
            if at and not reached or start < reached:
                faults.append(f"{name}: {span(value)} overlaps what lies before it")
            elif start != reached:
                faults.append(f"{name}: no range covers [{text(reached)}, {text(start)})")
            reached = value["range_end"]
        if not generation.ranges or reached:
            faults.append(f"{name}: no range covers [{text(reached)}, )")
        for it in generation.records:
            for old in before.values() if it.value else ():
                if overlaps(old.value, it.value) and it.value["epoch"] <= old.value["epoch"]:
                    faults.append(
                        f"{name}: {span(it.value)} has epoch {it.value['epoch']}, and had {old.value['epoch']}"
                    )
        before = generation.ranges
    return f"{len(course.generations)} generations, {len(before)} ranges at the end", faults


def boxes(course):
    """Every tick is there once, and its box begins where the one before ends."""
    faults, ends, number = [], {}, None
    for it, queries in zip(course.ticks, course.boxed):
        done = it.value["tick"]
        name = f"tick {done['tick']}"
        if number is not None and done["tick"] != number + 1:
            faults.append(f"{name} comes behind {number}")
        number = done["tick"]
        for box in done["spans"]:
            partition = (box["topic"], box["partition"])
            end = ends.get(partition)
            if end is not None and box["from"] != end or box["to"] < box["from"]:
                faults.append(
                    f"{name} has {box['topic']} {box['partition']} from {box['from']} to {box['to']}, behind {end}"
                )
            ends[partition] = box["to"]
        if len(queries) != done["queries"]:
            faults.append(f"{name} says {done['queries']} queries, and its box has {len(queries)}")
    for name in ("query_log", "migration_status", "node_capacity", "operator_command"):
        first = {}
        for it in course.topics[name]:
            first.setdefault(it.partition, it.offset)
        begun = {
            box["partition"]: box["from"]
            for it in course.ticks[:1]
            for box in it.value["tick"]["spans"]
            if box["topic"] == name
        }
        for partition, offset in first.items():
            if offset < begun.get(partition, 0):
                faults.append(f"the first box begins behind {name} {partition}:{offset}")
    queries = sum(map(len, course.boxed))
    return f"{len(course.ticks)} ticks, {queries} queries in their boxes", faults


def moves(course):
    """A migration is one START, of what stood; one commit, behind READY; one end."""
    faults, starts, given = [], {}, set()
    for it in course.starts:
        if it.value["migration"] in starts:
            faults.append(f"START {it.value['migration']} is there twice")
        starts[it.value["migration"]] = it.value
        faults += started(course, it)
    commits = {}
    for it in filter(lambda it: it.value is not None, course.topics["assignment"]):
        once = (it.value["range_start"], it.value["epoch"])
        if once in given:
            faults.append(f"the range at {text(once[0])} is given twice at epoch {once[1]}")
        given.add(once)
        if it.value["source"] == "NODE":
            migration = it.value["migration"]
            if migration in commits:
                faults.append(f"the commit of {migration} is there twice")
            commits[migration] = it
            faults += committed(course, it, starts.get(migration))
    for migration in starts:
        ended, is_committed = course.ending(migration), migration in commits
        if ended is None:
            faults.append(f"migration {migration} has come to no end")
        elif (ended.value["status"] == "COMPLETE") != is_committed:
            how = "was" if is_committed else "was not"
            faults.append(f"migration {migration} ended {ended.value['status']}, and {how} committed")
    return f"{len(starts)} migrations, {len(commits)} committed", faults


def started(course, record):
    """START names a range as it stood in the generation that it was decided on."""
    start = record.value
    name = f"START {start['migration']}"
    generation = next((it for it in course.generations if it.number == start["generation"]), None)
    held = generation and generation.ranges.get(start["range_start"])
    if held is None or generation.tick > course.committed_by(record):
        yield f"{name}: no range begins at {text(start['range_start'])} in generation {start['generation']}"
        return
    wanted = (start["range_end"], start["source_node"], start["source_epoch"])
    if (held.value["range_end"], held.value["node"], held.value["epoch"]) != wanted:
        yield f"{name}: {span(start)} is not of {start['source_node']} at epoch {start['source_epoch']}"


def committed(course, record, start):
    """A commit is of what START says, and its tick has read READY."""
    made = record.value
    name = f"the commit of {made['migration']}"
    if start is None:
        yield f"{name} has no START"
        return
    wanted = (start["range_start"], start["range_end"], start["destination_node"])
    source = (start["source_node"], start["source_epoch"], start["source_epoch"] + 1)
    is_same = (made["range_start"], made["range_end"], made["node"]) == wanted
    if not is_same or (made["source_node"], made["source_epoch"], made["epoch"]) != source:
        yield f"{name} is not of what its START says"
    read = course.box_ends(course.committed_by(record), "migration_status")
    statuses = course.statuses.get(made["migration"], [])
    if not any(it.value["phase"] == "READY" and it.offset < read.get(it.partition, 0) for it in statuses):
        yield f"{name} was not asked for by READY"


def citations(course):
    """Every START has its plan, which cites quantiles that stood on `heatmap` before it."""
    faults, cited = [], 0
    heats = {}
    for it in course.topics["heatmap"]:
        heats.setdefault(it.key, []).append((course.committed_by(it), it))
    for it in course.topics["plan"]:
        plan, index = it.value, course.committed_by(it)
        if course.tick_number(index) != plan["tick"]:
            faults.append(
                f"{plan['plan']} says tick {plan['tick']}, and was committed by {course.tick_number(index)}"
            )
        for cite in plan["rests_on"]:
            cited += 1
            name = f"{plan['plan']} cites {text(cite['range_start'])} of tick {cite['tick']}"
            # What its own tick takes away, stood until then.
            stood = [
                heat
                for at, heat in heats.get(cite["range_start"], [])
                if at < index or at == index and heat.value is not None
            ]
            last = stood[-1].value if stood else None
            if last is None:
                faults.append(f"{name}, and nothing stood on heatmap for it")
            elif last["tick"] != cite["tick"]:
                faults.append(f"{name}, and what stood was of tick {last['tick']}")
            elif (last["reads"]["forecast"], last["writes"]["forecast"]) != (cite["reads"], cite["writes"]):
                faults.append(f"{name}, and what stood has other quantiles")
    for it in course.topics["heatmap"]:
        if it.value and it.value["tick"] != course.tick_number(course.committed_by(it)):
            faults.append(
                f"{it} says tick {it.value['tick']}, and was committed by {course.tick_number(course.committed_by(it))}"
            )
    for it in course.starts:
        start = it.value
        name = f"START {start['migration']}"
        plan = course.plans.get(start["plan"])
        if plan is None:
            faults.append(f"{name} has no plan record ({start['plan']})")
            continue
        if course.committed_by(plan) > course.committed_by(it):
            faults.append(f"{name} was committed before its plan")
        chosen = [move for move in plan.value["moves"] if move["migration"] == start["migration"]]
        wanted = (start["range_start"], start["range_end"], start["source_node"], start["destination_node"])
        if [(m["range_start"], m["range_end"], m["source"], m["destination"]) for m in chosen] != [wanted]:
            faults.append(f"{name} is not what {start['plan']} has chosen")
        if not any(cite["range_start"] == start["range_start"] for cite in plan.value["rests_on"]):
            faults.append(f"{name} rests on no heat that {start['plan']} cites")
    return f"{len(course.plans)} plans cite {cited} forecasts, {len(course.starts)} STARTs", faults


def index(course):
    """What active ranges hold and serve is the table, folded, entry by entry; and they are those of the map."""
    faults, compared = [], 0
    wanted = {}
    for key, it in course.rows.items():
        if it.value is not None and it.value["after"] is not None:
            wanted[it.value["after"], key] = (it.partition, it.offset, it.value["payload"] or b"")
    ranges = course.generations[-1].ranges.values() if course.generations else ()
    owned = {
        (it.value["range_start"], it.value["range_end"], it.value["node"], it.value["epoch"]) for it in ranges
    }
    serve = {
        (start, end, node, epoch)
        for node, held in course.held.items()
        for start, end, role, epoch in held.intervals
        if role == "active"
    }
    faults += [
        f"{node} is to serve the range at {text(s)} at epoch {epoch}, and does not"
        for s, _, node, epoch in sorted(owned - serve)
    ]
    faults += [
        f"{node} serves the range at {text(s)} at epoch {epoch}, and is not to"
        for s, _, node, epoch in sorted(serve - owned)
    ]
    for node, held in course.held.items():
        active = [(start, end) for start, end, role, _ in held.intervals if role == "active"]
        inside = {}
        for (index_key, primary_key), (partition, offset, payload) in held.entries.items():
            name = f"row {text(primary_key)} at {text(index_key)}: {node} has {partition}:{offset}"
            if not any(start <= index_key and ends_after(end, index_key) for start, end in active):
                faults.append(f"{name}, which it is not to have")
                continue
            compared += 1
            inside[index_key, primary_key] = (partition, offset, payload)
            said = wanted.pop((index_key, primary_key), None)
            if said is None:
                faults.append(f"{name}, and the table nothing, or another node has it, too")
            elif said[:2] != (partition, offset):
                faults.append(f"{name}, the table {said[0]}:{said[1]}")
            elif said[2] != payload:
                faults.append(f"{name} with another payload")
        for name in sorted(inside.keys() | held.served.keys()):
            if inside.get(name) != held.served.get(name):
                faults.append(
                    f"row {text(name[1])} at {text(name[0])}: {node} answers reads with something else than it holds"
                )
    for (index_key, primary_key), said in wanted.items():
        faults.append(
            f"row {text(primary_key)} at {text(index_key)}: the table has {said[0]}:{said[1]}, and no worker"
        )
    return f"{len(course.held)} workers, {compared} entries", faults
