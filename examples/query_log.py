#!/usr/bin/env python3
"""Writes a query log as an application would: Avro with a schema registry, or JSON.

    pip install "confluent-kafka[avro,schemaregistry]"      with --json, confluent-kafka is enough
    query_log.py --bootstrap-servers localhost:9092 --registry http://localhost:8081
    query_log.py --bootstrap-servers localhost:9092 --json

The records are not in Isotherm's own form. examples/query_log.toml says what is what of them:

    isotherm --config examples/query_log.toml tail query_log
    isotherm --config examples/query_log.toml planner

An application hands each query that it has made to `QueryLog.add`, and need not do more.
"""

import argparse
import json
import pathlib
import random
import socket
import sys
import time

from confluent_kafka import Producer

SCHEMA = pathlib.Path(__file__).with_name("query_log.avsc")

# A batch counts as a whole when it arrives, so it waits no longer than this; a hundred queries in
# a record are several times cheaper to read than one in each.
HELD_MAX_S = 0.2
BATCH_MAX = 500


class QueryLog:
    """Gathers queries, and writes them in batches."""

    def __init__(self, servers, topic, serialize):
        self.producer = Producer(
            {
                "bootstrap.servers": servers,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "zstd",
                # As Java clients do it.
                "partitioner": "murmur2_random",
            }
        )
        self.topic, self.serialize = topic, serialize
        self.queries, self.since, self.failed = [], 0.0, None

    def add(self, user, verb, took_ms, answer_bytes):
        if not self.queries:
            self.since = time.monotonic()
        self.queries.append(
            {"user": user, "verb": verb, "took_ms": took_ms, "answer_bytes": answer_bytes}
        )
        if len(self.queries) >= BATCH_MAX or time.monotonic() - self.since >= HELD_MAX_S:
            self.write()

    def write(self):
        batch = {
            "host": socket.gethostname(),
            "sent": time.time_ns() // 1_000,
            "queries": self.queries,
        }
        self.queries = []
        self.producer.produce(self.topic, self.serialize(batch), on_delivery=self.delivered)
        self.producer.poll(0)

    def delivered(self, error, _record):
        self.failed = error or self.failed

    def close(self):
        if self.queries:
            self.write()
        self.producer.flush()
        if self.failed:
            sys.exit(f"not all of it was written: {self.failed}")


def avro(registry, topic):
    # JSON needs none of these.
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    serializer = AvroSerializer(SchemaRegistryClient({"url": registry}), SCHEMA.read_text())
    context = SerializationContext(topic, MessageField.VALUE)
    return lambda batch: serializer(batch, context)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--topic", default="query_log")
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--registry", metavar="URL", help="Avro, with the id of its schema")
    form.add_argument("--json", action="store_true")
    parser.add_argument("--queries", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--rate", type=float, default=1_000, help="so many a second (1000)")
    args = parser.parse_args()

    serialize = avro(args.registry, args.topic) if args.registry else lambda it: json.dumps(it)
    log = QueryLog(args.bootstrap_servers, args.topic, serialize)
    began = time.monotonic()
    for n in range(args.queries):
        # A few users ask for most of it.
        user = f"user-{int(random.paretovariate(0.5)) % 100_000:05}"
        verb = random.choices(["GET", "RANGE", "PUT"], [80, 5, 15])[0]
        log.add(user, verb, random.lognormvariate(-2, 0.5), random.randrange(4_000))
        time.sleep(max(0.0, began + n / args.rate - time.monotonic()))
    log.close()
    print(f"{args.queries} queries on {args.topic}")


if __name__ == "__main__":
    main()
