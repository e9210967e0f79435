//! Runs a broker inside this process, for a demonstration, a replay, a test: nothing to install.
//!
//! It is the mock cluster of librdkafka, on a loopback port: the real protocol, so other programs
//! can connect too. **What it only pretends**:
//!
//! * *Transactions.* What was aborted stays visible, and a fenced planner is not kept from writing
//!   by the broker. Exactly once holds on a real Kafka only.
//! * *Keeping.* A partition holds 5 MiB, and nothing outlives the process. What is older is dropped
//!   without a word; [`super::source`] and [`super::tail`] therefore fail loudly on a gap. A record
//!   of more than 5 MiB is acknowledged and then gone. Write small records, paced, to many
//!   partitions.
//! * *Settings.* Topics have none: no retention, no compaction, and stamps are always the writer's.
//! * *Time.* It cannot look up the offset of a time.

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rdkafka::ClientConfig;
use rdkafka::bindings::{
    rd_kafka_handle_mock_cluster, rd_kafka_mock_group_initial_rebalance_delay_ms,
};
use rdkafka::producer::{BaseProducer, Producer};

use super::Connection;

/// The cluster looks at its orders when something happens, and once a second; at times it does not see that one
/// has come (librdkafka 2.12: it answers one, and then throws away what wakes it, for the next one, too).
const NUDGED_EVERY: Duration = Duration::from_millis(5);

/// A broker that ends with this value.
pub struct Embedded {
    bootstrap_servers: String,
    /// Dropped first, which ends the thread.
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

struct Order {
    topic: String,
    partitions: u32,
    done: SyncSender<anyhow::Result<()>>,
}

impl Embedded {
    /// Starts a broker with these topics, by name and number of partitions.
    pub fn start(topics: &[(String, u32)]) -> anyhow::Result<Self> {
        let (orders, incoming) = sync_channel(1);
        let (started, start) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("embedded-broker".into())
            .spawn(move || serve(&started, &incoming))
            .context("start the thread of the embedded broker")?;
        let bootstrap_servers = start.recv().context("the embedded broker did not start")??;
        let embedded = Self { bootstrap_servers, orders: Some(orders), thread: Some(thread) };
        for (topic, partitions) in topics {
            embedded.create_topic(topic, *partitions)?;
        }
        Ok(embedded)
    }

    /// Returns how to reach it.
    pub fn connection(&self) -> Connection {
        Connection {
            bootstrap_servers: self.bootstrap_servers.clone(),
            embedded: true,
            ..Connection::default()
        }
    }

    /// Creates one more topic, by its full name.
    pub fn create_topic(&self, topic: &str, partitions: u32) -> anyhow::Result<()> {
        let (done, answer) = sync_channel(1);
        let order = Order { topic: topic.to_owned(), partitions, done };
        let orders = self.orders.as_ref().expect("taken on drop only");
        orders.send(order).ok().context("the embedded broker has ended")?;
        loop {
            match answer.recv_timeout(NUDGED_EVERY) {
                Ok(created) => return created,
                // Whether it can be reached shows to who wants to.
                Err(RecvTimeoutError::Timeout) => _ = TcpStream::connect(&self.bootstrap_servers),
                Err(RecvTimeoutError::Disconnected) => bail!("the embedded broker has ended"),
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say: what it could not do was told by the call that asked for it.
            _ = thread.join();
        }
    }
}

/// Owns the cluster, which must stay on one thread, until nobody can order anything any more.
fn serve(started: &SyncSender<anyhow::Result<String>>, orders: &Receiver<Order>) {
    let owner = match owner() {
        Ok(owner) => owner,
        Err(err) => return drop(started.send(Err(err))),
    };
    let cluster = owner.client().mock_cluster().expect("the client was told to have one");
    let sent = started.send(Ok(cluster.bootstrap_servers()));
    if sent.is_err() {
        return;
    }
    for Order { topic, partitions, done } in orders {
        let created = i32::try_from(partitions)
            .map_err(|_| anyhow!("{partitions} partitions are too many"))
            .and_then(|it| Ok(cluster.create_topic(&topic, it, 1)?))
            .with_context(|| format!("create {topic} on the embedded broker"));
        // Who does not wait for the answer does not need it.
        _ = done.send(created);
    }
}

/// Makes the client that has the cluster inside.
fn owner() -> anyhow::Result<BaseProducer> {
    let owner: BaseProducer = ClientConfig::new()
        .set("test.mock.num.brokers", "1")
        // Replaced by the cluster, but it must be something.
        .set("bootstrap.servers", "embedded:1")
        .create()
        .context("start the embedded broker")?;
    // SAFETY: the client lives, and was told to have a cluster, which lives as long as it does.
    unsafe {
        let cluster = rd_kafka_handle_mock_cluster(owner.client().native_ptr());
        // Nobody else is to be waited for who might join a group.
        rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
    }
    Ok(owner)
}
