//! What transactions do to readers: markers are offsets without a record, and each partition has its own.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::node_capacity::NodeCapacity;

use super::*;
use crate::kafka::real::transactional;
use crate::world::PATIENCE;

#[test]
fn worker_whose_last_record_was_taken_with_the_marker_behind_it_has_missed_nothing() {
    let Some(mut play) = Play::create("worker-markers") else { return };
    play.rows(keys());
    let [a, _channel] = play.begin_alone();
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");
    // As the planner writes it; it is of others, and so of no use.
    let others = Move { id: 77, span: ("m", ""), from: ("x", 1), to: "y" };
    let topic = play.world.connection.topic("migrate_range");
    let planner = transactional(&play.world.connection);
    planner.begin_transaction().unwrap();
    let value = encode(&others.command(Verb::Start, 1));
    let record = BaseRecord::to(&topic).key("y").payload(&value);
    planner.send(record.partition(0)).map_err(|it| it.0).unwrap();
    planner.commit_transaction(PATIENCE).unwrap();
    // It skips the marker with a report, and stores that it has in the step behind it.
    await_reports(&play);
    a.signal("-TERM");
    assert!(a.ended().success());

    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &play.world.connection.bootstrap_servers);
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    // The record, and the marker.
    list.add_partition_offset(&topic, 0, Offset::Offset(2)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    let a = play.worker("a");
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");
    play.check_verified();
}

/// A transaction is committed in `migrate_range` at one time, and in `assignment` at another.
#[test]
fn start_that_is_seen_before_the_generation_that_was_committed_with_it_waits_for_that() {
    let Some(mut play) = Play::create("worker-early") else { return };
    play.rows(keys());
    let [_a, b, _channel] = play.begin();
    let planner = transactional(&play.world.connection);
    planner.begin_transaction().unwrap();
    let topic = play.world.connection.topic("assignment");
    let row = Assignment {
        last: true,
        generation: Generation(2),
        migration: None,
        source: Source::None,
        source_epoch: Epoch(1),
        ..of_table(("", "m"), "a", 2, 0)
    };
    let value = encode(&row);
    let record = BaseRecord::to(&topic).key(&row.range_start.0).payload(&value);
    planner.send(record.partition(0)).map_err(|it| it.0).unwrap();
    planner.flush(PATIENCE).unwrap();
    let it = Move { id: 3, span: ("", "m"), from: ("a", 2), to: "b" };
    play.write(it.to, &it.command(Verb::Start, 2));
    await_reports(&play);
    assert!(play.letters().is_empty(), "{:?}", play.letters());
    assert!(play.statuses(3).is_empty(), "{:?}", play.statuses(3));
    planner.commit_transaction(PATIENCE).unwrap();
    play.await_phase(3, "Ready");
    play.generation = 2;
    play.assign(&[it.committed()]);
    play.await_end(3, Status::Complete);
    assert_eq!(play.await_read(&b, "c1", 3), "of c1");
    assert!(play.letters().is_empty(), "{:?}", play.letters());
    play.check_verified();
}

/// Waits until workers have had time for whatever they were told.
fn await_reports(play: &Play) {
    let reports = || play.world.values::<NodeCapacity>().len();
    let before = reports();
    await_that("some reports", || (before + 20 <= reports()).then_some(()));
}
