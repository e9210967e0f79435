//! Requests that a worker cannot use, or that are too many.

use std::process::Command;

use super::*;

const CONNECTIONS: usize = 10_000;

#[test]
fn requests_that_cannot_be_used_have_an_answer_each_and_hold_nobody_up() {
    let Some(mut play) = Play::create("worker-web") else { return };
    play.rows(keys());
    let [a, _channel] = play.begin_alone();
    let port = a.port();
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");

    let request = |head: &str, body: &str| {
        let length = body.len();
        let head = format!("{head} HTTP/1.1\r\nHost: x\r\nConnection: close");
        raw(port, format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes()).unwrap()
    };
    let reads = |n: usize| {
        let one = r#"{"what":{"key":"c1"},"epoch":1}"#;
        format!(r#"{{"reads":[{}]}}"#, vec![one; n].join(","))
    };
    let large = format!(r#"{{"reads":[{{"what":{{"key":"{}"}}}}]}}"#, "k".repeat(5 << 20));
    let many = reads(1_001);
    let problems = [
        ("POST /v1/reads", "what?", "400", "bad_request"),
        ("POST /v1/reads", "", "400", "bad_request"),
        ("POST /v1/reads", r#"{"reads":[{"what":{"key":"a"}}]"#, "400", "bad_request"),
        ("POST /v1/reads", r#"{"reads":[{"what":{"key":"0xz"},"epoch":1}]}"#, "400", "bad_request"),
        ("POST /v1/reads", r#"{"reads":[],"what":1}"#, "400", "bad_request"),
        ("POST /v1/reads", &large, "413", "request_too_large"),
        ("POST /v1/reads", &many, "413", "batch_too_large"),
        ("GET /v1/held?limit=all", "", "400", "bad_request"),
        ("GET /v1/nothing", "", "404", "no_such_path"),
        ("DELETE /v1/reads", "", "405", "no_such_method"),
    ];
    for (head, body, status, code) in problems {
        let heard = request(head, body);
        let told = heard.starts_with(&format!("HTTP/1.1 {status} "))
            && heard.contains("application/problem+json")
            && heard.contains(&format!(r#""type":"urn:isotherm:{code}""#));
        assert!(told, "{head}: {heard}");
    }
    // What is no HTTP at all, of either version.
    for bytes in [&b"\x16\x03\x01what? \r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n"] {
        let heard = raw(port, bytes).unwrap();
        assert!(
            heard.starts_with("HTTP/1.1 400 ") || heard.starts_with("HTTP/1.0 400 "),
            "{heard}"
        );
    }
    let heard = raw(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nwhat? what? what? what?").unwrap();
    assert!(!heard.contains("200 OK"), "{heard}");

    // Reads that are refused, or past their deadline, in the answer to each.
    let mixed = r#"{"reads":[{"what":{"key":"c1"}},{"what":{"key":"c1"},"epoch":7},
        {"what":{"range":{"start":"b","end":"a"}},"epoch":1}],"deadline_ms":9000}"#;
    let heard = request("POST /v1/reads", mixed);
    assert!(heard.contains(r#"{"refused":{"reason":"no_epoch"}}"#), "{heard}");
    let heard = request(
        "POST /v1/reads",
        &format!(r#"{},"deadline_ms":0}}"#, reads(2).trim_end_matches('}')),
    );
    assert!(heard.contains(r#"{"answers":["late","late"]}"#), "{heard}");
    play.await_counts(
        &a,
        &[
            ("bad_request", 6),
            ("request_too_large", 1),
            ("batch_too_large", 1),
            ("no_such_path", 1),
            ("no_such_method", 1),
            ("reads_late", 2),
        ],
    );
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");
}

#[test]
fn ten_thousand_connections_are_answered_and_hold_no_reader_up_that_is_connected() {
    let Some(mut play) = Play::create("worker-crowd") else { return };
    play.rows(keys());
    let [a, _channel] = play.begin_alone();
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");
    raise_files_max(CONNECTIONS + 1_000);
    let mut reader = TcpStream::connect(("127.0.0.1", a.port())).unwrap();
    let mut ask = || {
        let body = r#"{"reads":[{"what":{"key":"c1"},"epoch":1}]}"#;
        let head = format!("POST /v1/reads HTTP/1.1\r\nHost: x\r\nContent-Length: {}", body.len());
        write!(reader, "{head}\r\n\r\n{body}").unwrap();
        let mut bytes = [0; 4096];
        let n = reader.read(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    };
    assert!(ask().starts_with("HTTP/1.1 200 OK"));
    let connect = |n| {
        if n % 500 == 0 {
            assert!(ask().starts_with("HTTP/1.1 200 OK"), "after {n} others");
        }
        TcpStream::connect(("127.0.0.1", a.port())).unwrap()
    };
    let crowd: Vec<_> = (0..CONNECTIONS).map(connect).collect();
    // Those beyond the limit are told so, and closed; the others rest.
    let mut told = 0;
    for mut it in crowd.iter().skip(CONNECTIONS / 2) {
        let mut answer = String::new();
        it.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("urn:isotherm:too_many_connections"), "{answer}");
        told += 1;
    }
    assert_eq!(told, CONNECTIONS / 2);
    drop(crowd);
    // It is told now and then, so it may be told before it is whole.
    let expected = CONNECTIONS - 1_024..CONNECTIONS + 100;
    await_that("the count of them", || {
        let body = a.ask("/readyz?verbose")?.1;
        let counts = body.lines().find_map(|it| it.strip_prefix("[+] counts: "))?;
        let refused = counts.split(", ").find_map(|it| it.strip_suffix(" too_many_connections"))?;
        let refused: usize = refused.parse().unwrap();
        assert!(refused < expected.end, "{counts}");
        expected.contains(&refused).then_some(())
    });
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");
}

/// Lets this process open so many files.
fn raise_files_max(files: usize) {
    let (id, files) = (std::process::id().to_string(), format!("--nofile={files}:"));
    let raised = Command::new("prlimit").args(["--pid", &id, &files]).status().unwrap();
    assert!(raised.success(), "the limit of open files cannot be raised");
}
