//! What goes wrong, between any two steps.

use crate::{
    replays::REPLAYS,
    variant::Variant,
    world::{SHARDS, World},
};

impl World<'_> {
    pub fn fault(&mut self) {
        let kind = match self.variant {
            Variant::CommitOnDispatch => 90,
            Variant::UnsyncedQueue => 95, // only the loss of power can show it
            _ => self.random.below(100),
        };
        match kind {
            0..45 => {
                self.report.shard_panics += 1;
                let number = self.random.below(SHARDS as u64 + 1) as usize;
                self.land(number); // the writer that takes over waits for the commit on its way
                if self.random.chance(50) {
                    self.shards[number].mailbox.clear();
                }
                self.shards[number].load();
                self.note(|| format!("shard {number} panics"));
            }
            45..65 => {
                self.report.partition_panics += 1;
                let number = self.random.below(REPLAYS as u64 + 1) as usize;
                self.restart(number);
            }
            65..91 => {
                self.report.kills += 1;
                for number in 0..=SHARDS {
                    if self.random.chance(50) {
                        self.land(number); // it was written before the process died
                    }
                    if self.variant == Variant::TwoWrites && self.shards[number].disk.len() > 2 && self.random.chance(30) {
                        self.shards[number].disk.pop(); // died between the two
                    }
                }
                self.start_all("the process is killed");
            }
            _ => {
                self.report.power_losses += 1;
                for number in 0..=SHARDS {
                    let keep = 1 + self.random.below(self.shards[number].disk.len() as u64) as usize;
                    self.shards[number].disk.truncate(keep);
                }
                self.start_all("power is lost");
            }
        }
    }

    fn start_all(&mut self, why: &str) {
        for shard in &mut self.shards {
            shard.mailbox.clear();
            shard.load();
        }
        self.note(|| why.to_owned());
        (0..=REPLAYS).for_each(|partition| self.restart(partition));
    }
}
