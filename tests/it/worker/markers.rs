//! Offsets that are no records: what a transaction has left behind it.

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
    let reports = || play.world.values::<NodeCapacity>().len();
    let before = reports();
    await_that("some reports", || (before + 10 <= reports()).then_some(()));
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
