//! Sums up queries by cell and tick, where they were read: before any exchange.
//!
//! ```text
//!  payloads ─────────────────────> tally ──┬──> sums      (cell, +what it was asked in the tick)
//!  splits ──> broadcast ─────────>   (one  └──> reports   what was read, refused and sampled
//!  by tick    to every timely worker  tick)
//! ```
//!
//! * **Versioned.** Payloads of tick `t` are looked up among the split points as of `t`, however far either
//!   input is ahead of the other.
//! * **In order.** Ticks are tallied one after the other; what comes for a later one waits, unread.

use std::collections::BTreeMap;

use differential_dataflow::AsCollection;
use schemas::CellId;
use schemas::wire::DecodeError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;
use timely::progress::frontier::MutableAntichain;

use crate::samples::Sample;
use crate::splits::SplitChange;
use crate::tally::{Intake, Payload, Query, Refusal, Rules, Tally};
use crate::{Sums, Tick};

/// Values of records of the query log, each with its tick. Every timely worker reads its own.
pub type Payloads<'scope> = Stream<'scope, Tick, Vec<(Payload, Tick)>>;

/// Changes of split points, each with the tick from which on it holds. One timely worker feeds them.
pub type SplitChanges<'scope> = Stream<'scope, Tick, Vec<(SplitChange, Tick)>>;

/// What one timely worker read in one tick, besides sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub tick: Tick,
    pub intake: Intake,
    pub refusals: Vec<Refusal>,
    /// Of watched cells, in key order. Those of all timely workers together are to be merged.
    pub samples: Vec<(CellId, Sample)>,
}

/// Reports; there is none where a tick has no payloads.
pub type Reports<'scope> = Stream<'scope, Tick, Vec<Report>>;

/// What each cell was asked in each tick, and what there is to report of the records.
///
/// The operator holds the payloads of ticks that cannot be tallied yet, each tick with a capability
/// for either output, the split changes of ticks to come, and the sums of the one tick that is being
/// tallied. It tallies as payloads come, gives sums and report when the tick is closed in both
/// inputs, and releases the tick's capabilities with that.
pub fn sums<'scope>(
    payloads: Payloads<'scope>,
    splits: SplitChanges<'scope>,
    rules: Rules,
    read: impl Fn(&[u8], &mut dyn FnMut(Query<'_>)) -> Result<usize, DecodeError> + 'static,
) -> (Sums<'scope>, Reports<'scope>) {
    let mut builder = OperatorBuilder::new("Sums".to_owned(), payloads.scope());
    let mut payloads = builder.new_input(payloads, Pipeline);
    let mut splits = builder.new_input(splits.broadcast(), Pipeline);
    let (sums_output, sums_stream) = builder.new_output::<Vec<_>>();
    let (reports_output, reports_stream) = builder.new_output::<Vec<_>>();

    builder.build(move |_| {
        let mut sums = OutputBuilder::<_, CapacityContainerBuilder<_>>::from(sums_output);
        let mut reports = OutputBuilder::<_, CapacityContainerBuilder<_>>::from(reports_output);
        let mut tally = Tally::new(rules);
        let mut changes = BTreeMap::<Tick, Vec<SplitChange>>::new();
        let mut open = BTreeMap::<Tick, Open>::new();
        move |frontiers| {
            splits.for_each(|_, batch| {
                for (change, tick) in batch.drain(..) {
                    changes.entry(tick).or_default().push(change);
                }
            });
            payloads.for_each(|cap, batch| {
                for (payload, tick) in batch.drain(..) {
                    let open = open.entry(tick).or_insert_with(|| Open {
                        caps: [cap.delayed(&tick, 0), cap.delayed(&tick, 1)],
                        payloads: Vec::new(),
                    });
                    open.payloads.push(payload);
                }
            });
            let passed = |frontier: &MutableAntichain<Tick>, tick| !frontier.less_equal(&tick);
            while let Some(mut first) = open.first_entry() {
                let tick = *first.key();
                // Nothing can come before it any more, and the split points as of it are known.
                if frontiers[0].less_than(&tick) || !passed(&frontiers[1], tick) {
                    break;
                }
                while let Some(due) = changes.first_entry().filter(|it| *it.key() <= tick) {
                    tally.split(due.remove());
                }
                for payload in first.get_mut().payloads.drain(..) {
                    tally.add(tick, payload, &read);
                }
                if !passed(&frontiers[0], tick) {
                    break;
                }
                let [sums_cap, reports_cap] = first.remove().caps;
                let tallied = tally.close();
                let rows = tallied.sums.into_iter().map(|(cell, sum)| (cell, tick, sum));
                sums.activate().session(&sums_cap).give_iterator(rows);
                let (intake, refusals, samples) =
                    (tallied.intake, tallied.refusals, tallied.samples);
                let report = Report { tick, intake, refusals, samples };
                reports.activate().session(&reports_cap).give(report);
            }
        }
    });
    (sums_stream.as_collection(), reports_stream)
}

/// A tick whose payloads still come.
struct Open {
    caps: [Capability<Tick>; 2],
    payloads: Vec<Payload>,
}
