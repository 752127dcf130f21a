//! Members on WebSockets and event streams beside native members: CPU time of the node for one delivery.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tertulia_client::{Directory, Sender, SenderOptions, Target};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Args;
use super::receivers;
use super::report::{Series, Table};
use super::server::Server;
use crate::figures::thousands;

const BODY_BYTES: usize = 100;
/// Messages that are under way at once.
const WINDOW: u64 = 64;
/// Nothing here takes so long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
enum Kind {
    Native,
    Web,
    Events,
}

/// Who receives, and how many.
const WORKS: [(&str, Kind, usize); 3] = [
    ("100 native members, confirming", Kind::Native, 100),
    ("100 WebSocket members, confirming", Kind::Web, 100),
    ("1,000 event streams, receipts included", Kind::Events, 1_000),
];

/// Interleaved rounds, each in a group of its own; the first of each is not counted.
pub async fn measure(args: &Args) -> Result<Table> {
    let (rounds, messages) =
        (args.extent.rounds(2, 9), if args.extent.quick { 4_096 } else { 32_768 });
    let node = Server::tertulia(args)?;
    let mut series = WORKS.map(|(name, ..)| Series::new(name));
    for round in 0..=rounds {
        for ((_, kind, count), series) in WORKS.into_iter().zip(&mut series) {
            let begun = Instant::now();
            let group = format!("bench-{round}-{}", kind as u8);
            let work = one(&node, kind, &group, count, messages);
            let spent = tokio::time::timeout(PATIENCE, work).await??;
            if round > 0 {
                let deliveries = count as f64 * messages as f64;
                series.values.push(spent.as_secs_f64() * 1e6 / deliveries);
                series.seconds += begun.elapsed();
            }
        }
    }
    Ok(Table {
        name: "deliveries",
        title: "Messages of 100 bytes to a group",
        unit: "µs of the node's CPU a delivery",
        with: format!("{} messages a round", thousands(messages as f64)),
        in_flight: format!("{WINDOW} messages in flight, until they are stored"),
        series: series.into(),
    })
}

async fn one(
    node: &Server,
    kind: Kind,
    group: &str,
    count: usize,
    messages: u64,
) -> Result<Duration> {
    let (native, http) = (node.door("native")?, node.door("http")?);
    let target = Target::new(native.to_string());
    Directory::connect(&target).await?.create(group).await?;
    let (ready, mut readies) = mpsc::channel(count);
    let mut all = JoinSet::new();
    for nth in 0..count {
        let (group, ready) = (group.to_owned(), ready.clone());
        match kind {
            Kind::Native => all.spawn(receivers::native(native, group, nth, messages, ready)),
            Kind::Web => all.spawn(receivers::web(http, group, nth, messages, ready)),
            Kind::Events => all.spawn(receivers::events(http, group, nth, messages, ready)),
        };
    }
    for _ in 0..count {
        ensure!(readies.recv().await.is_some(), "not everybody is ready");
    }
    let sender = Sender::open(&target, group, "bench", SenderOptions::default()).await?;
    let before = node.cpu()?;
    let body = vec![b'x'; BODY_BYTES];
    for _ in 0..messages / WINDOW {
        let mut last = None;
        for _ in 0..WINDOW {
            last = Some(sender.send(body.clone()).await?);
        }
        if let Some(last) = last {
            last.stored().await?;
        }
    }
    while let Some(received) = all.join_next().await {
        received??;
    }
    Ok(node.cpu()?.saturating_sub(before))
}
