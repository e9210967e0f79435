use schemas::wire::encode;
use serde::Serialize;
use serde_avro_fast::ser::SerializerConfig;
use serde_json::json;

use super::*;

const AT: (u32, u64) = (3, 41);

#[test]
fn r16_row_is_a_deletion_at_its_key_before_and_an_entry_at_its_key_after() {
    check(change(None, Some("a"), Some("x")), &[("a", Some("x"))]);
    check(change(Some("a"), None, None), &[("a", None)]);
    check(change(Some("a"), Some("b"), Some("x")), &[("a", None), ("b", Some("x"))]);
    check(change(None, None, None), &[]);
    // What the index returns may be nothing, and is no deletion then.
    check(change(None, Some("a"), None), &[("a", Some(""))]);
}

#[test]
fn r16_where_the_key_stays_there_is_the_entry_alone() {
    check(change(Some("a"), Some("a"), Some("x")), &[("a", Some("x"))]);
}

#[test]
fn r16_null_value_is_skipped() {
    let rows = Rows::new(Form::RowChanged, &[], &[]).unwrap();
    assert_eq!(rows.entries(Some(b"p"), None, AT), Ok(vec![]));
}

#[test]
fn row_without_a_primary_key_or_with_a_key_that_is_too_long_is_refused() {
    let rows = Rows::new(Form::RowChanged, &[], &[]).unwrap();
    let value = encode(&change(None, Some("a"), None));
    assert_eq!(rows.entries(None, Some(&value), AT), Err(RowError::NoPrimaryKey));
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let refused = |key: &[u8], row: &RowChanged| {
        rows.entries(Some(key), Some(&encode(row)), AT).unwrap_err().code()
    };
    assert_eq!(refused(long.as_bytes(), &change(None, Some("a"), None)), "key_too_long");
    assert_eq!(refused(b"p", &change(None, Some(&long), None)), "key_too_long");
    let payload = "x".repeat(PAYLOAD_BYTES_MAX + 1);
    assert_eq!(refused(b"p", &change(None, Some("a"), Some(&payload))), "payload_too_long");
    // Of a row that leaves such a key, nothing is to be deleted.
    let value = encode(&change(Some(&long), Some("a"), None));
    assert_eq!(rows.entries(Some(b"p"), Some(&value), AT).unwrap().len(), 1);
}

#[test]
fn bytes_that_are_no_row_are_refused_with_a_reason() {
    let rows = Rows::new(Form::RowChanged, &[], &[]).unwrap();
    let refused = |value: &[u8]| rows.read(value).unwrap_err().code();
    assert_eq!(refused(b""), "not_single_object");
    assert_eq!(refused(b"{}"), "not_single_object");
    assert_eq!(refused(&[0, 0, 0, 0, 7, 1]), "unknown_schema");
    assert_eq!(refused(&[0xc3, 1, 1, 2, 3, 4, 5, 6, 7, 8]), "unknown_schema");
    let value = encode(&change(None, Some("a"), None));
    assert!((10..value.len()).all(|it| refused(&value[..it]) == "malformed"));
}

#[test]
fn row_of_our_own_comes_in_the_framing_of_a_registry_too() {
    let own = RowChanged::SCHEMA_JSON.to_owned();
    let rows = Rows::new(Form::RowChanged, &[], &[(300, "table.avsc".into(), own)]).unwrap();
    let row = change(Some("a"), Some("b"), Some("x"));
    let value = [&[0, 0, 0, 1, 44], &encode(&row)[10..]].concat();
    assert_eq!(rows.read(&value), Ok(row));
    let bad = Rows::new(Form::RowChanged, &[("x.avsc".into(), "{".into())], &[]).unwrap_err();
    assert!(bad.to_string().starts_with("x.avsc is no Avro schema: "), "{bad}");
}

/// A connector's envelope, with a nested record and values that may be null.
const ENVELOPE: &str = r#"{"type": "record", "name": "Envelope", "namespace": "shop.orders", "fields": [
    {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": [
        {"name": "id", "type": "long"},
        {"name": "city", "type": ["null", "string"]},
        {"name": "place", "type": {"type": "record", "name": "Place", "fields": [
            {"name": "zone", "type": "int"}, {"name": "mark", "type": "bytes"}]}},
        {"name": "tags", "type": {"type": "array", "items": "string"}}]}]},
    {"name": "after", "type": ["null", "Value"]},
    {"name": "source", "type": {"type": "map", "values": "string"}},
    {"name": "op", "type": {"type": "enum", "name": "Op", "symbols": ["c", "u", "d", "r"]}},
    {"name": "ts_ms", "type": ["null", "long"]}]}"#;

#[derive(Clone, Serialize)]
struct Envelope {
    before: Option<Order>,
    after: Option<Order>,
    source: BTreeMap<String, String>,
    op: &'static str,
    ts_ms: Option<i64>,
}

#[derive(Clone, Serialize)]
struct Order {
    id: i64,
    city: Option<&'static str>,
    place: Place,
    tags: Vec<&'static str>,
}

#[derive(Clone, Serialize)]
struct Place {
    zone: i32,
    #[serde(with = "serde_bytes")]
    mark: Vec<u8>,
}

#[test]
fn envelope_has_the_key_of_nested_fields_and_returns_fields_as_json() {
    let rows = envelopes(&["city", "place.zone"], &["id", "place.mark"]);
    let value = single(&order("u", Some(("Bern", 7)), Some(("Basel", -2))));
    let mut row = rows.read(&value).unwrap();
    let payload = serde_json::from_slice::<serde_json::Value>(&row.payload.take().unwrap());
    assert_eq!(payload.unwrap(), json!({"id": 4, "place.mark": "00ff"}));
    let key = |text: &str, zone: [u8; 8]| Some(Key([text.as_bytes(), &[0, 1], &zone].concat()));
    assert_eq!(row.before, key("Bern", [0x80, 0, 0, 0, 0, 0, 0, 7]));
    assert_eq!(row.after, key("Basel", [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]));
    let created = rows.read(&single(&order("c", None, Some(("Bern", 7))))).unwrap();
    assert_eq!((created.before, created.after), (None, row.before));
}

#[test]
fn envelope_comes_in_the_framing_of_a_registry_and_returns_the_row_by_default() {
    let ids = [(7, "orders.avsc".to_owned(), ENVELOPE.to_owned())];
    let (key, payload) = (vec![vec!["city".to_owned()]], vec![]);
    let rows = Rows::new(Form::Envelope { key, payload }, &[], &ids).unwrap();
    let value = single(&order("r", None, Some(("Bern", 7))));
    let framed = [&[0, 0, 0, 0, 7], &value[10..]].concat();
    let row = rows.read(&framed).unwrap();
    assert_eq!(row.after, Some(Key(b"Bern".to_vec())));
    let json = r#"{"id":4,"city":"Bern","place":{"zone":7,"mark":"00ff"},"tags":["x","y"]}"#;
    assert_eq!(String::from_utf8(row.payload.unwrap()).unwrap(), json);
    // Of which schema a fingerprint is, is not configured here.
    assert_eq!(rows.read(&value).unwrap_err().code(), "unknown_schema");
}

#[test]
fn row_whose_key_is_null_is_not_in_the_index() {
    let rows = envelopes(&["city"], &[]);
    let mut moved = order("u", Some(("Bern", 7)), Some(("Basel", 2)));
    moved.after.as_mut().unwrap().city = None;
    let entries = rows.entries(Some(b"p"), Some(&single(&moved)), AT).unwrap();
    let told: Vec<_> = entries.iter().map(|it| (&it.index_key.0[..], &it.payload)).collect();
    assert_eq!(told, [(&b"Bern"[..], &None)]);
}

#[test]
fn change_that_does_not_say_what_was_before_is_refused() {
    let rows = envelopes(&["city"], &[]);
    for op in ["u", "d"] {
        let value = single(&order(op, None, Some(("Bern", 7))));
        assert_eq!(rows.read(&value), Err(RowError::NoBefore));
    }
}

#[test]
fn field_that_is_not_there_or_has_no_order_is_named() {
    let value = single(&order("c", None, Some(("Bern", 7))));
    let refused = |key: &str| envelopes(&[key], &[]).read(&value).unwrap_err().to_string();
    assert_eq!(refused("place.zoo"), "the row has no field place.zoo");
    assert_eq!(refused("tags"), "field tags: a list cannot be part of a key");
    assert_eq!(refused("place"), "field place: a record cannot be part of a key");
    let value = encode(&change(None, Some("a"), None));
    let text = RowChanged::SCHEMA_JSON.to_owned();
    let form = Form::Envelope { key: vec![vec!["a".into()]], payload: vec![] };
    let rows = Rows::new(form, &[("table.avsc".into(), text)], &[]).unwrap();
    assert_eq!(rows.read(&value).unwrap_err().code(), "no_field", "bytes are no row");
}

#[test]
fn garbled_envelope_is_refused_or_read_and_never_a_panic() {
    let rows = envelopes(&["city", "place.zone"], &[]);
    let plain = single(&order("u", Some(("Bern", 7)), Some(("Basel", 2))));
    let mut random = 7_u64;
    let mut below = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % n
    };
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut value = plain.clone();
        for _ in 0..=below(3) {
            let at = 10 + below(value.len() - 10);
            value[at] = [0, 1, 2, 0x7f, 0x80, 0xff, below(256) as u8][below(7)];
        }
        refused += usize::from(rows.read(&value).is_err());
    }
    assert!((4_000..20_000).contains(&refused), "{refused} of 20000 were refused");
}

fn order(
    op: &'static str,
    before: Option<(&'static str, i32)>,
    after: Option<(&'static str, i32)>,
) -> Envelope {
    let order = |(city, zone)| Order {
        id: 4,
        city: Some(city),
        place: Place { zone, mark: vec![0, 0xff] },
        tags: vec!["x", "y"],
    };
    let source = BTreeMap::from([("db".to_owned(), "shop".to_owned())]);
    Envelope { before: before.map(order), after: after.map(order), source, op, ts_ms: None }
}

fn single(envelope: &Envelope) -> Vec<u8> {
    let schema: Schema = ENVELOPE.parse().unwrap();
    let mut config = SerializerConfig::new(&schema);
    serde_avro_fast::to_single_object_vec(envelope, &mut config).unwrap()
}

fn envelopes(key: &[&str], payload: &[&str]) -> Rows {
    let paths = |of: &[&str]| of.iter().map(|it| path(it)).collect();
    let form = Form::Envelope { key: paths(key), payload: paths(payload) };
    Rows::new(form, &[("orders.avsc".into(), ENVELOPE.into())], &[]).unwrap()
}

fn path(text: &str) -> Vec<String> {
    text.split('.').map(str::to_owned).collect()
}

/// Says the entries of a change: key and payload.
fn check(row: RowChanged, expected: &[(&str, Option<&str>)]) {
    let rows = Rows::new(Form::RowChanged, &[], &[]).unwrap();
    let entries = rows.entries(Some(b"p"), Some(&encode(&row)), AT).unwrap();
    let text = |it: &[u8]| String::from_utf8(it.to_vec()).unwrap();
    let told: Vec<_> = entries
        .iter()
        .map(|it| {
            assert_eq!((it.partition, it.offset, &it.primary_key.0[..]), (AT.0, AT.1, &b"p"[..]));
            (text(&it.index_key.0), it.payload.as_deref().map(text))
        })
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(key, payload)| ((*key).to_owned(), payload.map(str::to_owned)))
        .collect();
    assert_eq!(told, expected);
}

fn change(before: Option<&str>, after: Option<&str>, payload: Option<&str>) -> RowChanged {
    let key = |text: &str| Key(text.as_bytes().to_vec());
    let payload = payload.map(|it| it.as_bytes().to_vec());
    RowChanged { before: before.map(key), after: after.map(key), payload }
}
