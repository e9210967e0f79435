//! Members of a group: on the embedded broker, which is slow to let a second one in, one at a time;
//! on a real Kafka beside each other.

use isotherm::kafka::Connection;
use isotherm::kafka::group::{Claimed, Commit, Event, Group};
use isotherm::kafka::standby::Standby;

use super::broker::Broker;
use super::real::real;
use super::*;

#[test]
fn stored_offset_comes_back_with_its_text_to_who_takes_over() {
    let broker = broker(&[("table", 3)]);
    taken_over(&broker.connection());
}

#[test]
fn stored_offset_comes_back_with_its_text_on_a_real_kafka() {
    let Some(real) = real("group", &[("table", 3)]) else { return };
    taken_over(&real.connection);
}

fn taken_over(connection: &Connection) {
    let app = App::new(connection);
    (0..30).for_each(|n| app.log("table", n % 2, now_ms(), &n.to_string()));
    app.flush();
    let mut first = join(connection, None);
    let claimed = assigned(&mut first);
    let fresh = |partition| claim(partition, 0, None);
    assert_eq!(claimed, (0..3).map(fresh).collect::<Vec<_>>());
    assert_eq!(records(&mut first, 30), 30);
    let commits = [commit(0, 15, "7"), commit(1, 4, "6")];
    let told = first.commit(&commits).unwrap();
    assert_eq!(told, commits.map(|it| (it.at, Ok(()))));
    assert_eq!(first.commit(&[]).unwrap(), []);
    drop(first);
    let mut second = join(connection, None);
    let claimed = assigned(&mut second);
    assert_eq!(claimed, [claim(0, 15, Some("7")), claim(1, 4, Some("6")), claim(2, 0, None)]);
    assert_eq!(records(&mut second, 11), 11);
    assert_eq!(second.positions().unwrap()[&at("table", 1)], Offset(15));
}

#[test]
fn who_is_to_let_go_commits_first_and_the_other_goes_on_from_there() {
    let Some(real) = real("share", &[("table", 4)]) else { return };
    let app = App::new(&real.connection);
    (0..40).for_each(|n| app.log("table", n % 4, now_ms(), &n.to_string()));
    app.flush();
    let mut first = join(&real.connection, None);
    assert_eq!(assigned(&mut first).len(), 4);
    assert_eq!(records(&mut first, 40), 40);
    let mut second = join(&real.connection, None);
    let mut joined = 0;
    let revoked = loop {
        match poll(&mut second, Duration::ZERO) {
            Some(Event::Assigned(claimed)) if claimed.is_empty() => joined += 1,
            None => (),
            Some(event) => panic!("{event:?}, and nobody has let go yet"),
        }
        match poll(&mut first, Duration::from_millis(10)) {
            Some(Event::Revoked { partitions, lost: false }) => break partitions,
            None => (),
            Some(event) => panic!("{event:?}"),
        }
    };
    assert_eq!(revoked.len(), 2, "others keep what they have: {revoked:?}");
    let commits: Vec<_> = revoked.iter().map(|it| commit(it.partition, 10, "done")).collect();
    let told = first.commit(&commits).unwrap();
    assert!(told.iter().all(|it| it.1.is_ok()), "{told:?}");
    let deadline = Instant::now() + TIMEOUT;
    let claimed = loop {
        assert!(Instant::now() < deadline, "the second is given nothing");
        let event = poll(&mut first, Duration::from_millis(10));
        assert!(event.is_none(), "{event:?}");
        match poll(&mut second, Duration::from_millis(10)) {
            Some(Event::Assigned(claimed)) if claimed.is_empty() => joined += 1,
            Some(Event::Assigned(claimed)) => break claimed,
            None => (),
            Some(event) => panic!("{event:?}"),
        }
    };
    let expected: Vec<_> = revoked.iter().map(|it| claim(it.partition, 10, Some("done"))).collect();
    assert_eq!(claimed, expected);
    assert_eq!(joined, 1, "it is told once that it has joined");
    // Who has let go stores nothing of it any more.
    let told = first.commit(&[commit(revoked[0].partition, 3, "late")]).unwrap();
    assert!(told[0].1.is_err(), "{told:?}");
}

#[test]
fn member_that_ends_while_it_is_asked_to_let_go_holds_nobody_up() {
    let Some(real) = real("leaving", &[("table", 4)]) else { return };
    let mut first = join(&real.connection, None);
    assert_eq!(assigned(&mut first).len(), 4);
    let mut second = join(&real.connection, None);
    let deadline = Instant::now() + TIMEOUT;
    // It is told, and does not let go.
    loop {
        assert!(Instant::now() < deadline, "the first is not asked to let go");
        assert!(next(&mut second, Duration::ZERO).is_none());
        if let Some(Event::Revoked { .. }) = next(&mut first, Duration::from_millis(10)) {
            break;
        }
    }
    drop(first);
    let mut given = assigned(&mut second).len();
    while given < 4 {
        given += assigned(&mut second).len();
    }
    // And one that does not even look whether it is asked.
    let mut third = join(&real.connection, None);
    assert!(next(&mut third, Duration::from_secs(1)).is_none());
    drop(second);
    given = 0;
    while given < 4 {
        given += assigned(&mut third).len();
    }
}

#[test]
fn commit_of_a_member_that_is_not_one_any_more_is_not_stored() {
    let Some(real) = real("zombie", &[("table", 2)]) else { return };
    let mut hasty = real.connection.clone();
    // Who does not poll for that long is out.
    let limits = [("max.poll.interval.ms", "6000"), ("session.timeout.ms", "6000")];
    let limits = limits.map(|(key, value)| (key.to_owned(), value.to_owned()));
    hasty.consumer.properties = BTreeMap::from(limits);
    let mut zombie = join(&hasty, None);
    assert_eq!(assigned(&mut zombie).len(), 2);
    let mut heir = join(&real.connection, None);
    // The zombie stands still from here on.
    assert_eq!(assigned(&mut heir).len(), 2);
    let told = heir.commit(&[commit(0, 5, "heir"), commit(1, 5, "heir")]).unwrap();
    assert!(told.iter().all(|it| it.1.is_ok()), "{told:?}");
    let told = zombie.commit(&[commit(0, 3, "zombie"), commit(1, 9, "zombie")]).unwrap();
    assert!(told.len() == 2 && told.iter().all(|it| it.1.is_err()), "{told:?}");
    // It is told to let go, and what is stored is the heir's.
    let deadline = Instant::now() + TIMEOUT;
    let mut gone = Vec::new();
    while gone.len() < 2 {
        assert!(Instant::now() < deadline, "the zombie does not learn what it is");
        match zombie.poll(Duration::from_millis(10)).unwrap() {
            Some(Event::Revoked { partitions, .. }) => gone.extend(partitions),
            None => (),
            Some(event) => panic!("{event:?}"),
        }
        let told = zombie.commit(&[commit(0, 3, "zombie"), commit(1, 9, "zombie")]).unwrap();
        assert!(told.len() == 2 && told.iter().all(|it| it.1.is_err()), "{told:?}");
    }
    drop((zombie, heir));
    let mut third = join(&real.connection, None);
    assert_eq!(assigned(&mut third), [claim(0, 5, Some("heir")), claim(1, 5, Some("heir"))]);
}

#[test]
fn named_member_is_back_at_its_place_at_once() {
    let Some(real) = real("named", &[("table", 2)]) else { return };
    let mut first = join(&real.connection, Some("channel-a"));
    assert_eq!(assigned(&mut first).len(), 2);
    // As if it were killed: it is back before it is missed, and takes its place.
    let mut again = join(&real.connection, Some("channel-a"));
    assert_eq!(assigned(&mut again).len(), 2);
    let deadline = Instant::now() + TIMEOUT;
    let err = loop {
        assert!(Instant::now() < deadline, "two of one name");
        if let Err(err) = first.poll(Duration::from_millis(10)) {
            break format!("{err:#}");
        }
    };
    assert!(err.contains("same name"), "{err}");
}

#[test]
fn named_members_that_a_hanging_broker_has_not_heard_for_too_long_join_again() {
    let Some(real) = real("missed", &[("table", 2), ("planner_progress", 1)]) else { return };
    let connection = real.connection.clone();
    // Nobody else is to need the broker.
    drop(real);
    let Some(broker) = Broker::alone("missed") else { return };
    let standby = |name| Standby::join(&connection, "planner_progress", "planner", name).unwrap();
    let planner = standby("planner-a");
    planner.wait_for_turn().unwrap();
    let other = standby("planner-b");
    let mut pair = Pair {
        members: ["channel-a", "channel-b"].map(|name| join(&connection, Some(name))),
        held: [0, 0],
        lost: 0,
    };
    let apart = |pair: &mut Pair, lost: usize| {
        let deadline = Instant::now() + TIMEOUT;
        while pair.held != [1, 1] || pair.lost < lost {
            assert!(Instant::now() < deadline, "{:?} is held, {} lost", pair.held, pair.lost);
            pair.look();
        }
    };
    apart(&mut pair, 0);
    broker.paused(|| {
        // How long it hangs is what is tried: so long that what they ask then to join again is given up
        // and asked for once more. If it only hangs until both have lost their partitions, nobody is fenced.
        let until = Instant::now() + Duration::from_secs(9);
        while Instant::now() < until || pair.lost < 2 {
            assert!(Instant::now() < until + TIMEOUT, "{} have lost something", pair.lost);
            pair.look();
        }
    });
    apart(&mut pair, 2);
    // Whose turn it is may have changed, there and back too; who never had it waits, and does not end.
    assert!(planner.keeps_turn() || !other.has_lost_turn(), "both have ended");
    if other.has_lost_turn() {
        other.wait_for_turn().expect("who ended has had its turn");
    }
}

/// Two members, and what each of them holds.
struct Pair {
    members: [Group; 2],
    held: [usize; 2],
    lost: usize,
}

impl Pair {
    fn look(&mut self) {
        for (member, held) in self.members.iter_mut().zip(&mut self.held) {
            match next(member, Duration::from_millis(10)) {
                Some(Event::Assigned(claimed)) => *held += claimed.len(),
                Some(Event::Revoked { partitions, lost }) => {
                    *held -= partitions.len();
                    self.lost += usize::from(lost);
                }
                Some(Event::Record(record)) => panic!("{record:?}"),
                None => (),
            }
        }
    }
}

fn join(connection: &Connection, member: Option<&str>) -> Group {
    Group::join(connection, "table", "channel", member).unwrap()
}

fn assigned(group: &mut Group) -> Vec<Claimed> {
    match next(group, TIMEOUT) {
        Some(Event::Assigned(claimed)) => claimed,
        event => panic!("{event:?} instead of partitions"),
    }
}

/// Reads so many records, and returns how many came.
fn records(group: &mut Group, n: usize) -> usize {
    let mut read = 0;
    while read < n {
        match next(group, TIMEOUT) {
            Some(Event::Record(_)) => read += 1,
            event => panic!("{event:?} instead of record {read}"),
        }
    }
    read
}

/// Returns what comes next, but that it has joined.
fn next(group: &mut Group, timeout: Duration) -> Option<Event> {
    match poll(group, timeout) {
        Some(Event::Assigned(claimed)) if claimed.is_empty() => poll(group, timeout),
        event => event,
    }
}

fn poll(group: &mut Group, timeout: Duration) -> Option<Event> {
    group.poll(timeout).unwrap()
}

fn claim(partition: u32, offset: u64, metadata: Option<&str>) -> Claimed {
    let from = Offset(offset);
    Claimed { at: at("table", partition), from, metadata: metadata.map(str::to_owned) }
}

fn commit(partition: u32, offset: u64, metadata: &str) -> Commit {
    Commit { at: at("table", partition), offset: Offset(offset), metadata: metadata.to_owned() }
}
