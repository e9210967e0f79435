//! What queries in another form cost to read, against the same ones in our own.
//!
//! ```text
//!  own                 look at the first bytes ──> read
//!  own, framed         write another header ─────> read
//!  Avro, JSON          value ──> mapping ──> own ─> read
//! ```

use std::hint::black_box;

use cpu_time::ThreadTime;
use isotherm::foreign::form::{Answer, Form, Format, Mapping, Path};
use isotherm::foreign::translator::Translator;
use schemas::Millis;
use schemas::query_log::{self, Op, QueriesLogged};
use schemas::wire::{Record as _, encode};
use serde_json::json;

use crate::scale::or_smoke;

/// Such as `examples/query_log.py` writes.
const SCHEMA: &str = include_str!("../../examples/query_log.avsc");

/// CPU nanoseconds a query: own, own in another frame, Avro, JSON.
pub fn nanoseconds(batch: &QueriesLogged) -> [f64; 4] {
    let translator = Translator::new(&form());
    let own = encode(batch);
    let framed = [&[0, 0, 0, 0, 2][..], &own[10..]].concat();
    [own, framed, in_avro(batch), in_json(batch)].map(|value| {
        let time = ThreadTime::now();
        let (mut count, mut sum) = (0, 0);
        for _ in 0..or_smoke(2_000, 20) {
            let own = translator.own(black_box(&value), Millis(1)).expect("it fits");
            let each = |it: query_log::Query<'_>| sum += it.key.len();
            count += query_log::read(&own, each).expect("a record of the query log");
        }
        black_box(sum);
        time.elapsed().as_secs_f64() * 1e9 / count as f64
    })
}

fn form() -> Form {
    let path = |it: &str| -> Path { vec![it.to_owned()] };
    let ops = [("GET", Op::Read), ("RANGE", Op::Scan), ("PUT", Op::Write)];
    let mapping = Mapping {
        items: Some(path("queries")),
        key: vec![path("user")],
        op: Some(path("verb")),
        ops: ops.map(|(symbol, op)| (symbol.to_owned(), op)).into(),
        time: Some(path("sent")),
        cost: Some(path("took_ms")),
        bytes: Some(path("answer_bytes")),
        ..Mapping::default()
    };
    let by_id = [
        (1, Answer::Avro(SCHEMA.to_owned())),
        (2, Answer::Avro(QueriesLogged::SCHEMA_JSON.to_owned())),
    ];
    Form { format: Format::Auto, mapping, by_id: by_id.into(), ..Form::default() }
}

/// Keys as text of as many bytes.
fn in_avro(batch: &QueriesLogged) -> Vec<u8> {
    let mut value = vec![0, 0, 0, 0, 1];
    let text = |value: &mut Vec<u8>, text: &[u8]| {
        long(value, text.len() as i64);
        value.extend(text);
    };
    text(&mut value, b"host-17");
    long(&mut value, 1_743_500_000_000_000);
    long(&mut value, batch.queries.len() as i64);
    for it in &batch.queries {
        text(&mut value, key(&it.key.0).as_bytes());
        long(&mut value, i64::from(it.op == Op::Write) * 2);
        value.push(2);
        value.extend((it.cost_us.unwrap_or(0) as f64 / 1e3).to_le_bytes());
        long(&mut value, it.bytes as i64);
    }
    long(&mut value, 0);
    value
}

fn in_json(batch: &QueriesLogged) -> Vec<u8> {
    let queries = batch.queries.iter().map(|it| {
        json!({
            "user": key(&it.key.0),
            "verb": if it.op == Op::Write { "PUT" } else { "GET" },
            "took_ms": it.cost_us.unwrap_or(0) as f64 / 1e3,
            "answer_bytes": it.bytes,
        })
    });
    let queries: Vec<_> = queries.collect();
    let batch = json!({ "host": "host-17", "sent": 1_743_500_000_000_u64, "queries": queries });
    batch.to_string().into_bytes()
}

fn key(bytes: &[u8]) -> String {
    bytes.iter().map(|it| char::from(b'a' + it % 26)).collect()
}

fn long(to: &mut Vec<u8>, number: i64) {
    let mut zigzag = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while 0x80 <= zigzag {
        to.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}
