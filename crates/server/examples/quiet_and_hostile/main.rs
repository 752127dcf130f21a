//! Measures what hostile clients do to others: quiet and hostile rounds take turns in one run, against a node of its own process.
//!
//! `cargo run --release -p tertulia-server --example quiet_and_hostile -- [KIND…] [--rounds 5] [--seconds 2] [--fsync]` prints a
//! Markdown table. In every round a sender sends 200 messages a second to a group of three members, whatever has become of the
//! earlier ones; what is measured of each is the time until it is stored and has come to all three. In a hostile round another
//! process does its worst as fast as it can: on one of the CPUs, and with less claim on it than the node. The measuring (sender and
//! members) comes before everybody, where the system allows that. Both because clients would bring their own machines: what is
//! looked for is how long the node makes them wait, not how long they wait for a CPU of their own.

#[path = "attacks.rs"]
mod attacks;
#[path = "measure.rs"]
mod measure;
#[path = "processes.rs"]
mod processes;
#[path = "table.rs"]
mod table;

use std::time::Duration;

use measure::Crowd;
use processes::{Attack, Served};
use table::Row;

/// What the command line says.
struct Args {
    kinds: Vec<String>,
    rounds: usize,
    seconds: u64,
    fsync: bool,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", data, fsync] => runtime.block_on(processes::serve(data, fsync == "fsync")),
        ["attack", kind, native, line, seconds] => {
            let address = |text: &str| text.parse().expect("an address");
            let seconds = Duration::from_secs_f64(seconds.parse().expect("seconds"));
            // One thread: what it can do is one CPU's worth.
            let one = tokio::runtime::Builder::new_current_thread().enable_all().build();
            one.expect("a runtime").block_on(attacks::run(
                kind,
                address(native),
                address(line),
                seconds,
            ));
        }
        _ if processes::may_come_first() => processes::come_first(&args),
        _ => runtime.block_on(measure_all(&parse(&args))),
    }
}

fn parse(args: &[String]) -> Args {
    let mut parsed = Args { kinds: Vec::new(), rounds: 5, seconds: 2, fsync: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse().ok()).expect("a number");
        match arg.as_str() {
            "--rounds" => parsed.rounds = number() as usize,
            "--seconds" => parsed.seconds = number(),
            "--fsync" => parsed.fsync = true,
            kind => parsed.kinds.push(kind.to_owned()),
        }
    }
    if parsed.kinds.is_empty() {
        parsed.kinds = attacks::KINDS.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    }
    parsed
}

async fn measure_all(args: &Args) {
    println!("{}", table::head(args.rounds, args.seconds, args.fsync));
    for kind in &args.kinds {
        let (_, about) = attacks::KINDS
            .iter()
            .find(|(known, _)| known == kind)
            .unwrap_or_else(|| panic!("no such kind: {kind}; there are {:?}", attacks::KINDS));
        println!("{}", measure_one(args, kind, about).await);
    }
}

/// A node of its own for each kind: quiet, hostile, quiet, hostile, …
async fn measure_one(args: &Args, kind: &str, about: &str) -> Row {
    let served = Served::start(args.fsync).await;
    let mut crowd = Crowd::start(served.native).await;
    crowd.prepare(kind).await;
    let length = Duration::from_secs(args.seconds);
    // Not counted: caches, and the node's first allocations.
    crowd.round(length).await;
    served.forget_peak();
    let mut row = Row::new(about, served.memory("VmRSS"));
    for _ in 0..args.rounds {
        let before = served.cpu_ms();
        row.quiet.push(crowd.round(length).await);
        row.quiet_cpu.push(served.cpu_ms() - before);
        let attack = Attack::start(kind, &served, length + Attack::LEAD);
        tokio::time::sleep(Attack::LEAD).await;
        let before = served.cpu_ms();
        row.hostile.push(crowd.round(length).await);
        row.hostile_cpu.push(served.cpu_ms() - before);
        let (count, cpu_ms) = attack.end().await;
        row.count += count;
        row.attack_cpu.push(cpu_ms);
        crowd.until_alone().await;
    }
    row.peak = served.memory("VmHWM");
    row.after = served.memory("VmRSS");
    row.length = length;
    row
}
