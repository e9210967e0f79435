//! Workers that are asked to end while Kafka is away.

use isotherm::cli::exit::Exit;

use super::*;
use crate::kafka::broker::Broker;

#[test]
fn worker_that_is_asked_to_end_while_kafka_is_away_gives_up_in_time_and_loses_nothing() {
    let Some(mut play) = Play::create("worker-away") else { return };
    play.world.leave();
    let Some(mut kafka) = Broker::alone("worker-away") else { return };
    play.world.more = "[channel]\nwatermark_every = '200ms'\nstop_within = '3s'\n[worker]\nreport_every = '100ms'\ngrace = '500ms'\ndeadline = '1s'\nstop_within = '3s'";
    play.rows(keys());
    let [a, b, channel] = play.begin();
    // What comes last is sent on, but perhaps not stored.
    play.rows(keys().map(|it| format!("{it} late")));
    kafka.stop();
    a.await_log("cannot be reached", 1);
    assert_eq!(play.await_read(&a, "c1", 1), "of c1", "reads do not need Kafka");
    for it in [&a, &channel] {
        it.signal("-TERM");
    }
    for it in [a, channel] {
        let log = it.log_path();
        assert_eq!(it.ended().code(), Some(Exit::TimedOut as i32));
        let told = std::fs::read_to_string(log).unwrap();
        assert!(told.contains("has not ended within 3s, and gives up"), "{told}");
    }
    // By a second signal, at once.
    b.signal("-TERM");
    b.await_log("stops in order", 1);
    b.signal("-TERM");
    assert_eq!(b.ended().code(), Some(Exit::Failed as i32));

    kafka.start();
    let (a, b, _channel) = (play.worker("a"), play.worker("b"), play.channel());
    assert_eq!(play.await_read(&a, "c1 late", 1), "of c1 late");
    assert_eq!(play.await_read(&b, "z1 late", 1), "of z1 late");
    play.check_verified();
}
