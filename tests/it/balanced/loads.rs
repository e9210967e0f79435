//! Load that is there for as long as it is needed.

use crate::world::{Load, World};

/// What is played over and over again; each time that it begins anew, the hot spot jumps back.
pub struct Loads<'a> {
    world: &'a World,
    name: &'a str,
    routers: [u16; 2],
    args: Vec<&'a str>,
    load: Option<Load>,
    ended: usize,
}

impl<'a> Loads<'a> {
    /// `fill` is for the first time only.
    pub fn start(
        world: &'a World,
        name: &'a str,
        routers: [u16; 2],
        args: Vec<&'a str>,
        fill: &[&'a str],
    ) -> Self {
        let first = Load::start(world, name, routers, &[&args, fill].concat());
        Self { world, name, routers, args, load: Some(first), ended: 0 }
    }

    /// Plays it again, if it has come to its end; until then no read may have failed.
    pub fn go_on(&mut self) {
        if self.load.as_mut().is_some_and(Load::has_ended) {
            self.end_one(Load::ended);
            let name = format!("{}-{}", self.name, self.ended);
            self.load = Some(Load::start(self.world, &name, self.routers, &self.args));
        }
    }

    /// Ends it; no read may have failed.
    pub fn end(mut self) {
        self.end_one(Load::end);
    }

    fn end_one(&mut self, end: impl FnOnce(Load) -> serde_json::Value) {
        end(self.load.take().unwrap());
        self.ended += 1;
    }
}
