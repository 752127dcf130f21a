//! `wrk` on POST messages beside the bare handler: CPU time of each server for one request.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Args;
use super::report::{Series, Table};
use super::server::Server;
use crate::versions;

/// Says what `wrk` sends: 100 bytes of text.
const SCRIPT: &str = "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", 100)\n\
                      wrk.headers[\"Content-Type\"] = \"text/plain\"\n";
const CONNECTIONS: &str = "32";

/// Interleaved rounds; the first of each is not counted.
pub async fn measure(args: &Args) -> Result<Table> {
    let (rounds, seconds) = (args.extent.rounds(2, 9), if args.extent.quick { 1 } else { 4 });
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(script.path(), SCRIPT)?;
    let (bare, node) = (Server::bare()?, Server::tertulia(args)?);
    let target = tertulia_client::Target::new(node.door("native")?.to_string());
    tertulia_client::Directory::connect(&target).await?.create("bench").await?;
    let servers = [("a bare axum handler", bare), ("Tertulia, `memory`, `wait=stored`", node)];
    let mut series = servers.each_ref().map(|(name, _)| Series::new(name));
    for round in 0..=rounds {
        for ((_, server), series) in servers.iter().zip(&mut series) {
            let before = server.cpu()?;
            let requests = wrk(server.door("http")?, script.path(), seconds)?;
            let spent = server.cpu()?.saturating_sub(before);
            if round > 0 {
                series.values.push(spent.as_secs_f64() * 1e6 / requests as f64);
                series.seconds += Duration::from_secs(seconds);
            }
        }
    }
    Ok(Table {
        name: "posts",
        title: "POST of 100 bytes",
        unit: "µs of the server's CPU a request",
        with: format!("{}, {}", versions::of_crate("axum"), versions::of("wrk", "wrk", "-v")),
        in_flight: format!("{CONNECTIONS} requests in flight, one on each connection"),
        series: series.into(),
    })
}

fn wrk(http: SocketAddr, script: &std::path::Path, seconds: u64) -> Result<u64> {
    let url = format!("http://{http}/api/groups/bench/messages?wait=stored");
    let output = Command::new("wrk")
        .args(["-t1", "-c", CONNECTIONS, &format!("-d{seconds}s"), "-s"])
        .arg(script)
        .arg(url)
        .output()
        .context("wrk is not installed (Debian: apt-get install wrk)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && !text.contains("Non-2xx"), "wrk: {text}");
    let line = text.lines().find(|line| line.contains(" requests in ")).context("no count")?;
    line.split_whitespace().next().and_then(|word| word.parse().ok()).context("no number")
}
