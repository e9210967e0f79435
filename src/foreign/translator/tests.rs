use schemas::query_log::Op;
use schemas::wire::decode;
use schemas::{Key, Millis};

use super::*;
use crate::foreign::form::Path;

const STAMP: Millis = Millis(99);

/// A batch of reads as somebody else writes it.
const SCHEMA: &str = r#"{"type": "record", "name": "Batch", "fields": [
    {"name": "sent", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "reads", "type": {"type": "array", "items": {
        "type": "record", "name": "Read", "fields": [
            {"name": "k", "type": "string"},
            {"name": "took_ms", "type": ["null", "double"]}
        ]}}}]}"#;

/// Sent at 7 ms, of "a" with 2.5 ms and of "b".
const DATUM: [u8; 19] = [0xb0, 0x6d, 4, 2, b'a', 2, 0, 0, 0, 0, 0, 0, 4, 0x40, 2, b'b', 0, 0, 0xee];

fn path(text: &str) -> Path {
    text.split('.').map(str::to_owned).collect()
}

fn form(format: Format) -> Form {
    let mapping = Mapping {
        items: Some(path("reads")),
        key: vec![path("k")],
        op_default: Some(Op::Read),
        time: Some(path("sent")),
        cost: Some(path("took_ms")),
        ..Mapping::default()
    };
    let mut form = Form { format, mapping, ..Form::default() };
    form.by_id.insert(7, Answer::Avro(SCHEMA.to_owned()));
    form.by_id.insert(8, Answer::Json);
    form.by_id.insert(9, Answer::Avro("no schema".to_owned()));
    form.by_id.insert(10, Answer::Unusable("it is of type PROTOBUF".to_owned()));
    form.by_id.insert(11, Answer::Avro(QueriesLogged::SCHEMA_JSON.to_owned()));
    form
}

fn datum() -> &'static [u8] {
    &DATUM[..18]
}

fn frame(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), datum].concat()
}

/// Tells the queries of a record in short, or the code of what is wrong with it.
fn told(form: &Form, value: &[u8]) -> String {
    match Translator::new(form).own(value, STAMP) {
        Ok(own) => match decode::<QueriesLogged>(&own) {
            Ok(batch) => {
                let query = |it: &QueryLogged| {
                    let key = String::from_utf8_lossy(&it.key.0).into_owned();
                    format!("{} {key} {:?}", it.time.0, it.cost_us)
                };
                batch.queries.iter().map(query).collect::<Vec<_>>().join(", ")
            }
            Err(err) => format!("left to the dataflow: {}", err.code()),
        },
        Err(err) => err.code().to_owned(),
    }
}

fn check(format: Format, value: &[u8], expected: &str) {
    assert_eq!(told(&form(format), value), expected, "{format:?} {value:02x?}");
}

const JSON: &[u8] = br#" {"sent": 7, "reads": [{"k": "a", "took_ms": 2.5}, {"k": "b"}]}"#;
const BOTH: &str = "7 a Some(2500), 7 b None";

fn ours() -> Vec<u8> {
    let (key, op) = (Key(b"k".to_vec()), Op::Scan);
    let query = QueryLogged { time: Millis(5), key, op, cost_us: None, bytes: 1, estimated: true };
    encode(&QueriesLogged { queries: vec![query] })
}

#[test]
fn our_own_records_stay_as_they_are_in_every_format() {
    for format in [Format::Isotherm, Format::Avro, Format::Json, Format::Auto] {
        let ours = ours();
        let translator = Translator::new(&form(format));
        let own = translator.own(&ours, STAMP).unwrap();
        assert!(matches!(own, Cow::Borrowed(it) if it == ours), "{format:?}");
        // Their faults are found where they are read.
        check(format, &ours[..ours.len() - 1], "left to the dataflow: malformed");
        check(format, &[0xc3, 1, 2, 3], "left to the dataflow: malformed");
    }
}

#[test]
fn other_formats_are_understood_where_they_are_configured() {
    let framed = frame(7, datum());
    for (format, avro, json) in [
        (Format::Isotherm, "left to the dataflow: not_single_object", ""),
        (Format::Avro, BOTH, "unknown_format"),
        (Format::Json, "unknown_format", BOTH),
        (Format::Auto, BOTH, BOTH),
    ] {
        check(format, &framed, avro);
        check(format, JSON, if json.is_empty() { avro } else { json });
    }
}

#[test]
fn what_does_not_fit_has_a_reason() {
    check(Format::Auto, &frame(6, datum()), "unknown_schema_id");
    check(Format::Auto, &frame(9, datum()), "bad_schema");
    check(Format::Auto, &frame(10, datum()), "bad_schema");
    check(Format::Auto, &frame(7, &datum()[..17]), "malformed");
    check(Format::Auto, &frame(7, &DATUM), "malformed");
    check(Format::Auto, &frame(7, &[]), "malformed");
    check(Format::Auto, &[0, 0, 0, 7], "unknown_format");
    check(Format::Auto, &[], "unknown_format");
    check(Format::Auto, b"hello", "unknown_format");
    check(Format::Auto, b"{", "malformed");
    check(Format::Auto, b"{} {}", "malformed");
    check(Format::Auto, br#"{"reads": [{"k": 18446744073709551615}]}"#, "malformed");
    check(Format::Auto, &[b"[".repeat(100_000), b"]".repeat(100_000)].concat(), "malformed");
    check(Format::Auto, b"[1]", "no_field");
    check(Format::Auto, br#"{"reads": [{"k": "a", "took_ms": -1}]}"#, "wrong_value");
}

#[test]
fn field_that_an_avro_schema_has_not_is_a_misfit_and_in_json_it_is_null() {
    let mapping = Mapping { bytes: Some(path("size")), ..form(Format::Auto).mapping };
    let form = Form { mapping, ..form(Format::Auto) };
    assert_eq!(told(&form, &frame(7, datum())), "no_field");
    assert_eq!(told(&form, JSON), BOTH);
}

#[test]
fn json_may_stand_behind_the_id_of_a_schema() {
    check(Format::Avro, &frame(8, JSON), BOTH);
    check(Format::Avro, &frame(8, b"?"), "malformed");
}

#[test]
fn our_own_schema_in_another_frame_needs_no_mapping() {
    let form = Form { mapping: Mapping::default(), ..form(Format::Avro) };
    assert_eq!(told(&form, &frame(11, &ours()[10..])), "5 k None");
    let own = Translator::new(&form).own(&frame(11, &ours()[10..]), STAMP).unwrap().into_owned();
    assert_eq!(own, ours());
}

#[test]
fn schema_that_is_given_counts_for_every_id_and_for_its_own_fingerprint() {
    let given = Form { schema: Some(SCHEMA.to_owned()), ..form(Format::Auto) };
    assert_eq!(told(&given, &frame(4_711, datum())), BOTH);
    assert_eq!(told(&given, &frame(9, datum())), BOTH);
    let schema: Schema = SCHEMA.parse().unwrap();
    let single = [&SINGLE_OBJECT[..], schema.rabin_fingerprint(), datum()].concat();
    assert_eq!(told(&given, &single), BOTH);
    assert_eq!(told(&given, &ours()), "5 k None");
    check(Format::Auto, &single, "left to the dataflow: unknown_schema");
}

#[test]
fn unit_of_time_is_that_of_the_schema_before_that_of_the_mapping() {
    let mapping = Mapping { time_unit: Unit::Seconds, ..form(Format::Auto).mapping };
    let form = Form { mapping, ..form(Format::Auto) };
    assert_eq!(told(&form, &frame(7, datum())), BOTH);
    assert_eq!(told(&form, JSON), "7000 a Some(2500), 7000 b None");
}

/// What another implementation of Avro has written, by `tests/golden/golden.py`.
#[test]
fn records_of_another_implementation_are_read() {
    let mapping = Mapping {
        items: Some(path("reads")),
        key: vec![path("hash")],
        op: Some(path("verb")),
        ops: [("GET", Op::Read), ("RANGE", Op::Scan), ("PUT", Op::Write)]
            .map(|(symbol, op)| (symbol.to_owned(), op))
            .into(),
        time: Some(path("at")),
        cost: Some(path("took_ms")),
        bytes: Some(path("answer.size")),
        ..Mapping::default()
    };
    let schema = include_str!("../../../tests/golden/foreign/served.avsc");
    let by_id = [(7, Answer::Avro(schema.to_owned()))].into();
    let form = Form { format: Format::Avro, mapping, by_id, ..Form::default() };
    let read = |form: &Form, value: &[u8]| {
        let own = Translator::new(form).own(value, STAMP).unwrap();
        decode::<QueriesLogged>(&own).unwrap().queries
    };
    let query = |time, key: &[u8], op, cost_us, bytes| {
        let (time, key) = (Millis(time), Key(key.to_vec()));
        QueryLogged { time, key, op, cost_us, bytes, estimated: false }
    };
    let first = include_bytes!("../../../tests/golden/foreign/served.0.bin");
    assert_eq!(
        read(&form, first),
        [
            query(99, &[0, 1, 254, 255], Op::Read, Some(125), 17),
            query(1_743_500_000_007, b"abcd", Op::Scan, None, 0),
            query(99, b"abce", Op::Write, Some(1_234_500), 2_147_483_647),
        ]
    );
    let second = include_bytes!("../../../tests/golden/foreign/served.1.bin");
    assert_eq!(read(&form, second), []);
    // The time of the whole batch is in microseconds.
    let mapping = Mapping { time: Some(path("sent")), ..form.mapping };
    let form = Form { mapping, ..form };
    let times: Vec<_> = read(&form, first).iter().map(|it| it.time.0).collect();
    assert_eq!(times, [1_743_500_000_123; 3]);
}
