#!/usr/bin/env python3
"""Holds our records equal to those of another Avro implementation, fastavro.

    golden.py              writes x.N.bin for record N of x.json, beside it
    golden.py --check DIR  checks that the committed files are what fastavro writes, and that what
                           Rust wrote to DIR reads as x.json says:
                           ISOTHERM_GOLDEN_OUT=DIR cargo test -p schemas --test golden

In x.json bytes are text of one character a byte, as in Avro's own JSON, and a union is its value.
In foreign/ are records of others, with a schema of their own, in Confluent's framing with the id 7.
Needs `pip install fastavro==1.13.1`.
"""

import argparse
import decimal
import io
import json
import pathlib
import sys

import fastavro

HERE = pathlib.Path(__file__).resolve().parent
SCHEMAS = HERE.parent.parent / "schemas"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="DIR", type=pathlib.Path)
    rust = parser.parse_args().check
    check_names()
    count = 0
    for path in sorted(HERE.glob("*.json")):
        schema = json.loads((SCHEMAS / f"{path.stem}.avsc").read_text())
        for number, said in enumerate(json.loads(path.read_text())):
            name = f"{path.stem}.{number}.bin"
            value = write(schema, said)
            if rust is None:
                (HERE / name).write_bytes(value)
            else:
                check(schema, said, value, (HERE / name).read_bytes(), f"golden/{name}")
                check(schema, said, value, (rust / name).read_bytes(), f"{rust}/{name}")
            count += 1
    for path in sorted(HERE.glob("foreign/*.json")):
        schema = json.loads(path.with_suffix(".avsc").read_text())
        for number, said in enumerate(json.loads(path.read_text())):
            name = path.with_suffix(f".{number}.bin")
            value = b"\x00\x00\x00\x00\x07" + datum(schema, said)
            if rust is None:
                name.write_bytes(value)
            elif value != name.read_bytes():
                sys.exit(f"{name} is not what fastavro writes:\n{value.hex()}")
            count += 1
    print(f"{count} records {'written' if rust is None else 'are equal'}")


def check(schema, said, written, value, name):
    """Compares the bytes, and what fastavro reads in them."""
    read = fastavro.schemaless_reader(io.BytesIO(value[10:]), schema)
    if read != from_json(schema, said, {}):
        sys.exit(f"{name} reads {read}, but should read {said}")
    if value != written:
        sys.exit(f"{name} is\n{value.hex()}, but fastavro writes\n{written.hex()}")


def write(schema, said):
    """Returns the single-object encoding: c3 01, the fingerprint, the datum."""
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    fingerprint = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    return b"\xc3\x01" + bytes.fromhex(fingerprint) + datum(schema, said)


def datum(schema, said):
    to = io.BytesIO()
    fastavro.schemaless_writer(to, schema, from_json(schema, said, {}), strict=True)
    return to.getvalue()


def from_json(schema, said, named):
    """Returns the value as fastavro has it: bytes as bytes."""
    if isinstance(schema, list):
        if said is None:
            return None
        (other,) = [it for it in schema if it != "null"]
        return from_json(other, said, named)
    if isinstance(schema, str):
        schema = named.get(schema, {"type": schema})
    if "name" in schema:
        named[schema["name"]] = schema
    kind = schema["type"]
    if kind == "record":
        fields = schema["fields"]
        if set(said) != {it["name"] for it in fields}:
            sys.exit(f"{schema['name']} has the fields {[it['name'] for it in fields]}, not {list(said)}")
        return {it["name"]: from_json(it["type"], said[it["name"]], named) for it in fields}
    if kind == "array":
        return [from_json(schema["items"], it, named) for it in said]
    if kind == "map":
        return {key: from_json(schema["values"], it, named) for key, it in said.items()}
    if schema.get("logicalType") == "decimal":
        return decimal.Decimal(said)
    if kind in ("bytes", "fixed"):
        return said.encode("latin-1")
    return said


def check_names():
    """A name means the same in every schema, or a registry would take one for the other."""
    seen = {}

    def go(schema, stem):
        if isinstance(schema, list):
            for it in schema:
                go(it, stem)
        elif isinstance(schema, dict):
            if "name" in schema:
                first, where = seen.setdefault(schema["name"], (schema, stem))
                if {**first, "namespace": ""} != {**schema, "namespace": ""}:
                    sys.exit(f"{schema['name']} means one thing in {where}.avsc, another in {stem}.avsc")
            go(schema.get("items"), stem)
            for it in schema.get("fields", []):
                go(it["type"], stem)

    for path in sorted(SCHEMAS.glob("*.avsc")):
        go(json.loads(path.read_text()), path.stem)


main()
