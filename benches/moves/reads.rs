//! Reads single keys at a steady pace, and notes how long each takes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::key;

/// Between the beginnings of two reads of one client.
const PACE: Duration = Duration::from_millis(5);

/// One connection that is kept, to whom answers in JSON.
pub struct Asking {
    stream: BufReader<TcpStream>,
}

/// Who reads keys.
pub struct Client {
    asking: Asking,
    /// A worker is told which epoch is believed to hold the key; a router is not.
    epoch: Option<u64>,
    row: u64,
    rows: u64,
    /// The least key that it reads.
    from: Vec<u8>,
}

impl Asking {
    pub fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_nodelay(true).expect("it is a connection");
        Self { stream: BufReader::new(stream) }
    }

    pub fn ask(&mut self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("it listens");
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("it answers");
            let line = line.trim().to_ascii_lowercase();
            if let Some(it) = line.strip_prefix("content-length:") {
                length = it.trim().parse().expect("a number");
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("it answers");
        serde_json::from_slice(&body).expect("it answers in JSON")
    }
}

impl Client {
    pub fn new(port: u16, epoch: Option<u64>, rows: u64) -> Self {
        Self { asking: Asking::new(port), epoch, row: 0, rows, from: Vec::new() }
    }

    pub fn only_from(&mut self, key: &str) {
        self.from = key.into();
    }

    /// Reads one key and returns the seconds that it took.
    pub fn read(&mut self) -> f64 {
        loop {
            self.row = (self.row + 7919) % self.rows;
            if self.from <= key(self.row).0 {
                break;
            }
        }
        let key = String::from_utf8(key(self.row).0).expect("keys are text");
        let mut read = json!({ "what": { "key": key } });
        if let Some(epoch) = self.epoch {
            read["epoch"] = epoch.into();
        }
        let body = json!({ "reads": [read] });
        let begin = Instant::now();
        let answer = self.asking.ask("/v1/reads", &body);
        let took = begin.elapsed().as_secs_f64();
        let found = &answer["answers"][0]["found"]["entries"];
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{key}: {answer}");
        took
    }

    /// Reads at a steady pace for a while; returns the seconds of each read, ascending.
    pub fn pace(&mut self, during: Duration) -> Vec<f64> {
        let begin = Instant::now();
        let mut took = Vec::new();
        while begin.elapsed() < during {
            let due = begin + PACE * took.len() as u32;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            took.push(self.read());
        }
        took.sort_by(f64::total_cmp);
        took
    }
}

/// The value that a part of all, in thousandths, is below.
pub fn quantile(sorted: &[f64], permille: usize) -> f64 {
    sorted[(sorted.len() * permille / 1000).min(sorted.len() - 1)]
}
