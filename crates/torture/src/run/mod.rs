//! The run: traffic all the time, one fault after the other, and now and then a quiet moment at which everything is compared.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

mod crew;
mod draw;
mod known;
mod node;
mod quiet;
mod rounds;
mod table;

pub use draw::Draw;
pub use table::Table;

use crate::check::{Rule, Violation};
use crate::clients::{Order, Role, path_of};
use crate::history::{Recorder, What};
use crate::options::RunArgs;
use crate::place::{Options, Place};
use crew::{Common, Crew};
use known::Known;
use node::Node;

/// The groups that everything happens in.
const GROUPS: [&str; 3] = ["ops", "lobby", "night"];
/// A stretch between two quiet moments.
const ERA: Duration = Duration::from_secs(45);
/// How often each fault comes in a short run.
const SHORT_TIMES: usize = 3;
/// Messages whose receipts are asked for at a quiet moment, a group.
const AT_REST: usize = 20;

/// Everything of a run.
struct Run {
    args: RunArgs,
    seed: u64,
    rng: StdRng,
    draws: Vec<Draw>,
    place: Place,
    crew: Crew,
    node: Node,
    known: Known,
    recorder: Recorder,
    folder: PathBuf,
    table: Table,
    began: Instant,
}

/// Runs as told; whether it went as expected.
///
/// # Errors
/// What keeps the torture itself from going on.
pub fn run(args: RunArgs) -> Result<bool> {
    let missing = Place::missing(!args.no_clock);
    if args.short && !missing.is_empty() {
        let why = missing.join("; ");
        ensure!(!is_ci(), "the torture cannot be run: {why}");
        println!("skipped: {why}");
        return Ok(true);
    }
    let mut run = Run::start(args)?;
    let violations = run.go()?;
    run.report(&violations)
}

impl Run {
    fn start(args: RunArgs) -> Result<Self> {
        let program = std::env::current_exe()?;
        let beside = || program.with_file_name("tertulia");
        let binary = args.binary.clone().unwrap_or_else(beside).canonicalize();
        let binary = binary.context("there is no `tertulia` program: build it for release")?;
        let seed = args.seed.unwrap_or_else(|| rand::rng().random_range(1..1_000_000));
        let folder = match &args.histories {
            Some(folder) => folder.clone(),
            None => std::env::temp_dir().join(format!("torture-{}", std::process::id())),
        };
        std::fs::create_dir_all(&folder)?;
        let mut draws = if args.faults.is_empty() { Draw::all() } else { args.faults.clone() };
        if args.no_clock {
            draws.retain(|draw| draw.name() != "clock-jump");
        }
        ensure!(!draws.is_empty(), "there is nothing to do");
        let mut place = Place::new(Options {
            sync: args.sync.clone(),
            clock: !args.no_clock,
            disk_mib: 384,
            ends_on_signals: true,
            ..Options::new(binary.clone())
        })?;
        place.start_node()?;
        let native = place.native().to_string();
        let node = Node { host: place.clients()[0].clone(), native: native.clone() };
        let groups: Vec<String> = GROUPS.iter().map(ToString::to_string).collect();
        node.create(&groups)?;
        let line = place.line().to_string();
        let common = Common {
            program,
            folder: folder.clone(),
            native,
            line,
            groups: groups.clone(),
            binary,
            seed,
        };
        let [first, second] = place.clients() else { bail!("a place has two hosts for clients") };
        let crew = Crew::start(
            common,
            &[
                (Role::Senders, "s1", first.clone()),
                (Role::Members, "m1", first.clone()),
                (Role::Programs, "p1", first.clone()),
                (Role::Senders, "s2", second.clone()),
                (Role::Members, "m2", second.clone()),
                (Role::Lines, "x1", second.clone()),
            ],
        )?;
        let recorder = Recorder::create(&path_of(&folder, 1, "torture"))?;
        let table = Table { command: command(&args, seed), ..Table::default() };
        let rng = StdRng::seed_from_u64(seed);
        let (known, began) = (Known::new(&groups), Instant::now());
        let run = Self {
            args,
            seed,
            rng,
            draws,
            place,
            crew,
            node,
            known,
            recorder,
            folder,
            table,
            began,
        };
        Ok(run)
    }

    fn go(&mut self) -> Result<Vec<Violation>> {
        let end = self.began + Duration::from_secs_f64(self.args.minutes * 60.0);
        eprintln!("seed {}; histories in {}", self.seed, self.folder.display());
        let mut script = self.draws.repeat(SHORT_TIMES);
        script.shuffle(&mut self.rng);
        let mut broken = Vec::new();
        loop {
            self.crew.order(Order::Go)?;
            let went = self.stretch(end, &mut script);
            // Whatever keeps things from going on breaks a promise; the histories may tell more.
            broken.extend(went.err().map(liveness));
            if broken.is_empty() {
                let compared = self.compare();
                broken.extend(compared.unwrap_or_else(|error| vec![liveness(error)]));
            }
            let is_done = if self.args.short { script.is_empty() } else { Instant::now() >= end };
            if is_done || !broken.is_empty() {
                break;
            }
        }
        self.table.took(self.began.elapsed());
        if broken.is_empty() {
            broken.extend(self.known.compare(&self.node).err().map(|error| Violation {
                rule: Rule::Durability,
                text: format!("at the end: {error:#}"),
            }));
        }
        self.table.violations = broken.len() as u64;
        Ok(broken)
    }

    /// Rounds until it is time for a quiet moment. A script is taken from where there is one.
    fn stretch(&mut self, end: Instant, script: &mut Vec<Draw>) -> Result<()> {
        let until = (Instant::now() + ERA).min(end);
        loop {
            let draw = match self.args.short {
                true => match script.pop() {
                    Some(draw) => draw,
                    None => return Ok(()),
                },
                false if Instant::now() >= until => return Ok(()),
                false => Draw::any(&self.draws, &mut self.rng),
            };
            self.round(draw)?;
            if self.args.short && Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// The quiet moment.
    fn compare(&mut self) -> Result<Vec<Violation>> {
        let here =
            quiet::come_to_rest(&mut self.crew, &self.node, &mut self.known, &mut self.recorder)?;
        let at_rest = self.node.receipts(&self.known.last_messages(AT_REST))?;
        let records = at_rest.iter().cloned().map(What::Receipt);
        self.recorder.write_all(records);
        let era = self.known.era;
        self.crew.order(Order::Era(era + 1))?;
        let is_there = |status: &crate::clients::Status| status.era == era + 1;
        self.crew.wait(Duration::from_secs(10), |all| all.iter().all(is_there))?;
        self.recorder = Recorder::create(&path_of(&self.folder, era + 1, "torture"))?;
        let findings = self.known.judge(&self.folder, here, at_rest)?;
        self.table.counted(&findings.counts);
        self.table.checkpoints += 1;
        if findings.violations.is_empty() {
            self.known.clear(&self.folder, era)?;
        }
        Ok(findings.violations)
    }

    /// Says how it went, and keeps what is needed to look into it.
    fn report(mut self, violations: &[Violation]) -> Result<bool> {
        self.crew.end();
        if self.args.json {
            println!("{}", serde_json::to_string(&self.table)?);
        } else {
            println!("{}", self.table.text());
        }
        if violations.is_empty() {
            remove(&self.folder);
        } else {
            self.keep(violations)?;
        }
        if !self.args.expect_violation {
            return Ok(violations.is_empty());
        }
        // A run that merely could not go on has found nothing.
        let is_found = violations.iter().any(|violation| violation.rule != Rule::Liveness);
        if !is_found {
            println!("nothing that was promised is missing, and something should have been");
        }
        Ok(is_found)
    }

    fn keep(&self, violations: &[Violation]) -> Result<()> {
        let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
        std::fs::write(self.folder.join("violations.txt"), texts.join("\n"))?;
        std::fs::write(self.folder.join("node.log"), self.place.log().join("\n"))?;
        for group in GROUPS {
            // The node may be what is broken.
            if let Ok(entries) = self.node.log(group) {
                let lines: Vec<String> = entries.iter().map(|entry| format!("{entry:?}")).collect();
                std::fs::write(self.folder.join(format!("{group}.log")), lines.join("\n"))?;
            }
        }
        for text in texts.iter().take(20) {
            println!("BROKEN {text}");
        }
        println!("{} in all; the histories are in {}", texts.len(), self.folder.display());
        Ok(())
    }
}

/// Continuous integration has to be able to do everything.
fn is_ci() -> bool {
    std::env::var("CI").as_deref() == Ok("true")
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        eprintln!("{} is left behind: {error}", folder.display());
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the error's last use")]
fn liveness(error: anyhow::Error) -> Violation {
    Violation { rule: Rule::Liveness, text: format!("{error:#}") }
}

/// What draws the same faults again. What happens between processes is different each time.
fn command(args: &RunArgs, seed: u64) -> String {
    let mut command = format!("cargo xtask torture --seed {seed}");
    if args.short {
        command += " --short";
    } else {
        command += &format!(" --minutes {}", args.minutes);
    }
    if !args.faults.is_empty() {
        let names: Vec<&str> = args.faults.iter().map(|draw| draw.name()).collect();
        command += &format!(" --faults {}", names.join(","));
    }
    if args.sync != "fsync" {
        command += &format!(" --sync {}", args.sync);
    }
    if args.expect_violation {
        command += " --expect-violation";
    }
    if args.no_clock {
        command += " --no-clock";
    }
    command
}
