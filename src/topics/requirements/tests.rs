use expect_test::{Expect, expect};

use super::*;

const HOUR_MS: u64 = 3_600_000;

#[test]
fn one_partition_keeps_the_order_of_the_protocol() {
    check(
        Process::Router,
        |it| it.topic("assignment").partitions = 3,
        expect![[r#"
        topic p-assignment: it has 3 partitions, but the order of its records is part of the protocol, which only one partition keeps; remedy: stop everything that writes or reads it, delete it, and run `isotherm topics apply`, which creates it with one partition
    "#]],
    );
    check(
        Process::Worker,
        |it| it.topic("migrate_range").partitions = 2,
        expect![[r#"
        topic p-migrate_range: it has 2 partitions, but the order of its records is part of the protocol, which only one partition keeps; remedy: stop everything that writes or reads it, delete it, and run `isotherm topics apply`, which creates it with one partition
    "#]],
    );
    check(Process::Router, |it| it.topic("migrate_range").partitions = 2, expect![""]);
}

#[test]
fn inboxes_are_equally_many() {
    check(
        Process::Worker,
        |it| it.topic("segment_ack").partitions = 8,
        expect![[r#"
        topic p-segment_ack: a worker reads the same partition of three topics, so they need equally many: index_update has 16, range_segment has 16, segment_ack has 8; remedy: kafka-topics.sh --bootstrap-server k:9092 --alter --topic p-segment_ack --partitions 16
    "#]],
    );
    check(Process::Planner, |it| it.topic("segment_ack").partitions = 8, expect![""]);
}

#[test]
fn missing_topic_matters_to_those_who_use_it() {
    check(
        Process::Channel,
        |it| _ = it.0.remove("table"),
        expect![[r#"
        topic p-table: it does not exist; remedy: isotherm topics apply
    "#]],
    );
    check(Process::Router, |it| _ = it.0.remove("table"), expect![""]);
}

#[test]
fn writers_clock_does_not_decide_in_which_tick_a_query_counts() {
    let alter = |it: &mut Topics| it.set("query_log", "message.timestamp.type", "CreateTime");
    check(
        Process::Planner,
        alter,
        expect![[r#"
        topic p-query_log: its message.timestamp.type is CreateTime, so a writer's clock would decide in which tick a query counts; remedy: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-query_log --add-config message.timestamp.type=LogAppendTime
    "#]],
    );
    check(Process::Router, alter, expect![""]);
}

#[test]
fn compaction_leaves_the_boxes_of_progress_alone() {
    let key = "min.compaction.lag.ms";
    check(
        Process::Planner,
        |it| it.set("heatmap", key, "172799999"),
        expect![[r#"
        topic p-heatmap: its min.compaction.lag.ms is 172799999, less than 172800000: compaction would take records out of the boxes that planner_progress still names, so replay would differ; remedy: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-heatmap --add-config min.compaction.lag.ms=172800000
    "#]],
    );
    check(Process::Planner, |it| it.set("heatmap", key, "172800000"), expect![""]);
    // What is not compacted needs no lag.
    let alter = |it: &mut Topics| {
        it.set("heatmap", key, "0");
        it.set("heatmap", "cleanup.policy", "delete");
    };
    check(Process::Planner, alter, expect![""]);
    let alter = |it: &mut Topics| {
        it.set("planner_progress", "retention.ms", "-1");
        it.set("heatmap", key, "9223372036854775807");
    };
    check(
        Process::Planner,
        alter,
        expect![[r#"
        topic p-node_capacity: its min.compaction.lag.ms is 172800000, less than 9223372036854775807: compaction would take records out of the boxes that planner_progress still names, so replay would differ; remedy: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-node_capacity --add-config min.compaction.lag.ms=9223372036854775807
        topic p-migration_status: its min.compaction.lag.ms is 172800000, less than 9223372036854775807: compaction would take records out of the boxes that planner_progress still names, so replay would differ; remedy: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-migration_status --add-config min.compaction.lag.ms=9223372036854775807
    "#]],
    );
}

#[test]
fn what_is_folded_from_its_beginning_is_kept() {
    let alter = |it: &mut Topics| {
        it.set("assignment", "cleanup.policy", "compact,delete");
        it.set("assignment", "retention.ms", "86400000");
    };
    check(
        Process::Router,
        alter,
        expect![[r#"
        topic p-assignment: it deletes records after 86400000 ms, but who starts reads it from the beginning and would miss what has not changed since; remedy: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-assignment --add-config cleanup.policy=compact
    "#]],
    );
    // Without an end, and nothing compacted: that is a whole log.
    let alter = |it: &mut Topics| {
        it.set("table", "cleanup.policy", "delete");
        it.set("table", "retention.ms", "-1");
        it.set("table", "min.compaction.lag.ms", "0");
    };
    check(Process::Channel, alter, expect![""]);
}

#[test]
fn r24_changes_of_the_table_are_kept_for_channels_and_scans() {
    check(
        Process::Channel,
        |it| it.set("table", "min.compaction.lag.ms", "0"),
        expect![[r#"
        topic p-table: its min.compaction.lag.ms is 0, less than 604800000: a channel that was away must see every change of a row, or it would leave entries at keys that the row has left; remedy: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-table --add-config min.compaction.lag.ms=604800000
    "#]],
    );
    check(
        Process::Worker,
        |it| it.set("table", "delete.retention.ms", "1"),
        expect![[r#"
        topic p-table: its delete.retention.ms is 1, less than 172800000: a scan that has passed a row must see that it is deleted on its way; remedy: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-table --add-config delete.retention.ms=172800000
    "#]],
    );
}

#[test]
fn r24_deletions_are_kept_as_long_as_the_cluster_says() {
    let check = |policy: &str, kept: Option<&str>, expected: u64| {
        let mut topics = Topics::declared();
        topics.set("table", "cleanup.policy", policy);
        match kept {
            Some(kept) => topics.set("table", "delete.retention.ms", kept),
            None => _ = topics.topic("table").settings.remove("delete.retention.ms"),
        }
        assert_eq!(deletions_kept_ms(&topics.0), expected, "{policy} {kept:?}");
    };
    check("compact", Some("172800000"), 172_800_000);
    check("compact,delete", Some("300000000"), 300_000_000);
    // Nothing is compacted away, or the cluster does not tell.
    check("delete", Some("1"), FOR_EVER);
    check("compact", Some("-1"), FOR_EVER);
    check("compact", None, FOR_EVER);
}

#[test]
fn r24_changes_are_kept_as_long_as_the_cluster_says() {
    let check = |policy: &str, kept: Option<&str>, expected: Option<u64>| {
        let mut topics = Topics::declared();
        topics.set("table", "cleanup.policy", policy);
        match kept {
            Some(kept) => topics.set("table", "min.compaction.lag.ms", kept),
            None => _ = topics.topic("table").settings.remove("min.compaction.lag.ms"),
        }
        assert_eq!(changes_kept_ms(&topics.0), expected, "{policy} {kept:?}");
    };
    check("compact", Some("604800000"), Some(604_800_000));
    check("compact,delete", Some("700000000"), Some(700_000_000));
    check("delete", Some("1"), None);
    check("compact", None, Some(0));
    check("compact", Some("a week"), Some(0));
}

#[test]
fn generations_are_kept_whole_for_readers_that_are_behind() {
    let alter = |it: &mut Topics| it.set("assignment", "min.compaction.lag.ms", "0");
    for process in [Process::Channel, Process::Router, Process::Worker] {
        check(
            process,
            alter,
            expect![[r#"
            topic p-assignment: its min.compaction.lag.ms is 0, less than 86400000: a reader that is behind must see each generation whole, or it would send by a map of which a part is older than it says; remedy: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-assignment --add-config min.compaction.lag.ms=86400000
        "#]],
        );
    }
}

#[test]
fn setting_that_is_not_told_or_no_number_is_not_relied_on() {
    let alter = |it: &mut Topics| _ = it.topic("heatmap").settings.remove("cleanup.policy");
    check(
        Process::Planner,
        alter,
        expect![[r#"
        topic p-heatmap: the cluster does not tell its cleanup.policy; remedy: allow this process DescribeConfigs on the topic
    "#]],
    );
    let alter = |it: &mut Topics| it.set("heatmap", "min.compaction.lag.ms", "2 days");
    check(
        Process::Planner,
        alter,
        expect![[r#"
        topic p-heatmap: its min.compaction.lag.ms is `2 days`, which is not a number; remedy: set it to a number of milliseconds
    "#]],
    );
}

#[test]
fn inputs_are_kept_for_two_snapshot_intervals() {
    let mut topics = Topics::declared();
    assert_eq!(retention(23 * HOUR_MS, CLUSTER, &topics.0), []);
    topics.set("query_log", "retention.ms", &HOUR_MS.to_string());
    let unmet = retention(HOUR_MS / 2, CLUSTER, &topics.0);
    expect![[r#"
        topic p-query_log: its retention.ms is 3600000, less than 3600001: a restart reads what came since the newest snapshot, which may be two intervals old; remedy: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-query_log --add-config retention.ms=3600001
    "#]].assert_eq(&text(&unmet));
    // Kept for ever by being compacted alone, and by having no end.
    topics.set("query_log", "retention.ms", "-1");
    assert_eq!(retention(23 * HOUR_MS, CLUSTER, &topics.0), []);
}

const CLUSTER: Cluster<'_> = Cluster { bootstrap_servers: "k:9092", prefix: "p-" };

/// A cluster's topics.
struct Topics(BTreeMap<String, Actual>);

impl Topics {
    fn declared() -> Self {
        let actual = definitions().into_iter().map(|it| {
            let Definition { partitions, replication, settings, .. } = it;
            (it.name.to_owned(), Actual { partitions, replication, settings })
        });
        Self(actual.collect())
    }

    fn topic(&mut self, name: &str) -> &mut Actual {
        self.0.get_mut(name).unwrap()
    }

    fn set(&mut self, topic: &str, key: &str, value: &str) {
        self.topic(topic).settings.insert(key.to_owned(), value.to_owned());
    }
}

/// Checks a cluster that is as declared, but for what is altered.
fn check(process: Process, alter: impl FnOnce(&mut Topics), expect: Expect) {
    let mut topics = Topics::declared();
    alter(&mut topics);
    expect.assert_eq(&text(&requirements(process, CLUSTER, &topics.0)));
}

fn text(unmet: &[Unmet]) -> String {
    unmet.iter().map(|it| format!("{it}\n")).collect()
}
