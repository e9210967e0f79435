//! Tells owners and sources how far the channel is: watermarks (R17).

use std::collections::BTreeMap;

use schemas::assignment::Source;
use schemas::index_update::{IndexUpdate, Watermark};
use schemas::range_segment::Floor;
use schemas::{Generation, Inbox, NodeId};

use super::super::events::{Action, Addressed};
use super::{Channel, Partition};

impl Channel {
    /// Writes a watermark to everybody whom it concerns, if the map is still the one of the commit.
    pub(super) fn tell(&mut self, generation: Generation) {
        if self.map.generation() != generation {
            return;
        }
        let exactly = |(partition, it): (&u32, &Partition)| {
            let (offset, _) = it.stored.filter(|it| it.1 == generation)?;
            Some(Floor { partition: *partition, offset })
        };
        let floors: Vec<_> = self.partitions.iter().filter_map(exactly).collect();
        if floors.is_empty() {
            return;
        }
        for (node, inbox) in self.concerned() {
            let watermark = Some(Watermark { floors: floors.clone(), via: None });
            let update = IndexUpdate { generation, entry: None, watermark };
            self.actions.push_back(Action::Send(Addressed { node, inbox, update }));
        }
    }

    /// Returns the owners by the map, and the sources of what it says to come from a node. A source is
    /// named until the map has a later word of the range, though its migration may have ended.
    fn concerned(&self) -> BTreeMap<NodeId, Inbox> {
        let mut res = BTreeMap::new();
        for it in self.map.map().iter() {
            if let (Source::Node, Some(source)) = (it.source, &it.source_node)
                && let Some(inbox) = self.inboxes.get(source)
            {
                res.insert(source.clone(), *inbox);
            }
        }
        // What the map itself says of an owner counts before what was heard of it.
        res.extend(self.map.map().iter().map(|it| (it.node.clone(), it.inbox)));
        res
    }
}
