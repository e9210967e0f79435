use expect_test::{Expect, expect};
use schemas::Millis;
use schemas::table::RowChanged;
use schemas::wire::encode;

use super::*;
use crate::kafka::TopicPartition;

fn record(topic: &'static str, key: Option<&[u8]>, value: Option<Vec<u8>>) -> Record {
    Record {
        at: TopicPartition { topic, partition: 3 },
        offset: 118,
        stamp: Millis(1_790_000_585_000),
        key: key.map(<[u8]>::to_vec),
        value,
        headers: Vec::new(),
    }
}

fn row() -> Vec<u8> {
    encode(&RowChanged { before: None, after: Some(Key("b".into())), payload: Some(vec![0; 12]) })
}

fn letter() -> Record {
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let headers = vec![
        header(dead_letter::HEADER_TOPIC, "query_log"),
        header(dead_letter::HEADER_PARTITION, "5"),
        header(dead_letter::HEADER_OFFSET, "77"),
        header(dead_letter::HEADER_REASON, "not_single_object"),
        header(dead_letter::HEADER_DETAIL, "it does not begin\u{1b}[2J with c3 01"),
    ];
    let letter = record(dead_letter::TOPIC, Some(b"query_log"), Some(b"\xffoops".to_vec()));
    Record { headers, ..letter }
}

fn check(record: &Record, line: Expect, object: Expect) {
    line.assert_eq(&told(record, Lines::Table, KeyFormat::Auto));
    let text = told(record, Lines::Jsonl, KeyFormat::Auto);
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    object.assert_eq(&text);
}

#[test]
fn record_is_told_with_its_place_and_key() {
    check(
        &record("table", Some(b"row 7"), Some(row())),
        expect!["2026-09-21 14:23:05  3:118  row 7  none → b, 12 B"],
        expect![[
            r#"{"topic":"table","partition":3,"offset":118,"stamp_ms":1790000585000,"key":"row 7","headers":{},"value":{"before":null,"after":"b","payload":"0x000000000000000000000000"}}"#
        ]],
    );
    let hex = told(&record("table", Some(b"row"), Some(row())), Lines::Table, KeyFormat::Hex);
    expect!["2026-09-21 14:23:05  3:118  726f77  none → 62, 12 B"].assert_eq(&hex);
}

#[test]
fn tombstone_is_told_as_one() {
    check(
        &record("table", Some(b"row 7"), None),
        expect!["2026-09-21 14:23:05  3:118  row 7  deleted"],
        expect![[
            r#"{"topic":"table","partition":3,"offset":118,"stamp_ms":1790000585000,"key":"row 7","headers":{},"value":null}"#
        ]],
    );
}

#[test]
fn value_that_is_no_record_of_its_topic_is_told_with_the_reason() {
    check(
        &record("plan", None, Some(b"\xc3oops".to_vec())),
        expect![
            "2026-09-21 14:23:05  3:118  -  not readable, not_single_object: not Avro single-object encoding: it does not begin with c3 01; 5 B"
        ],
        expect![[
            r#"{"topic":"plan","partition":3,"offset":118,"stamp_ms":1790000585000,"key":null,"headers":{},"error":{"bytes":"0xc36f6f7073","code":"not_single_object","reason":"not Avro single-object encoding: it does not begin with c3 01"}}"#
        ]],
    );
    check(
        &record("plan", None, Some(row())),
        expect![
            "2026-09-21 14:23:05  3:118  -  not readable, unknown_schema: unknown schema e3ed67cd8238a458: the writer is newer than this program, or of another topic; 28 B"
        ],
        expect![[
            r#"{"topic":"plan","partition":3,"offset":118,"stamp_ms":1790000585000,"key":null,"headers":{},"error":{"bytes":"0xc30158a43882cd67ede3000202620218000000000000000000000000","code":"unknown_schema","reason":"unknown schema e3ed67cd8238a458: the writer is newer than this program, or of another topic"}}"#
        ]],
    );
    check(
        &record("table", None, Some(row()[..12].to_vec())),
        expect![
            "2026-09-21 14:23:05  3:118  -  not readable, malformed: the datum does not fit its schema: All bytes have MSB set when decoding varint (Reached EOF); 12 B"
        ],
        expect![[
            r#"{"topic":"table","partition":3,"offset":118,"stamp_ms":1790000585000,"key":null,"headers":{},"error":{"bytes":"0xc30158a43882cd67ede30002","code":"malformed","reason":"the datum does not fit its schema: All bytes have MSB set when decoding varint (Reached EOF)"}}"#
        ]],
    );
}

#[test]
fn dead_letter_is_told_with_where_it_came_from_and_why() {
    check(
        &letter(),
        expect![[
            r#"2026-09-21 14:23:05  3:118  query_log  from query_log 5:77, not_single_object: it does not begin\u{1b}[2J with c3 01; 5 B"#
        ]],
        expect![[
            r#"{"topic":"dead_letter","partition":3,"offset":118,"stamp_ms":1790000585000,"key":"query_log","headers":{"isotherm.detail":"it does not begin\u001b[2J with c3 01","isotherm.offset":"77","isotherm.partition":"5","isotherm.reason":"not_single_object","isotherm.topic":"query_log"},"value":"0xff6f6f7073"}"#
        ]],
    );
    let bare = Record { headers: Vec::new(), ..letter() };
    expect![
        "2026-09-21 14:23:05  3:118  query_log  5 B, without headers that say where from and why"
    ]
    .assert_eq(&told(&bare, Lines::Table, KeyFormat::Auto));
}

#[test]
fn topic_that_is_none_is_refused_with_the_one_that_was_meant() {
    assert_eq!(known("heatmap", "t-").unwrap(), "heatmap");
    let remedy = |name: &str| {
        let fault = known(name, "t-").unwrap_err();
        assert_eq!((fault.exit, &*fault.code), (Exit::Usage, "isotherm::tail::topic"));
        fault.remedy.unwrap()
    };
    assert!(remedy("heatmp").starts_with("did you mean `heatmap`? the topics are assignment, "));
    assert!(remedy("t-plan").starts_with("did you mean `plan`?"));
    assert!(remedy("orders").starts_with("the topics are "));
}

#[test]
fn every_topic_has_a_reader_of_its_own() {
    // Bytes are told as they are only where any bytes are right.
    for topic in definitions() {
        let read = values::text(topic.name, b"oops", As::Line, KeyFormat::Auto);
        assert_eq!(read.is_ok(), topic.name == dead_letter::TOPIC, "{}", topic.name);
    }
}

#[test]
fn tail_begins_at_the_end_unless_it_is_to_end_there() {
    use clap::Parser;
    let from = |line: &str| {
        let cli = super::super::Cli::try_parse_from(line.split(' ')).unwrap();
        let super::super::Command::Tail(args) = cli.command else { panic!("tail was parsed") };
        args.from
    };
    assert_eq!(from("isotherm tail plan"), Moment::End);
    assert_eq!(from("isotherm tail plan --no-follow"), Moment::Beginning);
    assert_eq!(from("isotherm tail plan --no-follow --from -5s"), Moment::Ago { ms: 5_000 });
}

#[test]
fn query_log_of_others_is_told_in_our_own_form_or_with_the_reason() {
    use crate::config::query_log::QueryLog;
    use crate::foreign::form::Format;
    let query_log = QueryLog { format: Format::Json, ..QueryLog::default() };
    let mut reader = Reader::open(&Config { query_log, ..Config::default() }).unwrap();
    let mut check = |value: &[u8], line: Expect, object: Expect| {
        let record = record(QueriesLogged::TOPIC, None, Some(value.to_vec()));
        let told = [Lines::Table, Lines::Jsonl].map(|form| match own(&mut reader, &record) {
            Ok(Some(own)) => {
                told(&Record { value: Some(own), ..record.clone() }, form, KeyFormat::Auto)
            }
            Ok(None) => told(&record, form, KeyFormat::Auto),
            Err(wrong) => told_wrong(&record, &wrong, form, KeyFormat::Auto),
        });
        line.assert_eq(&told[0]);
        object.assert_eq(&told[1]);
    };
    let json = br#"{"key": "a", "op": "SCAN", "time": 1790000585000, "cost_us": 7}"#;
    check(
        json,
        expect![
            "2026-09-21 14:23:05  3:118  -  1 queries, 7 µs, the first SCAN a at 2026-09-21 14:23:05"
        ],
        expect![[
            r#"{"topic":"query_log","partition":3,"offset":118,"stamp_ms":1790000585000,"key":null,"headers":{},"value":{"queries":[{"time":1790000585000,"key":"a","op":"SCAN","cost_us":7,"bytes":0,"estimated":false}]}}"#
        ]],
    );
    check(
        br#"{"key": "a"}"#,
        expect![
            "2026-09-21 14:23:05  3:118  -  not readable, unknown_op: field op: `null` is no operation that query_log.ops names; 12 B"
        ],
        expect![[
            r#"{"topic":"query_log","partition":3,"offset":118,"stamp_ms":1790000585000,"key":null,"headers":{},"error":{"bytes":"{\"key\": \"a\"}","code":"unknown_op","reason":"field op: `null` is no operation that query_log.ops names"}}"#
        ]],
    );
    check(
        b"\xc3\x01oops",
        expect![
            "2026-09-21 14:23:05  3:118  -  not readable, malformed: the datum does not fit its schema: it ends within the fingerprint; 6 B"
        ],
        expect![[
            r#"{"topic":"query_log","partition":3,"offset":118,"stamp_ms":1790000585000,"key":null,"headers":{},"error":{"bytes":"0xc3016f6f7073","code":"malformed","reason":"the datum does not fit its schema: it ends within the fingerprint"}}"#
        ]],
    );
}
