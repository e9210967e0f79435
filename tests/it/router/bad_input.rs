//! The router asked for what it cannot answer, by more than it can serve, and fed what it cannot use.

use super::*;

#[test]
fn more_reads_than_may_wait_are_refused_and_logged() {
    let pair = Pair::start(|it| it.waiting_max = 3);
    pair.b.is(Mood::Hangs);
    let asked: Vec<_> = (0..2).map(|_| pair.router.asks_later("GET /v1/keys/tea", "")).collect();
    pair.router.until("two wait", |it| it.waiting == 2);
    let two = r#"{"reads":[{"what":{"key":"fig"}},{"what":{"range":{"start":"g"}}}]}"#;
    let busy = pair.router.ask("POST /v1/reads", two);
    assert_eq!((busy.status, busy.problem()), (503, "urn:isotherm:too_many_waiting".into()));
    assert!(busy.head.contains("retry-after: 1"), "{}", busy.head);
    assert_eq!(pair.fig(), "200 fig of a", "there is room for one");
    pair.b.is(Mood::Serves);
    for it in asked {
        assert_eq!(told(&it.join().unwrap()), "200 tea of b");
    }
    pair.router.end();
    let logged = logged(&pair.connection);
    let estimated = logged.iter().filter(|it| it.estimated).map(|it| (it.op, it.key.to_string()));
    let expected = [(Op::Read, "fig".to_owned()), (Op::Scan, "g".to_owned())];
    assert_eq!(estimated.collect::<Vec<_>>(), expected);
}

#[test]
fn requests_that_cannot_be_used_have_an_answer_each_and_stop_nothing() {
    let pair = Pair::start(|it| (it.front.reads_max, it.front.body_bytes_max) = (2, 1_000));
    let large = format!(r#"{{"reads":[{{"what":{{"key":"{}"}}}}]}}"#, "k".repeat(1_000));
    let requests = [
        ("POST /v1/reads", "what?", 400, "bad_request"),
        ("POST /v1/reads", "", 400, "bad_request"),
        ("POST /v1/reads", r#"{"reads":[{"what":{"key":"a"},"epoch":3}]}"#, 400, "bad_request"),
        ("POST /v1/reads", r#"{"reads":[{"what":{"key":"0xz"}}]}"#, 400, "bad_request"),
        (
            "POST /v1/reads",
            r#"{"reads":[{"what":{"key":"a"}},{"what":{"key":"b"}},{"what":{"key":"c"}}]}"#,
            413,
            "batch_too_large",
        ),
        ("POST /v1/reads", &large, 413, "request_too_large"),
        ("GET /v1/keys/0xzz", "", 400, "bad_request"),
        ("GET /v1/keys/%ff", "", 400, "bad_request"),
        ("GET /v1/keys/a?deadline=5", "", 400, "bad_request"),
        ("GET /v1/range?start=b&end=a", "", 400, "bad_request"),
        ("GET /v1/range?from=a", "", 400, "bad_request"),
        ("GET /v1/range?limit=0", "", 400, "bad_request"),
        ("GET /v1/range?after_index_key=b", "", 400, "bad_request"),
        ("GET /v1/nothing", "", 404, "no_such_path"),
        ("DELETE /v1/reads", "", 405, "no_such_method"),
    ];
    for (request, body, status, code) in requests {
        let heard = pair.router.ask(request, body);
        let problem = (heard.status, heard.problem());
        assert_eq!(problem, (status, format!("urn:isotherm:{code}")), "{request} {body}");
        assert!(heard.head.contains("content-type: application/problem+json"), "{}", heard.head);
    }
    let mut garbage = TcpStream::connect(pair.router.address).unwrap();
    garbage.write_all(b"\x16\x03\x01what? \r\n\r\n").unwrap();
    assert_eq!(hear(garbage).status, 400);
    let none = r#"{"reads":[],"deadline_ms":0}"#;
    assert_eq!(pair.router.ask("POST /v1/reads", none).answers(), []);
    let one = r#"{"reads":[{"what":{"key":"fig"}},{"what":{"range":{"start":"b","end":"a"}}}]}"#;
    let answers = pair.router.ask("POST /v1/reads", one).answers();
    assert!(matches!(&answers[..], [Answer::Found(_), Answer::Refused { .. }]), "{answers:?}");
    pair.until_counted("bad_request", 9);
    pair.router.end();
}

#[test]
fn record_of_assignment_that_cannot_be_used_is_a_dead_letter_and_stops_nothing() {
    let pair = Pair::start(|_| ());
    pair.planner.write(&Output::new("assignment", b"k".to_vec(), b"what?".to_vec()));
    pair.planner.write(&Output::new("node_capacity", b"a".to_vec(), b"what?".to_vec()));
    let mut inverted = range("m", "b", "a", 2);
    inverted.last = true;
    pair.planner.assign(&[inverted]);
    pair.until_counted("reports_not_used", 1);
    pair.until_counted("map_rows_refused", 1);
    assert_eq!(pair.fig(), "200 fig of a");
    pair.router.end();
    let mut dead = 0;
    scan(&pair.connection, "dead_letter", Start::Beginning, |record| {
        assert_eq!(record.value.as_deref(), Some(&b"what?"[..]));
        dead += 1;
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(dead, 1);
}

#[test]
fn more_connections_than_may_be_are_told_so_and_those_that_rest_are_let_go() {
    let pair = Pair::start(|it| it.connections_max = 8);
    let resting: Vec<_> =
        (0..8).map(|_| TcpStream::connect(pair.router.address).unwrap()).collect();
    let mut refused = 0;
    for _ in 0..100 {
        let mut one = TcpStream::connect(pair.router.address).unwrap();
        let mut told = String::new();
        one.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("HTTP/1.1 503"), "{told}");
        let (_, body) = told.split_once("\r\n\r\n").unwrap();
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        refused += u64::from(problem["type"] == "urn:isotherm:too_many_connections");
    }
    assert_eq!(refused, 100);
    pair.until_counted("too_many_connections", 100);
    drop(resting);
    await_that("room for another", || pair.try_fig());
    pair.router.end();

    let pair = Pair::start(|it| it.idle_max = Duration::from_millis(20));
    let mut resting = TcpStream::connect(pair.router.address).unwrap();
    resting.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(resting.read(&mut [0]).unwrap(), 0, "it is closed");
    pair.router.end();
}

#[test]
fn request_that_does_not_come_in_full_is_given_up_and_told_so() {
    let pair = Pair::start(|it| it.front.body_within = Duration::from_millis(20));
    let mut half = TcpStream::connect(pair.router.address).unwrap();
    half.write_all(b"POST /v1/reads HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    half.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut told = [0; 4096];
    let n = half.read(&mut told).unwrap();
    let told = String::from_utf8_lossy(&told[..n]);
    assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("request_slow"), "{told}");
    pair.router.end();
}

#[test]
fn client_of_http2_is_told_how_many_requests_it_may_have_at_once() {
    const SETTINGS: u8 = 4;
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    let pair = Pair::start(|_| ());
    let mut http_2 = TcpStream::connect(pair.router.address).unwrap();
    http_2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut head = [0; 9];
    http_2.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut settings = vec![0; length as usize];
    http_2.read_exact(&mut settings).unwrap();
    assert_eq!(head[3], SETTINGS);
    let number = |it: &[u8]| it.iter().fold(0, |res, it| res << 8 | u64::from(*it));
    let settings = settings.chunks(6).map(|it| (number(&it[..2]) as u16, number(&it[2..])));
    let streams = settings.filter(|it| it.0 == MAX_CONCURRENT_STREAMS).map(|it| it.1);
    assert_eq!(streams.collect::<Vec<_>>(), [200]);
    drop(http_2);
    pair.router.end();
}
