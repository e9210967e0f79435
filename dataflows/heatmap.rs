//! Maintains the heat of every cell over the last ticks: the heatmap.
//!
//! ```text
//!  sums ───────> exchange ──> window ──────────────────────> heat
//!  (cell, +sum)  by cell      for each width w:              (cell, what changes in
//!  reshapes ───> exchange ──>   + sum of t, − sum of t - w    each of the windows)
//! ```
//!
//! * **Exact.** At tick `t` the heat of a cell over a window of `w` ticks is its sum over
//!   `(t - w, t]`. The collection accumulates to that; a cell without heat is absent, not zero.
//! * **On time.** What expires at a tick leaves at that tick, though nothing arrives then.
//! * **Incremental.** A tick costs what arrives and what expires in it, in any window; a cell to which
//!   neither happens is not looked at and causes no update.
//! * **Restartable.** An operator that is loaded, at tick `t + 1`, with the sums that another had at the
//!   end of `t` gives, from `t + 1` on, the collection that the other would have given.
//!
//! Expiry is not written ahead as retractions dated into the future: each close would walk all that
//! are pending. Queries are not summed here: that saves most before the exchange.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::difference::Semigroup;
use differential_dataflow::{AsCollection, Hashable, VecCollection};
use schemas::CellId;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::{Capability, Operator};

use crate::heat::{Heat, Rolling, WIDTHS};
use crate::window::{Reshape, Window};
use crate::{Rolls, Sums, Tick};

/// Changes of what the windows hold, each with the tick before whose sums it is made.
pub type Reshapes<'scope> = Stream<'scope, Tick, Vec<(Reshape, Tick)>>;

/// What the windows of one timely worker hold, for the thread that steps it.
///
/// A snapshot is taken between ticks, of the sums themselves: as a collection they would have to be
/// kept a second time. Cells whose history is to be divided are read here, too. What is read is as of
/// the last tick that was settled.
#[derive(Clone)]
pub struct WindowView(Rc<RefCell<Window<{ WIDTHS.len() }>>>);

impl WindowView {
    /// Returns the sums of those of the cells that this timely worker has, by cell and tick.
    pub fn slots(&self, cells: &[CellId]) -> Vec<(CellId, Tick, Heat)> {
        self.0.borrow().slots(cells)
    }

    /// Returns the sums of all cells that this timely worker has, by cell and tick.
    pub fn all(&self) -> Vec<(CellId, Tick, Heat)> {
        self.0.borrow().all()
    }
}

/// The heat of every cell over each of the rolling windows.
pub fn heatmap<'scope>(
    sums: Sums<'scope>,
    reshapes: Reshapes<'scope>,
) -> (Rolls<'scope, CellId>, WindowView) {
    let window = Rc::new(RefCell::new(Window::new(WIDTHS)));
    let view = WindowView(Rc::clone(&window));
    (windows(sums, reshapes, window, Rolling), view)
}

/// The heat of every cell over the widths of a window, with changes in whatever form.
///
/// The operator holds the sums of open ticks and those of the widest window. It holds one capability,
/// for the next tick at which a sum arrives or expires. At the close of that tick it goes on to the
/// one after, and releases the capability when there is none. When the inputs close, every window
/// runs out at once.
pub fn windows<'scope, const N: usize, R: Semigroup + 'static>(
    sums: Sums<'scope>,
    reshapes: Reshapes<'scope>,
    window: Rc<RefCell<Window<N>>>,
    change: impl Fn([Heat; N]) -> R + 'static,
) -> VecCollection<'scope, Tick, CellId, R> {
    let mut next: Option<Capability<Tick>> = None;

    // By the hash that arrangements by cell use, so that the rows stay where they are.
    let by_cell = Exchange::new(|(cell, _, _): &(CellId, Tick, Heat)| cell.hashed());
    let by_its_cell = Exchange::new(|(it, _): &(Reshape, Tick)| it.cell().hashed());
    sums.inner
        .binary_frontier::<_, CapacityContainerBuilder<_>, _, _, _, _>(
            reshapes,
            by_cell,
            by_its_cell,
            "Heatmap",
            |_, _| {
                move |(sums, sums_frontier), (reshapes, reshapes_frontier), output| {
                    let mut window = window.borrow_mut();
                    sums.for_each(|cap, batch| {
                        for (cell, tick, part) in batch.drain(..) {
                            window.add(cell, tick, part);
                            // A batch may span ticks: its capability is for the first of them.
                            if next.as_ref().is_none_or(|next| tick < *next.time()) {
                                next = Some(cap.delayed(&tick, 0));
                            }
                        }
                    });
                    reshapes.for_each(|cap, batch| {
                        for (reshape, tick) in batch.drain(..) {
                            window.reshape(tick, reshape);
                            if next.as_ref().is_none_or(|next| tick < *next.time()) {
                                next = Some(cap.delayed(&tick, 0));
                            }
                        }
                    });
                    let open = |tick: &Tick| {
                        sums_frontier.less_equal(tick) || reshapes_frontier.less_equal(tick)
                    };
                    while let Some(cap) = next.take_if(|next| !open(next.time())) {
                        let tick = *cap.time();
                        let mut session = output.session(&cap);
                        window.close(tick, |cell, by| session.give((cell, tick, change(by))));
                        next = window.next_tick().map(|tick| cap.delayed(&tick));
                    }
                }
            },
        )
        .as_collection()
}
