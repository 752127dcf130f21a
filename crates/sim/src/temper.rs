//! What a seed's world is like: how busy, how unlucky, how narrow its limits. Drawn so that calm worlds are as likely as wild
//! ones and some things never go wrong at all in some of them: what happens everywhere at once hides what it takes a quiet
//! moment to see.

use tertulia_group::Limits;

use crate::journal::Level;
use crate::rng::Rng;
use crate::settings::Fault;

/// The nature of one world.
#[derive(Clone, Debug)]
pub struct Temper {
    pub members: u64,
    pub senders: u64,
    pub level: Level,
    /// From one fault to the next, about.
    pub fault_gap_ms: u64,
    /// How often each fault comes, in the order of [`Fault::ALL`]; 0: never.
    weights: [u64; Fault::ALL.len()],
    /// A program looks up at least so often.
    wake_ms_max: u64,
    /// When it looks up it writes something so often.
    pub letters_per_mille: u64,
    pub letters_at_once_max: u64,
    /// Of a connection: what is written arrives within.
    pub delay_ms_max: u64,
    /// Bytes arrive as they were written so often, otherwise in pieces.
    pub whole_per_mille: u64,
    /// The chance of each batch.
    pub lost_batch_per_mille: u64,
    pub slow_disk_per_mille: u64,
    pub sync_per_mille: u64,
    pub limits: Limits,
    /// The node may forget senders that it should remember: its table is that small.
    pub forgetful: bool,
}

impl Temper {
    pub fn new(rng: &mut Rng) -> Self {
        let members = match rng.below(100) {
            0..10 => 1,
            10..80 => rng.within(2, 5),
            80..97 => rng.within(6, 10),
            _ => rng.within(11, 30),
        };
        let level = match rng.below(10) {
            0 => Level::Memory,
            1..5 => Level::Os,
            _ => Level::Fsync,
        };
        let (forgetful, limits) = limits(rng, members);
        Self {
            members,
            senders: rng.within(u64::from(members == 1), 3),
            level,
            fault_gap_ms: rng.log_within(200, 50_000),
            weights: Fault::ALL.map(|fault| {
                let weight = rng.log_within(1, 8) * fault.weight();
                if rng.chance(200) { 0 } else { weight }
            }),
            // The more members, the more events each message costs.
            wake_ms_max: rng.log_within(200, 12_000).max(members * 60),
            letters_per_mille: rng.log_within(6, 500),
            letters_at_once_max: rng.log_within(1, 16),
            delay_ms_max: rng.log_within(1, 60),
            whole_per_mille: rng.below(1000),
            lost_batch_per_mille: rng.log_within(1, 40),
            slow_disk_per_mille: rng.log_within(1, 80),
            sync_per_mille: rng.log_within(5, 300),
            limits,
            forgetful,
        }
    }

    /// The same, with much happening in a short time.
    pub fn busy(self) -> Self {
        Self {
            fault_gap_ms: self.fault_gap_ms.min(500),
            wake_ms_max: self.wake_ms_max.min(300),
            letters_per_mille: self.letters_per_mille.max(300),
            letters_at_once_max: self.letters_at_once_max.min(4),
            ..self
        }
    }

    /// Until a program looks up again; once there are no more faults, soon.
    pub fn next_wake(&self, rng: &mut Rng, calm: bool) -> u64 {
        let most = if calm { self.wake_ms_max.min(300) } else { self.wake_ms_max };
        rng.within(10, most)
    }

    /// The next fault, by the weights.
    pub fn fault(&self, rng: &mut Rng) -> Option<Fault> {
        let mut drawn = rng.below(self.weights.iter().sum());
        Fault::ALL.into_iter().zip(self.weights).find_map(|(fault, weight)| {
            let hit = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            hit.then_some(fault)
        })
    }
}

/// Most are smaller than anybody would set them, so that they are reached; some of them in some worlds.
fn limits(rng: &mut Rng, members: u64) -> (bool, Limits) {
    let default = Limits::default();
    let mut small = |most: usize, low: u64, high: u64| {
        if rng.chance(150) { rng.log_within(low, high) as usize } else { most }
    };
    let senders_max = small(default.senders_max, 1, 6);
    let runs_per_sender_max = small(default.runs_per_sender_max, 1, 12);
    let waiting_runs_max = small(default.waiting_runs_max, 1, 8);
    let departed_max = small(default.departed_max, 1, 30);
    let failures_max = small(default.failures_max, 1, 30);
    let members_max = small(default.members_max, 1, members);
    let receipts_weight_max = small(default.receipts_weight_max, 1, 12);
    let forgetful =
        senders_max < default.senders_max || runs_per_sender_max < default.runs_per_sender_max;
    let limits = Limits {
        unstored_bytes_max: rng.within(500, 20_000) as usize,
        batch_bytes_max: rng.within(300, 5_000) as usize,
        copy_bytes_max: rng.within(60, 2_000) as usize,
        grace_ms: rng.within(2_000, 30_000),
        senders_max,
        runs_per_sender_max,
        waiting_runs_max,
        departed_max,
        failures_max,
        members_max,
        receipts_weight_max,
        ..default
    };
    (forgetful, limits)
}
