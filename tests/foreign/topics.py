"""Reads all topics of a run to their last stable offsets, every record by its schema.

    schemas/*.avsc ──> names of topics ──> Kafka, read_committed ──> bytes
         └── fingerprint, CRC-64-AVRO ───────────────────────────────> Record

* **Nothing is skipped**: a fingerprint that is not the schema's, or bytes behind the datum, end it.
"""

import io
import json
import pathlib
import time
from dataclasses import dataclass
from typing import Any, Optional

import confluent_kafka as kafka
import fastavro

SCHEMAS = pathlib.Path(__file__).resolve().parent.parent.parent / "schemas"

# The bytes that could not be used, as they came.
DEAD = "dead_letter"
REASON = "isotherm.reason"

SILENCE_S_MAX = 60


class Unreadable(Exception):
    """What is on a topic, or is not, so that nothing can be recomputed."""


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    # Milliseconds since the Unix epoch, by the topic's clock.
    stamp: int
    key: Optional[bytes]
    # None: a tombstone.
    value: Any
    # Of a dead letter: why, in a word.
    reason: Optional[str] = None

    def __str__(self):
        return f"{self.topic} {self.partition}:{self.offset}"


class Codec:
    """Avro single-object encoding: c3 01, the fingerprint, least byte first, the datum."""

    def __init__(self, topic):
        raw = json.loads((SCHEMAS / f"{topic}.avsc").read_text())
        canonical = fastavro.schema.to_parsing_canonical_form(raw)
        self.header = b"\xc3\x01" + bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
        self.schema = fastavro.parse_schema(raw)

    def encode(self, value):
        datum = io.BytesIO()
        fastavro.schemaless_writer(datum, self.schema, value, strict_allow_default=True)
        return self.header + datum.getvalue()

    def decode(self, value):
        if value[:10] != self.header:
            raise Unreadable(f"it begins with {value[:10].hex()}, its schema with {self.header.hex()}")
        datum = io.BytesIO(value[10:])
        read = fastavro.schemaless_reader(datum, self.schema, None)
        if datum.read(1):
            raise Unreadable("there are bytes behind the datum")
        return read


def read(servers, prefix):
    """Returns the records of each topic, by partition and offset."""
    consumer = kafka.Consumer(
        {
            "bootstrap.servers": servers,
            # Never used: partitions are assigned by hand, and nothing is committed.
            "group.id": f"{prefix}foreign-reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
    )
    try:
        return read_by(consumer, prefix)
    finally:
        consumer.close()


def read_by(consumer, prefix):
    codecs = {path.stem: Codec(path.stem) for path in sorted(SCHEMAS.glob("*.avsc"))}
    there = consumer.list_topics(timeout=30).topics
    missing = [prefix + name for name in codecs if prefix + name not in there]
    if missing:
        raise Unreadable(f"there is no topic {', '.join(missing)}: --prefix is what the demonstration says")
    left = {(name, partition) for name in codecs for partition in there[prefix + name].partitions}
    consumer.assign([kafka.TopicPartition(prefix + name, it, kafka.OFFSET_BEGINNING) for name, it in left])
    records = {name: [] for name in codecs}
    heard = time.monotonic()
    while left:
        messages = consumer.consume(num_messages=5000, timeout=1.0)
        if messages:
            heard = time.monotonic()
        elif SILENCE_S_MAX < time.monotonic() - heard:
            raise Unreadable(
                f"nothing came for {SILENCE_S_MAX} s, and these are not read to their ends: {sorted(left)}"
            )
        for it in messages:
            name = it.topic()[len(prefix) :]
            if it.error() is None:
                records[name].append(record(name, it, codecs[name]))
            elif it.error().code() == kafka.KafkaError._PARTITION_EOF:
                left.discard((name, it.partition()))
            else:
                raise Unreadable(f"{name} {it.partition()}: {it.error()}")
    for those in records.values():
        those.sort(key=lambda it: (it.partition, it.offset))
    return records


def record(name, it, codec):
    value = it.value()
    try:
        read = value if value is None or name == DEAD else codec.decode(value)
    except (Unreadable, EOFError, IndexError, ValueError) as err:
        raise Unreadable(
            f"{name} {it.partition()}:{it.offset()} is no record of schemas/{name}.avsc: {err}"
        ) from err
    reason = dict(it.headers() or []).get(REASON)
    reason = reason and reason.decode()
    return Record(name, it.partition(), it.offset(), it.timestamp()[1], it.key(), read, reason)
