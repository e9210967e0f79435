"""Asks every worker what it holds, over HTTP, page by page; roles must be the same before and after.

GET  /v1/held?limit=0 ────────> roles, floors     until all of the table has come
GET  /v1/held?after=&limit= ──> all entries
POST /v1/reads ───────────────> entries of an active range, as clients are answered
"""

import base64
import http.client
import json
import time
import urllib.parse
from dataclasses import dataclass, field

PAGE_ENTRIES = 2000
LOOK_EVERY_S = 0.2
ON_THE_WAY = ("erasing", "import", "applying", "rebuild", "leaving")


class Unsettled(Exception):
    """Workers cannot be compared with the table."""


@dataclass
class Held:
    """All of one worker."""

    node: str
    generation: int
    # (start, end, role, epoch), in key order.
    intervals: list
    # {partition: offset} of each, in the same order.
    floors: list
    # (index key, primary key) -> (partition, offset, payload)
    entries: dict = field(default_factory=dict)
    # The same of what it serves.
    served: dict = field(default_factory=dict)


def ask(endpoints, generation, ends, within_s):
    """Returns what each worker holds, once all of the table before `ends` has come to them."""
    deadline = time.monotonic() + within_s
    while True:
        heads = settled(endpoints, generation, ends, deadline)
        for node, endpoint in endpoints.items():
            heads[node].entries = dump(node, endpoint)
            heads[node].served = served(heads[node], endpoint)
        now = {node: page(node, endpoint, 0) for node, endpoint in endpoints.items()}
        if all(now[node].intervals == heads[node].intervals for node in endpoints):
            return heads
        if deadline <= time.monotonic():
            raise Unsettled("ranges move all the time")


def settled(endpoints, generation, ends, deadline):
    while True:
        heads = {node: page(node, endpoint, 0) for node, endpoint in endpoints.items()}
        reason = waits_for(heads, generation, ends)
        if reason is None:
            return heads
        if deadline <= time.monotonic():
            raise Unsettled(reason)
        time.sleep(LOOK_EVERY_S)


def waits_for(heads, generation, ends):
    for node, head in heads.items():
        if head.generation < generation:
            return f"{node} has generation {head.generation} of the assignment, which is at {generation}"
        for (start, _, role, _), floors in zip(head.intervals, head.floors):
            if role in ON_THE_WAY:
                return f"what {node} has of the range at 0x{start.hex()} is {role}"
            for partition, end in ends.items():
                if floors.get(partition, 0) < end:
                    return (
                        f"{node} has the range at 0x{start.hex()} to offset {floors.get(partition, 0)} of "
                        f"partition {partition} of the table, which ends at {end}"
                    )
    return None


def dump(node, endpoint):
    entries, after = {}, None
    while True:
        it = fetch(node, endpoint, PAGE_ENTRIES, after)
        entries.update(map(entry, it["entries"]))
        if it.get("next") is None:
            return entries
        if it["next"] == after:
            raise Unsettled(f"{node} does not go on behind {after}")
        after = it["next"]


def served(head, endpoint):
    entries = {}
    for start, end, role, epoch in head.intervals:
        after = None
        while role == "active":
            asked = {
                "start": text(start),
                "end": text(end),
                "limit": PAGE_ENTRIES,
                **({"after": after} if after else {}),
            }
            answers = post(endpoint, {"reads": [{"what": {"range": asked}, "epoch": epoch}]})["answers"]
            if "found" not in answers[0]:
                raise Unsettled(f"{head.node} answers a read of the range at {text(start)}: {answers[0]}")
            found = answers[0]["found"]
            entries.update(map(entry, found["entries"]))
            if found.get("next") is None:
                break
            after = found["next"]
    return entries


def entry(it):
    version = (it["partition"], it["offset"], base64.b64decode(it["payload"]))
    return (key(it["index_key"]), key(it["primary_key"])), version


def page(node, endpoint, limit):
    it = fetch(node, endpoint, limit, None)
    intervals = [(key(i["range_start"]), key(i["range_end"]), i["role"], i["epoch"]) for i in it["intervals"]]
    floors = [{floor["partition"]: floor["offset"] for floor in i["floors"]} for i in it["intervals"]]
    return Held(it["node"], it["generation"], intervals, floors)


def fetch(node, endpoint, limit, after):
    asked = {"limit": limit, **({} if after is None else {"after": after})}
    it = request(endpoint, "GET", f"/v1/held?{urllib.parse.urlencode(asked)}")
    if it["node"] != node:
        raise Unsettled(f"{endpoint}, the endpoint of {node}, is of {it['node']} now")
    return it


def post(endpoint, reads):
    return request(endpoint, "POST", "/v1/reads", json.dumps(reads), {"Content-Type": "application/json"})


def request(endpoint, method, path, *rest):
    connection = http.client.HTTPConnection(endpoint, timeout=30)
    try:
        connection.request(method, path, *rest)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as err:
        raise Unsettled(f"{endpoint} does not answer {method} {path}: {err}") from err
    finally:
        connection.close()
    if answer.status != 200:
        raise Unsettled(f"http://{endpoint}{path} answers {answer.status}: {body[:200]!r}")
    return json.loads(body)


def text(key):
    return "0x" + key.hex() if key else ""


def key(text):
    """Keys are text where they are printable, else 0x and hexadecimal."""
    return bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
