//! What is simulated, the protocol or a shortcut of it, and what came of it.

/// The protocol, or the protocol with one thing left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    Full,
    /// Shards for which a batch has nothing get no message.
    NoFrontier,
    /// A shard looks at offsets alone, not at the numbers of the lane.
    NoLaneChain,
    /// A restart takes the newest watermark instead of the one as of its offset.
    NewestWatermark,
    /// State first, positions in a second write.
    TwoWrites,
    /// The group offset is committed when a batch is sent, and is where a restart begins.
    CommitOnDispatch,
    /// A restart relies on what shards have applied, committed or not.
    UncommittedRestart,
    /// The commit that queues replays is not on stable storage before they are read.
    UnsyncedQueue,
    /// A letter is queued whatever its state.
    QueueAnyState,
    /// An entry of the replay log is a reference to its letter, not a copy.
    LiveEntry,
    /// Replayed batches are not ended where the source shard stands, and it takes them as they come.
    NoCut,
}

impl Variant {
    pub const SHORTCUTS: [Self; 10] = [
        Self::NoFrontier,
        Self::NoLaneChain,
        Self::NewestWatermark,
        Self::TwoWrites,
        Self::CommitOnDispatch,
        Self::UncommittedRestart,
        Self::NoCut,
        Self::UnsyncedQueue,
        Self::QueueAnyState,
        Self::LiveEntry,
    ];

    /// The others lose messages, and with them replays: there is no end to wait for.
    pub const fn has_letters(self) -> bool {
        matches!(self, Self::Full | Self::UnsyncedQueue | Self::QueueAnyState | Self::LiveEntry)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub lost: i64,
    pub doubled: i64,
    pub outcomes_wrong: i64,
    pub stuck: bool,
    pub shard_panics: u64,
    pub partition_panics: u64,
    pub kills: u64,
    pub power_losses: u64,
    pub restarts: u64,
    pub gaps: u64,
    pub duplicates: u64,
    pub replays: u64,
    pub longest_replay: i64,
    /// A hash of everything that happened.
    pub trace: u64,
}

impl Report {
    pub fn is_right(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.outcomes_wrong == 0 && !self.stuck
    }
    pub fn add(&mut self, other: &Self) {
        self.shard_panics += other.shard_panics;
        self.partition_panics += other.partition_panics;
        self.kills += other.kills;
        self.power_losses += other.power_losses;
        self.restarts += other.restarts;
        self.gaps += other.gaps;
        self.duplicates += other.duplicates;
        self.replays += other.replays;
        self.longest_replay = self.longest_replay.max(other.longest_replay);
    }
}
