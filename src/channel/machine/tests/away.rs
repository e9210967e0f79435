//! A channel that was away: when it asks for a rebuild, under which name, and what its commits say meanwhile (R24).

use super::super::away::LOOKS_PER_LAG;
use super::*;
use crate::channel::request;

const LAG_MS: u64 = 100_000;

const NOW: u64 = 1_000_000;

const COMPACTED: Settings = Settings { compaction_lag_ms: Some(LAG_MS), ..SETTINGS };

/// A channel of a compacted table, with a map.
fn bench() -> Bench {
    let mut it = Bench { channel: Channel::new(COMPACTED), now: NOW };
    it.map(&[range("", "", "a", 1)]);
    it
}

/// Takes a partition over, with a commit whose text that is; returns the text that is committed then.
fn given(it: &mut Bench, offset: u64, text: Option<&str>) -> String {
    let committed = text.map(|text| Committed::read(text).expect("a channel writes it"));
    it.tell(Event::Assigned { partition: 0, offset, committed });
    done(it).pop().expect("a round follows")
}

/// Lets the next round begin; returns what is committed.
fn round(it: &mut Bench) -> String {
    it.now += ROUND_MS;
    it.tell(Event::Tick);
    done(it).pop().expect("it ends with a commit")
}

/// Ends of partition 0 are looked at if that is due; returns whether they were.
fn look(it: &mut Bench, end: u64, position: u64) -> bool {
    it.tell(Event::Tick);
    let is_due = it.peek(|it| *it == Action::LookAtEnds);
    if is_due {
        let ends = [(0, End { end, position })].into();
        it.tell(Event::EndsSeen { asked: Millis(it.now), ends });
    }
    is_due
}

/// Ends the rounds that are on; returns what happened in order: requests, flushes, texts of commits.
fn done(it: &mut Bench) -> Vec<String> {
    let mut res = Vec::new();
    while let Some(action) = it.channel.poll_action() {
        match action {
            Action::Flush => {
                res.push("flush".to_owned());
                it.tell(Event::Flushed);
            }
            Action::Commit { offsets, generation, caught_up } => {
                let [(partition, offset)] = offsets[..] else { panic!("{offsets:?}") };
                let caught_up = caught_up.get(&partition).copied();
                res.push(format!("{offset}: {}", Committed { generation, caught_up }));
                it.tell(Event::Committed { stored: [0].into() });
            }
            Action::AskRebuild(away) => res.push(request::rebuild("g", &away).id),
            Action::Send(_)
            | Action::LookAtEnds
            | Action::Pause(_)
            | Action::Resume(_)
            | Action::LetGo(_) => (),
        }
    }
    res
}

/// Those that ask.
fn asked(done: &[String]) -> Vec<&str> {
    done.iter().map(String::as_str).filter(|it| it.starts_with("rebuild")).collect()
}

#[test]
fn r24_channel_that_was_away_for_too_long_asks_and_only_then_commits_that_it_is_back() {
    let mut it = bench();
    let text = format!("1 {} 5", NOW - LAG_MS - 1);
    assert_eq!(given(&mut it, 5, Some(&text)), format!("5: {text}"));
    assert!(look(&mut it, 7, 5));
    it.row(0, 5, &["f"]);
    // Behind, the old time is carried on.
    assert_eq!(round(&mut it), format!("6: {text}"));
    it.row(0, 6, &["f"]);
    let expected = [
        format!("rebuild-g-0-{}", NOW - LAG_MS - 1),
        "flush".to_owned(),
        // All of before the look is read.
        format!("7: 1 {NOW} 7"),
    ];
    assert_eq!(done(&mut it), expected);
    it.row(0, 7, &["f"]);
    it.now += LAG_MS;
    look(&mut it, 8, 8);
    assert_eq!(asked(&done(&mut it)), [""; 0], "once");
}

#[test]
fn r24_request_of_a_round_that_is_on_stands_before_the_next() {
    let mut it = bench();
    let text = format!("1 {} 5", NOW - LAG_MS - 1);
    given(&mut it, 5, Some(&text));
    look(&mut it, 6, 5);
    it.now += ROUND_MS;
    it.tell(Event::Tick);
    // The flush was wanted before the request was made.
    it.row(0, 5, &["f"]);
    let done = done(&mut it);
    assert_eq!(
        done[..3],
        ["flush".into(), format!("rebuild-g-0-{}", NOW - LAG_MS - 1), format!("5: {text}")]
    );
    assert_eq!(done[3..], ["flush".to_owned(), format!("6: 1 {NOW} 6")]);
}

#[test]
fn r24_channel_that_was_away_for_less_asks_nothing() {
    let mut it = bench();
    given(&mut it, 5, Some(&format!("1 {} 5", NOW - LAG_MS)));
    assert!(look(&mut it, 6, 5));
    it.row(0, 5, &["f"]);
    assert_eq!(asked(&done(&mut it)), [""; 0]);
    assert_eq!(round(&mut it), format!("6: 1 {NOW} 6"));
}

#[test]
fn r24_slow_reader_was_away_for_as_long_as_it_took() {
    let mut it = bench();
    given(&mut it, 5, Some(&format!("1 {} 5", NOW - LAG_MS / 2)));
    assert!(look(&mut it, 6, 5));
    it.now += LAG_MS / 2 + 1;
    it.row(0, 5, &["f"]);
    let away = |it: Action| if let Action::AskRebuild(away) = it { Some(away) } else { None };
    let away = it.actions().into_iter().find_map(away).expect("it asks");
    assert_eq!((away.since.time.0, away.until.time.0), (NOW - LAG_MS / 2, it.now));
}

#[test]
fn r24_nothing_was_missed_where_nothing_was_written() {
    let mut it = bench();
    given(&mut it, 5, Some("1 7 6"));
    // A marker lies between what is committed and the end that was read to.
    assert!(look(&mut it, 6, 5));
    assert_eq!(asked(&done(&mut it)), [""; 0]);
    assert_eq!(round(&mut it), format!("5: 1 {NOW} 6"));
}

#[test]
fn r24_rows_that_were_read_late_count_though_the_channel_died_before_it_asked() {
    let mut it = bench();
    // It has committed up to the end, by an old time.
    given(&mut it, 9, Some("1 7 5"));
    assert!(look(&mut it, 9, 9));
    let done = done(&mut it);
    assert_eq!((asked(&done), &*done[2]), (vec!["rebuild-g-0-7"], "9: 1 1000000 9"));
}

#[test]
fn r24_compacted_away_to_the_last_row_is_missed_too() {
    let mut it = bench();
    given(&mut it, 5, Some("1 7 5"));
    assert!(look(&mut it, 9, 5));
    assert_eq!(asked(&done(&mut it)), [""; 0], "it may be on its way");
    it.now += ROUND_MS;
    // No row has come, and the position is behind all that were.
    assert!(look(&mut it, 9, 9));
    assert_eq!(asked(&done(&mut it)), ["rebuild-g-0-7"]);
}

#[test]
fn r24_request_that_was_made_before_a_crash_is_made_again_under_its_name() {
    let ask = |ms| {
        let mut it = bench();
        it.now += ms;
        given(&mut it, 5, Some("1 7 5"));
        look(&mut it, 6 + ms, 5);
        it.row(0, 5 + ms, &["f"]);
        asked(&done(&mut it)).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ask(0), ["rebuild-g-0-7"]);
    assert_eq!(ask(3), ask(0));
}

#[test]
fn r24_commit_of_an_older_channel_counts_as_caught_up_when_it_is_taken_over() {
    let mut it = bench();
    assert_eq!(given(&mut it, 5, Some("1")), format!("5: 1 {NOW} 5"));
    look(&mut it, 6, 5);
    it.row(0, 5, &["f"]);
    assert_eq!(asked(&done(&mut it)), [""; 0]);
}

#[test]
fn r24_without_a_commit_nothing_is_known_to_be_read() {
    let mut it = bench();
    assert_eq!(given(&mut it, 0, None), "0: 1 0 0");
    assert!(look(&mut it, 1, 0));
    it.row(0, 0, &["f"]);
    assert_eq!(asked(&done(&mut it)), ["rebuild-g-0-never-1"]);
    // That stays so, if it ends before.
    let mut it = bench();
    given(&mut it, 1, Some("1 0 0"));
    look(&mut it, 1, 1);
    assert_eq!(asked(&done(&mut it)), ["rebuild-g-0-never-1"]);
    // Of an empty partition there is nothing to miss.
    let mut it = bench();
    given(&mut it, 0, None);
    look(&mut it, 0, 0);
    it.row(0, 0, &["f"]);
    look(&mut it, 1, 1);
    assert_eq!(asked(&done(&mut it)), [""; 0]);
}

#[test]
fn r24_end_is_unseen_until_somebody_has_looked() {
    let unseen = |it: &Bench| it.channel.unseen().collect::<Vec<_>>();
    let mut it = bench();
    assert_eq!(unseen(&it), [0; 0]);
    given(&mut it, 0, None);
    assert_eq!(unseen(&it), [0]);
    it.tell(Event::EndsSeen { asked: Millis(it.now), ends: BTreeMap::new() });
    assert_eq!(unseen(&it), [0], "no broker has answered");
    it.now += ROUND_MS;
    // At the end, which is committed before another can have the partition; or behind.
    for (end, text) in [(0, format!("0: 1 {} 0", NOW + ROUND_MS)), (9, "0: 1 0 0".into())] {
        let mut it = Bench { channel: it.channel.clone(), now: it.now };
        assert!(look(&mut it, end, 0));
        assert_eq!(unseen(&it), [0; 0]);
        let rounds = ["flush".into(), "0: 1 0 0".into(), "flush".to_owned(), text];
        assert_eq!(done(&mut it), rounds, "the second as it is seen");
    }
    // What another has seen is seen, and one that ended before has not.
    for (text, expected) in [("1 7 5", &[][..]), ("1", &[]), ("1 0 0", &[0])] {
        let mut it = bench();
        given(&mut it, 5, Some(text));
        assert_eq!(unseen(&it), expected, "{text}");
    }
}

#[test]
fn r24_what_waits_is_not_read() {
    let mut it = Bench { channel: Channel::new(COMPACTED), now: NOW };
    it.map(&[range("", "m", "a", 1)]);
    given(&mut it, 5, Some("1 7 5"));
    it.row(0, 5, &["t"]);
    look(&mut it, 6, 6);
    assert_eq!(asked(&done(&mut it)), [""; 0]);
    it.tell(Event::MapRead(row(range("m", "", "b", 2), true)));
    assert_eq!(asked(&done(&mut it)), ["rebuild-g-0-7"]);
}

#[test]
fn r24_while_all_is_read_the_time_stays_fresh() {
    let mut it = bench();
    given(&mut it, 5, Some(&format!("1 {NOW} 5")));
    assert!(look(&mut it, 5, 5));
    done(&mut it);
    // A tenth of what compaction waits, without a row.
    it.now += LAG_MS / 10 - 1;
    assert!(!look(&mut it, 5, 5));
    done(&mut it);
    it.now += 1;
    assert!(look(&mut it, 5, 5));
    assert_eq!(round(&mut it), format!("5: 1 {} 5", NOW + LAG_MS / 10));
    assert_eq!(it.channel.poll_deadline(), Some(Millis(it.now + ROUND_MS)));
    // With rows all the time, never all of them read.
    for next in 5..5 + 3 * LAG_MS / ROUND_MS {
        it.now += ROUND_MS;
        it.row(0, next, &["f"]);
        look(&mut it, next + 3, next + 1);
        let done = done(&mut it);
        assert_eq!(asked(&done), [""; 0]);
        let committed = done.last().and_then(|it| Committed::read(it.split_once(": ")?.1));
        let time = committed.and_then(|it| it.caught_up).expect("it is told").time;
        assert!(it.now <= time.0 + 2 * LAG_MS / LOOKS_PER_LAG, "{time:?} of {}", it.now);
    }
}

#[test]
fn r24_broker_that_does_not_answer_is_asked_again() {
    let mut it = bench();
    given(&mut it, 5, Some("1 7 5"));
    it.tell(Event::Tick);
    it.tell(Event::EndsSeen { asked: Millis(it.now), ends: BTreeMap::new() });
    it.now += ROUND_MS;
    done(&mut it);
    assert!(look(&mut it, 5, 5));
}

#[test]
fn r24_of_a_table_that_is_not_compacted_nothing_is_missed() {
    let mut it = Bench::new();
    it.map(&[range("", "", "a", 1)]);
    it.now = NOW;
    given(&mut it, 5, Some("1 7 5"));
    assert!(!look(&mut it, 9, 9));
    assert_eq!(it.channel.unseen().count(), 0);
    it.row(0, 5, &["f"]);
    assert_eq!(round(&mut it), "6: 1");
}
