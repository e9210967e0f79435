//! Holds the inputs and outputs of the stages, for the thread that steps a timely worker.
//!
//! ```text
//!  feed ──> advance_to(tick + 1) ──> step while !is_settled(tick) ──> drain outputs
//! ```
//!
//! Every timely worker advances every stage; what one of them feeds reaches those that need it. Each
//! drains what was settled with it: the outputs of all of them together are the collection.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::input::InputSession;
use schemas::{CellId, NodeId, RangeId};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::input::Handle;
use timely::dataflow::operators::{Operator, Probe};
use timely::dataflow::{ProbeHandle, Stream};

use crate::Tick;
use crate::delta::Placed;
use crate::heat::Rolling;
use crate::heatmap::WindowView;
use crate::splits::SplitChange;
use crate::sums::Report;
use crate::tally::Payload;
use crate::window::Reshape;

/// Takes in items that carry their ticks: none before the tick that the stage stands at.
pub type Feed<D> = Handle<Tick, D>;

/// Takes in rows, at the tick that the stage stands at.
pub type FeedRows<D> = InputSession<Tick, D, isize>;

/// What a timely worker was told of a collection and has not been asked for yet.
pub struct Output<D>(Rc<RefCell<Vec<D>>>);

impl<D: Clone + 'static> Output<D> {
    /// Keeps what a stream brings; the probe passes a tick when all of it is kept.
    pub fn new(stream: Stream<'_, Tick, Vec<D>>, probe: &ProbeHandle<Tick>) -> Self {
        let kept = Rc::new(RefCell::new(Vec::new()));
        let keep = Rc::clone(&kept);
        stream
            .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "Output", |_, _| {
                move |input, _| input.for_each(|_, batch| keep.borrow_mut().append(batch))
            })
            .probe_with(probe);
        Self(kept)
    }

    /// Takes what has come. Its order depends on how timely workers were stepped: sort before it can
    /// reach a topic.
    pub fn drain(&self) -> Vec<D> {
        self.0.take()
    }
}

/// First stage: from queries to heat.
pub struct HeatStage {
    /// Each timely worker feeds its own share.
    pub payloads: Feed<(Payload, Tick)>,
    /// The rest is fed by one of them.
    pub splits: Feed<(SplitChange, Tick)>,
    pub reshapes: Feed<(Reshape, Tick)>,
    pub cell_ranges: FeedRows<(CellId, RangeId)>,
    pub range_nodes: FeedRows<(RangeId, NodeId)>,

    pub reports: Output<Report>,
    /// What changes in the heat of each cell.
    pub cells: Output<(CellId, Tick, Rolling)>,
    pub ranges: Output<((RangeId, Rolling), Tick, isize)>,
    pub nodes: Output<((NodeId, Rolling), Tick, isize)>,
    pub window: WindowView,
    pub probe: ProbeHandle<Tick>,
}

impl HeatStage {
    /// Says that all before the tick is fed.
    pub fn advance_to(&mut self, tick: Tick) {
        advance(&mut self.payloads, tick);
        advance(&mut self.splits, tick);
        advance(&mut self.reshapes, tick);
        advance_rows(&mut self.cell_ranges, tick);
        advance_rows(&mut self.range_nodes, tick);
    }

    pub fn is_settled(&self, tick: Tick) -> bool {
        !self.probe.less_equal(&tick)
    }
}

/// Second stage: from the desired assignment to the delta.
pub struct DeltaStage {
    pub desired: FeedRows<Placed>,
    pub current: FeedRows<Placed>,

    pub delta: Output<(Placed, Tick, isize)>,
    pub probe: ProbeHandle<Tick>,
}

impl DeltaStage {
    /// Says that all before the tick is fed.
    pub fn advance_to(&mut self, tick: Tick) {
        advance_rows(&mut self.desired, tick);
        advance_rows(&mut self.current, tick);
    }

    pub fn is_settled(&self, tick: Tick) -> bool {
        !self.probe.less_equal(&tick)
    }
}

fn advance<D: Clone + 'static>(feed: &mut Feed<D>, tick: Tick) {
    feed.advance_to(tick);
    feed.flush();
}

fn advance_rows<D: differential_dataflow::Data>(feed: &mut FeedRows<D>, tick: Tick) {
    feed.advance_to(tick);
    feed.flush();
}
