//! Lets clients read through their routers, and carries requests and answers to and fro.

use isotherm::web::reads::What;
use schemas::{Key, NodeId};

use super::logs::{KEYS, key};
use super::routers::{Request, router_of};
use super::world::World;

impl World {
    /// A client reads a few keys and intervals.
    pub fn read_index(&mut self, router: usize) {
        if !self.is_born || self.routers[router].is_reading() {
            return;
        }
        let random = &mut self.random;
        let read = |_| {
            let mut ends = [random.pick(&KEYS), random.pick(&KEYS)];
            ends.sort_unstable();
            match random.below(4) {
                0 if ends[0] < ends[1] => {
                    let limit = random.pick(&[None, Some(2)]);
                    let [start, end] = ends.map(key);
                    What::Range { start, end, limit, after: None }
                }
                1 => {
                    let (start, end) = (Key::default(), Key::default());
                    What::Range { start, end, limit: None, after: None }
                }
                _ => What::Key(key(ends[0])),
            }
        };
        let reads = (0..1 + self.now % 3).map(read).collect();
        self.routers[router].ask(self.now, reads, &mut self.requests);
        self.count("reads");
    }

    /// Carries a request to its worker, or an answer back.
    pub fn carry(&mut self) -> bool {
        if self.requests.is_empty() {
            return false;
        }
        let at = self.random.index(self.requests.len());
        let request = &mut self.requests[at];
        if !request.is_answered() {
            let worker = self.workers.get(request.node());
            request.serve(worker);
            return true;
        }
        let request = self.requests.swap_remove(at);
        let router = router_of(&request);
        self.routers[router].answered(self.now, request, &mut self.requests);
        self.finish(router);
        true
    }

    /// Judges what a client has read, if it has.
    pub fn finish(&mut self, router: usize) {
        let Some((reads, answers, is_late)) = self.routers[router].finished(self.now) else {
            return;
        };
        assert!(!is_late, "a read has failed: no answer to {reads:?} but {answers:?} in time");
        self.client.read(router, &reads, &answers, &self.logs);
        self.count("reads answered");
    }

    /// A worker is gone, and what it was asked.
    pub fn lose_requests(&mut self, one: &NodeId) {
        self.requests.iter_mut().filter(|it| it.node() == one).for_each(Request::lose);
    }
}
