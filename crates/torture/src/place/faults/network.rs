//! Faults of the node's network: connections reset, hosts that are not heard, packets lost.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};

use crate::place::Place;
use crate::place::fault::Undo;
use crate::place::hosts::Host;
use crate::place::node::{LINE_PORT, NATIVE_PORT};
use crate::place::tools::run;

/// Of the packet filter on the node's host.
const TABLE: &str = "inet torture";

/// Which packets of a host are dropped, on the node's host.
#[derive(Clone, Copy, Debug)]
enum Way {
    ToNode,
    FromNode,
    Both,
}

impl Way {
    const ALL: [Self; 3] = [Self::ToNode, Self::FromNode, Self::Both];

    fn is_to(self) -> bool {
        !matches!(self, Self::FromNode)
    }

    fn is_from(self) -> bool {
        !matches!(self, Self::ToNode)
    }
}

pub fn kill_connections(place: &mut Place, rng: &mut dyn RngCore) -> Result<(String, Undo)> {
    let host = if rng.random() { Some(any_client(place, rng)?) } else { None };
    let mut filter = format!("( sport = :{NATIVE_PORT} or sport = :{LINE_PORT} )");
    if let Some(host) = &host {
        filter = format!("{filter} and dst {}", host.address);
    }
    let mut command = place.hosts.node.command("ss");
    command.args(["-K", "-H", "-t", "-n", "state", "connected"]).arg(filter);
    // Those who listen are not "connected" to ss.
    let count = run(command)?.lines().count();
    let whose = host.map_or_else(|| "all hosts".to_owned(), |host| host.name);
    Ok((format!("{count} connections of {whose}"), Undo::Nothing))
}

pub fn partition(place: &mut Place, rng: &mut dyn RngCore) -> Result<(String, Undo)> {
    let host = any_client(place, rng)?;
    let way = Way::ALL[rng.random_range(0..Way::ALL.len())];
    let (mut input, mut output) = (String::new(), String::new());
    if way.is_to() {
        input = format!("ip saddr {} drop", host.address);
    }
    if way.is_from() {
        output = format!("ip daddr {} drop", host.address);
    }
    filter(place, &input, &output)?;
    let told = match way {
        Way::ToNode => format!("the node does not hear {}", host.name),
        Way::FromNode => format!("{} does not hear the node", host.name),
        Way::Both => format!("{} and the node do not hear each other", host.name),
    };
    Ok((told, Undo::NoRules))
}

pub fn loss(place: &mut Place, rng: &mut dyn RngCore) -> Result<(String, Undo)> {
    let percent = rng.random_range(10..=40);
    let way = Way::ALL[rng.random_range(0..Way::ALL.len())];
    let rule = |cable| format!("{cable} cable numgen random mod 100 < {percent} drop");
    let input = if way.is_to() { rule("iifname") } else { String::new() };
    let output = if way.is_from() { rule("oifname") } else { String::new() };
    filter(place, &input, &output)?;
    Ok((format!("{percent} % ({way:?})"), Undo::NoRules))
}

pub fn no_rules(place: &mut Place) -> Result<()> {
    nft(place, &format!("delete table {TABLE}\n"))
}

fn any_client(place: &Place, rng: &mut dyn RngCore) -> Result<Host> {
    place.hosts.clients.choose(rng).cloned().context("there is no host but the node's")
}

fn filter(place: &Place, input: &str, output: &str) -> Result<()> {
    let chain = |hook: &str, rule: &str| {
        format!("chain {hook} {{ type filter hook {hook} priority 0; policy accept; {rule}; }}\n")
    };
    let (input, output) = (chain("input", input), chain("output", output));
    nft(place, &format!("table {TABLE} {{\n{input}{output}}}\n"))
}

/// All or nothing, and nothing of it is seen in between.
fn nft(place: &Place, script: &str) -> Result<()> {
    let mut command = place.hosts.node.command("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{command:?} cannot be started"))?;
    child.stdin.take().context("no input")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft: {}\n{script}", complaint.trim());
    Ok(())
}
