//! A table as a connector writes it, with the row before and the row after in the framing of a registry, as
//! processes on a real Kafka: the channel follows it, scans build ranges from it, and `verify` reads it, all by
//! the same configuration.

use isotherm::cli::exit::Exit;
use isotherm::kafka::Output;
use isotherm::kafka::writer::Writer;
use isotherm::web::reads::FoundEntry;
use schemas::Millis;
use schemas::dead_letter::HEADER_REASON;
use schemas::operator_command::{Command, OperatorCommand};
use schemas::table::RowChanged;
use schemas::wire::{Record as _, encode};
use serde::Serialize;
use serde_avro_fast::Schema;
use serde_avro_fast::ser::SerializerConfig;
use serde_json::{Value, json};

use crate::moved::{check, ranges};
use crate::world::{Process, World, await_that, now_ms};

const NODES: [&str; 2] = ["n0", "n1"];

const SCHEMA: &str = r#"{"type": "record", "name": "Envelope", "namespace": "shop.orders", "fields": [
    {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": [
        {"name": "id", "type": "long"},
        {"name": "place", "type": {"type": "record", "name": "Place", "fields": [
            {"name": "city", "type": "string"}]}}]}]},
    {"name": "after", "type": ["null", "Value"]},
    {"name": "op", "type": "string"}]}"#;

/// What the registry has given the schema.
const ID: u8 = 7;

#[derive(Serialize)]
struct Envelope {
    before: Option<Order>,
    after: Option<Order>,
    op: &'static str,
}

#[derive(Serialize)]
struct Order {
    id: i64,
    place: Place,
}

#[derive(Serialize)]
struct Place {
    city: &'static str,
}

/// What a database does to an order: to which city from which.
struct Connector {
    writer: Writer,
    schema: Schema,
}

impl Connector {
    fn tell(
        &self,
        id: i64,
        op: &'static str,
        cities: (Option<&'static str>, Option<&'static str>),
    ) {
        self.tell_by(ID, id, op, cities);
    }

    fn tell_by(
        &self,
        schema: u8,
        id: i64,
        op: &'static str,
        (before, after): (Option<&'static str>, Option<&'static str>),
    ) {
        let order = |city| Order { id, place: Place { city } };
        let envelope = Envelope { before: before.map(order), after: after.map(order), op };
        let mut config = SerializerConfig::new(&self.schema);
        let datum = serde_avro_fast::to_datum_vec(&envelope, &mut config).unwrap();
        self.write(id, Some([&[0, 0, 0, 0, schema], &datum[..]].concat()));
    }

    fn write(&self, id: i64, value: Option<Vec<u8>>) {
        let mut output = Output::new(RowChanged::TOPIC, id.to_be_bytes().into(), Vec::new());
        (output.value, output.partition) = (value, Some(id as u32 % 4));
        self.writer.send(&output).and_then(|()| self.writer.flush()).unwrap();
    }
}

#[test]
fn table_of_a_connector_is_scanned_followed_and_verified() {
    let Some(mut world) = World::create("envelope", &[]) else { return };
    let schema = world.folder.path().join("orders.avsc");
    std::fs::write(&schema, SCHEMA).unwrap();
    world.mode = "observe";
    world.birth_nodes = NODES.len() as u32;
    world.more = "split_points = [\"M\"]
        [worker]
        report_every = \"300ms\"
        [table]
        format = \"envelope\"
        schema_ids = [\"7=orders.avsc\"]
        key = [\"place.city\"]
        payload = [\"id\"]";
    let table = Connector {
        writer: Writer::open(&world.connection, "connector").unwrap(),
        schema: SCHEMA.parse().unwrap(),
    };
    // The first snapshot of the connector, and changes since then.
    for (id, city) in [(1, "Aarau"), (2, "Bern"), (3, "Zug"), (4, "Olten")] {
        table.tell(id, "r", (None, Some(city)));
    }
    table.tell(1, "u", (Some("Aarau"), Some("Thun")));
    table.tell(4, "d", (Some("Olten"), None));
    table.write(4, None);
    let _planner = world.planner("envelope", None);
    let _workers =
        NODES.map(|it| world.start(it, &["worker", "--dir", "data", "--node-id", it], None));
    let channel = world.start("channel", &["channel"], None);
    let router = world.start("router", &["router"], None);
    let built = |epoch: u64| {
        await_that("ranges that are built from the table", || {
            let ranges = ranges(&world)?;
            let is_built = |it: &Value| it["migration"].is_null() && it["epoch"] == epoch;
            (ranges.len() == 2 && ranges.iter().all(is_built)).then_some(())
        });
    };
    built(1);
    table.tell(5, "c", (None, Some("Basel")));
    table.tell(2, "u", (Some("Bern"), Some("Visp")));
    table.tell(3, "u", (Some("Zug"), Some("Zug")));
    // A database that does not log whole rows, and a schema that nobody has named.
    table.tell(7, "u", (None, Some("Genf")));
    table.tell_by(9, 6, "c", (None, Some("Chur")));
    let configuration = world.folder.path().join("verify.toml");
    let text = world.configuration().replace("orders.avsc", schema.to_str().unwrap());
    std::fs::write(&configuration, text).unwrap();
    let verify = ["--config", configuration.to_str().unwrap(), "verify", "--timeout", "100s"];
    let is_right = || {
        check(&world, &verify, Exit::Done, "0 missing, 0 extra, 0 stale");
        for (city, id) in [("Thun", 1), ("Visp", 2), ("Zug", 3), ("Basel", 5)] {
            assert_eq!(found(&router, city), [json!({"id": id})], "{city}");
        }
        for city in ["Aarau", "Bern", "Olten", "Genf", "Chur"] {
            assert_eq!(found(&router, city), [Value::Null; 0], "{city}");
        }
    };
    is_right();
    // Now of the scans alone: what the channel has sent is gone.
    rebuild(&world);
    built(2);
    is_right();
    // One by the channel, and one by the scan of each worker.
    let dead = await_that("dead letters", || {
        let dead = world.records("dead_letter");
        (6 <= dead.len()).then_some(dead)
    });
    let reason = |it: &isotherm::kafka::Record| {
        let (_, reason) = it.headers.iter().find(|it| it.0 == HEADER_REASON).unwrap();
        String::from_utf8(reason.clone()).unwrap()
    };
    let mut reasons: Vec<_> = dead.iter().map(reason).collect();
    reasons.sort();
    assert_eq!(reasons, [["no_before"; 3], ["unknown_schema"; 3]].concat());
    // Who verifies by another key finds that nothing is where it should be.
    let text = std::fs::read_to_string(&configuration).unwrap();
    std::fs::write(&configuration, text.replace("place.city", "id")).unwrap();
    check(&world, &verify, Exit::Failed, "4 missing, 4 extra");
    for it in [channel, router] {
        it.signal("-TERM");
        assert!(it.ended().success());
    }
}

/// Has all ranges built again from the table.
fn rebuild(world: &World) {
    let command = OperatorCommand {
        built_before: Some(Millis(now_ms())),
        ..OperatorCommand::new(
            "again".to_owned(),
            Command::Rebuild,
            "test".to_owned(),
            "to be scanned".to_owned(),
        )
    };
    let writer = Writer::open(&world.connection, "operator").unwrap();
    let mut output = Output::new(OperatorCommand::TOPIC, Vec::new(), encode(&command));
    output.key = None;
    writer.send(&output).and_then(|()| writer.flush()).unwrap();
}

/// What the router answers for a city.
fn found(router: &Process, city: &str) -> Vec<Value> {
    let (status, body) = await_that("an answer", || router.ask(&format!("/v1/keys/{city}")));
    assert_eq!(status, 200, "{body}");
    let found: Value = serde_json::from_str(&body).unwrap();
    let entries: Vec<FoundEntry> = serde_json::from_value(found["entries"].clone()).unwrap();
    entries.iter().map(|it| serde_json::from_slice(&it.payload).unwrap()).collect()
}
