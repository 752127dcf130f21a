//! One round: a moment of traffic, a fault, its end, and messages that are stored again.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::Rng as _;

use super::Run;
use super::draw::Draw;

/// How long it may take after a fault until something is stored again.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// So many messages are stored between two faults, at least.
const BETWEEN: u64 = 5;
/// A client process suffers too, once in so many rounds.
const BOTH_ONE_IN: u32 = 12;

impl Run {
    /// See the module.
    pub(super) fn round(&mut self, draw: Draw) -> Result<()> {
        let moment = Duration::from_millis(self.rng.random_range(0..300));
        sleep(moment);
        let stored = self.crew.stored();
        let told = match draw {
            Draw::Node(_) => self.hurt_node(draw)?,
            Draw::KillClient | Draw::StopClient => self.hurt_client(draw)?,
        };
        let ended = Instant::now();
        let after = self.crew.stored();
        self.on_again(after).with_context(|| format!("after {told}"))?;
        let back = ended.elapsed().as_millis() as u64;
        self.table.rounds += 1;
        self.table.back_ms_max = self.table.back_ms_max.max(back);
        eprintln!(
            "{:>5} s  round {:>4}: {told}; {} stored meanwhile, back in {back} ms",
            self.began.elapsed().as_secs(),
            self.table.rounds,
            after.saturating_sub(stored),
        );
        Ok(())
    }

    /// Waits until something is stored again.
    fn on_again(&mut self, after: u64) -> Result<()> {
        let until = Instant::now() + BACK_WITHIN;
        while self.crew.stored() < after + BETWEEN {
            let left = until.saturating_duration_since(Instant::now());
            let statuses = self.crew.statuses();
            let changed = self.crew.wait(left, |now| now != statuses.as_slice());
            changed.context("nothing is stored any more")?;
            anyhow::ensure!(Instant::now() < until, "nothing is stored any more: {statuses:?}");
        }
        Ok(())
    }

    fn hurt_node(&mut self, draw: Draw) -> Result<String> {
        let Draw::Node(fault) = draw else { unreachable!("it is the node's") };
        let inflicted = self.place.inflict(fault, &mut self.rng)?;
        self.table.did(draw);
        let told = inflicted.told.clone();
        let both = self.draws.contains(&Draw::KillClient)
            && !self.args.short
            && self.rng.random_ratio(1, BOTH_ONE_IN);
        let also = if both { self.hurt_client(Draw::KillClient)? } else { String::new() };
        self.last(draw);
        let healed = self.place.heal(inflicted)?;
        self.table.restarts += u64::from(healed.restarted);
        Ok(if both { format!("{told}, {also}") } else { told })
    }

    fn hurt_client(&mut self, draw: Draw) -> Result<String> {
        let index = self.rng.random_range(0..self.crew.len());
        self.table.did(draw);
        if draw == Draw::KillClient {
            return Ok(format!("kill-client: {}", self.crew.kill(index)?));
        }
        let name = self.crew.signal(index, true)?;
        self.last(draw);
        self.crew.signal(index, false)?;
        Ok(format!("stop-client: {name}"))
    }

    /// Lets a fault last.
    fn last(&mut self, draw: Draw) {
        sleep(Duration::from_millis(self.rng.random_range(draw.lasts_ms())));
    }
}
