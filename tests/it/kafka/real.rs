//! The same on a real Kafka: what holds when brokers stop and transactions are aborted.
