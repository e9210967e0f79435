use expect_test::{Expect, expect};

use super::*;

type Topics = BTreeMap<String, Actual>;

/// A cluster that is as declared.
fn declared() -> Topics {
    let actual = definitions().into_iter().map(|it| {
        let (partitions, replication, settings) = (it.partitions, it.replication, it.settings);
        (it.name.to_owned(), Actual { partitions, replication, settings })
    });
    actual.collect()
}

fn connection() -> Connection {
    let (bootstrap_servers, prefix) = ("k:9092".into(), "p-".into());
    Connection { bootstrap_servers, prefix, ..Connection::default() }
}

/// Tells the plan for a cluster of so many brokers that is as declared but for what is altered.
fn check(brokers: usize, alter: impl FnOnce(&mut Topics), expect: Expect) {
    let (connection, mut topics) = (connection(), declared());
    alter(&mut topics);
    let found = Found::new(&connection, brokers, None, &topics);
    expect.assert_eq(&found.told(State::Create, Form::Table));
}

fn drifted(topics: &mut Topics) {
    topics.remove("heatmap");
    topics.get_mut("query_log").unwrap().partitions = 6;
    let plan = topics.get_mut("plan").unwrap();
    plan.settings.insert("retention.ms".into(), "-1".into());
    topics.get_mut("index_update").unwrap().partitions = 8;
}

#[test]
fn plan_tells_what_is_missing_what_differs_and_what_that_breaks() {
    check(
        3,
        |_| (),
        expect![[r#"
        all 14 topics are as declared
    "#]],
    );
    check(
        3,
        drifted,
        expect![[r#"
        TOPIC           STATE   WHAT
        p-heatmap       create  partitions 4, replication 3, cleanup.policy compact,delete, min.compaction.lag.ms 172800000, retention.ms 604800000, segment.ms 86400000
        p-index_update  drift   partitions 8, declared 16
        p-plan          drift   retention.ms -1, declared 2592000000
        p-query_log     drift   partitions 6, declared 8

        left to be done by hand
          p-index_update: kafka-topics.sh --bootstrap-server k:9092 --alter --topic p-index_update --partitions 16 (records of a key that are there already stay in the partition that they are in)
          p-plan: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-plan --add-config retention.ms=2592000000 (deletes what is older)
          p-query_log: kafka-topics.sh --bootstrap-server k:9092 --alter --topic p-query_log --partitions 8 (records of a key that are there already stay in the partition that they are in)

        promises that are broken until then
          p-index_update: a worker reads the same partition of three topics, so they need equally many: index_update has 8, range_segment has 16, segment_ack has 16 (in the way of worker, channel)

        to create what is missing
          isotherm topics apply
    "#]],
    );
}

#[test]
fn too_few_brokers_are_told_once_and_with_a_way_out() {
    let alter = |topics: &mut Topics| {
        topics.retain(|it, _| ["plan", "table"].contains(&it.as_str()));
        topics.values_mut().for_each(|it| it.replication = 1);
    };
    let (connection, mut topics) = (connection(), declared());
    alter(&mut topics);
    let found = Found::new(&connection, 1, None, &topics);
    let told = found.told(State::Create, Form::Table);
    let (_, rest) = told.split_once("\n\n").unwrap();
    expect![[r#"
        left to be done by hand
          p-plan, p-table: 3 replicas are declared, and there is one broker: give --replication-factor 1 for a trial (a broker that is lost takes its records with it), or add brokers

        to create what is missing
          isotherm topics apply
          3 replicas are declared, and there is one broker: give --replication-factor 1 for a trial (a broker that is lost takes its records with it), or add brokers
    "#]].assert_eq(rest);
    let fault = found.check_brokers().unwrap_err();
    assert_eq!((fault.exit, &*fault.code), (Exit::Failed, "isotherm::topics::replication"));
    expect!["topics are to have 3 replicas, and there is one broker; give --replication-factor 1 for a trial (a broker that is lost takes its records with it), or add brokers"].assert_eq(&format!("{fault}; {}", fault.remedy.as_deref().unwrap()));

    // With as many copies as there are brokers, and where nothing is to be created.
    let found = Found::new(&connection, 1, Some(1), &topics);
    assert!(found.check_brokers().is_ok());
    assert!(found.missing().values().all(|it| it.replication == 1));
    assert_eq!((found.missing().len(), found.changes.len()), (12, 12));
    let mut single = declared();
    single.values_mut().for_each(|it| it.replication = 1);
    let found = Found::new(&connection, 1, None, &single);
    assert!(found.check_brokers().is_ok() && found.missing().is_empty());
}

#[test]
fn plan_is_json_with_a_state_and_a_remedy_for_everything() {
    let (connection, mut topics) = (connection(), declared());
    drifted(&mut topics);
    let found = Found::new(&connection, 3, None, &topics);
    let lines = found.told(State::Create, Form::Jsonl);
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(serde_json::Value::from(lines.clone()).to_string(), {
        let json = found.told(State::Create, Form::Json);
        serde_json::from_str::<serde_json::Value>(&json).unwrap().to_string()
    });
    let told = lines.iter().map(|it| {
        assert!(it["remedy"].as_str().is_some_and(|it| !it.is_empty()), "{it}");
        format!("{} {} {}\n", it["topic"], it["state"], it["what"])
    });
    expect![[r#"
        "p-heatmap" "create" null
        "p-index_update" "drift" "partitions"
        "p-plan" "drift" "retention.ms"
        "p-query_log" "drift" "partitions"
        "p-index_update" "unmet" "a worker reads the same partition of three topics, so they need equally many: index_update has 8, range_segment has 16, segment_ack has 16"
    "#]].assert_eq(&told.collect::<String>());
}
