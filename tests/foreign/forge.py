#!/usr/bin/env python3
"""Has a worker drop one update, so that the index lacks what the table says.

    watermark, one row ahead of the table ──> inbox of the owner      its floor is there now
    a row ──> table ──> channel ──> inbox of the owner                below the floor: ignored

A watermark says that all before it was sent; this one lies. Prints which row it is.
"""

import argparse
import sys
import time

import confluent_kafka as kafka

import held
import topics

WITHIN_S = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap-servers", required=True, metavar="HOST:PORT")
    parser.add_argument("--prefix", required=True)
    args = parser.parse_args()
    records = topics.read(args.bootstrap_servers, args.prefix)
    row = [it for it in records["table"] if it.value and it.value["after"] is not None][-1]
    end = max(it.offset for it in records["table"] if it.partition == row.partition) + 1
    ranges = {it.key: it.value for it in records["assignment"] if it.value}
    generation = max(it["generation"] for it in ranges.values())
    nodes = {it.value["node_id"]: it.value for it in records["node_capacity"] if it.value}
    deadline = time.monotonic() + WITHIN_S

    # A lie to all of them: who owns the row does not matter.
    floor = {"partition": row.partition, "offset": end + 1}
    watermark = {"generation": generation, "entry": None, "watermark": {"floors": [floor], "via": None}}
    value = topics.Codec("index_update").encode(watermark)
    sent = [("index_update", it["inbox"], node.encode(), value) for node, it in nodes.items()]
    inboxes = write(args, sent)
    while not all(is_there(node, it["endpoint"], row.partition, end + 1) for node, it in nodes.items()):
        wait(deadline, "no worker believes the watermark")

    changed = {**row.value, "before": row.value["after"], "payload": b"never to be seen"}
    ((_, offset),) = write(args, [("table", row.partition, row.key, topics.Codec("table").encode(changed))])
    if offset != end:
        sys.exit(f"somebody else has written to the table: the row is at {offset}, not {end}")
    # The channel sends it, all the same.
    while not is_sent(args, inboxes, (row.partition, offset)):
        wait(deadline, "the channel does not send the row")
    print(f"row 0x{row.key.hex()}: {row.partition}:{offset} of the table is not in the index")


def write(args, records):
    """Writes (topic, partition, key, value) each; returns the partition and offset of each."""
    producer = kafka.Producer({"bootstrap.servers": args.bootstrap_servers, "enable.idempotence": True})
    written = []

    def delivered(err, message):
        if err is not None:
            sys.exit(f"{message.topic()}: {err}")
        written.append((message.partition(), message.offset()))

    for topic, partition, key, value in records:
        producer.produce(args.prefix + topic, value, key, partition, on_delivery=delivered)
        producer.flush(WITHIN_S)
    return written


def is_there(node, endpoint, partition, offset):
    page = held.page(node, endpoint, 0)
    return all(floors.get(partition, 0) >= offset for floors in page.floors)


def is_sent(args, inboxes, version):
    consumer = kafka.Consumer(
        {
            "bootstrap.servers": args.bootstrap_servers,
            "group.id": f"{args.prefix}forge",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    codec = topics.Codec("index_update")
    topic = args.prefix + "index_update"
    # A partition may be the inbox of several nodes.
    left = dict(reversed(inboxes))
    consumer.assign([kafka.TopicPartition(topic, partition, offset) for partition, offset in left.items()])
    try:
        while left:
            for it in consumer.consume(100, 1.0):
                if it.error() is not None:
                    left.pop(it.partition(), None)
                    continue
                entry = codec.decode(it.value())["entry"]
                if entry and (entry["entry"]["partition"], entry["entry"]["offset"]) == version:
                    return True
        return False
    finally:
        consumer.close()


def wait(deadline, reason):
    if deadline <= time.monotonic():
        sys.exit(f"{reason}, in {WITHIN_S} s")
    time.sleep(0.2)


if __name__ == "__main__":
    main()
