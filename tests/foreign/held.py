"""Asks every worker what it holds, over HTTP, page by page.

    GET /v1/held?limit=0 ────────> roles, floors     until all of the table has come
    GET /v1/held?after=&limit= ──> entries           roles must be the same before and after
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


def ask(endpoints, generation, ends, within_s):
    """Returns what each worker holds, once all of the table before `ends` has come to them."""
    deadline = time.monotonic() + within_s
    while True:
        heads = settled(endpoints, generation, ends, deadline)
        for node, endpoint in endpoints.items():
            heads[node].entries = dump(node, endpoint)
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
        for entry in it["entries"]:
            name = (key(entry["index_key"]), key(entry["primary_key"]))
            entries[name] = (entry["partition"], entry["offset"], base64.b64decode(entry["payload"]))
        if it.get("next") is None:
            return entries
        if it["next"] == after:
            raise Unsettled(f"{node} does not go on behind {after}")
        after = it["next"]


def page(node, endpoint, limit):
    it = fetch(node, endpoint, limit, None)
    intervals = [(key(i["range_start"]), key(i["range_end"]), i["role"], i["epoch"]) for i in it["intervals"]]
    floors = [{floor["partition"]: floor["offset"] for floor in i["floors"]} for i in it["intervals"]]
    return Held(it["node"], it["generation"], intervals, floors)


def fetch(node, endpoint, limit, after):
    asked = {"limit": limit, **({} if after is None else {"after": after})}
    path = f"/v1/held?{urllib.parse.urlencode(asked)}"
    connection = http.client.HTTPConnection(endpoint, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except OSError as err:
        raise Unsettled(f"{node} does not answer on {endpoint}: {err}") from err
    finally:
        connection.close()
    if answer.status != 200:
        raise Unsettled(f"http://{endpoint}{path} answers {answer.status}: {body[:200]!r}")
    it = json.loads(body)
    if it["node"] != node:
        raise Unsettled(f"{endpoint}, the endpoint of {node}, is of {it['node']} now")
    return it


def key(text):
    """Keys are text where they are printable, else 0x and hexadecimal."""
    return bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
