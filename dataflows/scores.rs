//! Takes forecasts in, as upserts.
//!
//! A model need not answer twice the same way, so a forecast cannot be recomputed to retract it: the
//! operator remembers the one that it replaces. One that is equal to the last causes no update; as
//! forecasts are quantised, most are.

use differential_dataflow::operators::arrange::upsert::arrange_from_upsert;
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use differential_dataflow::{ExchangeData, Hashable};
use timely::dataflow::Stream;

use crate::{ByKey, Tick};

/// Last values by key, each with its tick; `None` ends a key.
pub type Upserts<'scope, K, V> = Stream<'scope, Tick, Vec<(K, Option<V>, Tick)>>;

/// The last value of every key: forecasts of ranges, and capacities of nodes.
///
/// A tick has one value of a key; of several, it is not said which one counts.
pub fn scores<'scope, K, V>(upserts: Upserts<'scope, K, V>, name: &str) -> ByKey<'scope, K, V>
where
    K: ExchangeData + Hashable + std::hash::Hash,
    V: ExchangeData,
{
    arrange_from_upsert::<ValBuilder<K, V, Tick, isize>, ValSpine<K, V, Tick, isize>, K, V>(
        upserts, name,
    )
}
