//! All parts, one after the other: one that fails does not keep the others from being measured.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::options::{Binary, Disk, Extent, Nats, Page};
use crate::{appends, delivery, files, growth, http, idle};

/// What the command line says: what more than one part knows. What only one knows is said to that one.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    binary: Binary,
    #[command(flatten)]
    nats: Nats,
    #[command(flatten)]
    disk: Disk,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    page: Page,
}

/// The parts by their names, each with what it is told.
type Part<'a> = (&'static str, Box<dyn Fn() -> Result<()> + 'a>);

/// Measures everything; an error names the parts that have failed.
pub fn run(args: &Args) -> Result<()> {
    let mut failed = Vec::new();
    for (name, measure) in parts(args) {
        let began = Instant::now();
        eprintln!("== {name}");
        if let Err(error) = measure() {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
        eprintln!("== {name}: {:.0} s", began.elapsed().as_secs_f64());
    }
    if !failed.is_empty() {
        bail!("not measured to its end: {}", failed.join(", "));
    }
    Ok(())
}

fn parts(args: &Args) -> [Part<'_>; 6] {
    let Args { extent, .. } = *args;
    let (binary, nats) = (|| args.binary.clone(), || args.nats.clone());
    let (disk, page) = (|| args.disk.clone(), || args.page.clone());
    let (seconds, peers) = (None, Vec::new);
    [
        (
            "delivery",
            Box::new(move || {
                let (works, peers) = (Vec::new(), peers());
                let (binary, nats, disk, page) = (binary(), nats(), disk(), page());
                delivery::run(&delivery::Args {
                    binary,
                    nats,
                    disk,
                    extent,
                    seconds,
                    works,
                    peers,
                    page,
                })
            }),
        ),
        (
            "appends",
            Box::new(move || {
                appends::run(&appends::Args { disk: disk(), extent, seconds, page: page() })
            }),
        ),
        (
            "growth",
            Box::new(move || {
                let (binary, disk, only, page) = (binary(), disk(), Vec::new(), page());
                growth::run(&growth::Args { binary, disk, extent, only, page })
            }),
        ),
        (
            "idle",
            Box::new(move || {
                let (before, members, quick, peers) = (None, None, extent.quick, peers());
                let (binary, nats, disk, page) = (binary(), nats(), disk(), page());
                idle::run(&idle::Args { binary, nats, disk, quick, before, members, peers, page })
            }),
        ),
        (
            "http",
            Box::new(move || http::run(&http::Args { binary: binary(), extent, page: page() })),
        ),
        (
            "files",
            Box::new(move || {
                let (memory, small, large) = (files::MEMORY.into(), false, false);
                let (binary, disk, page) = (binary(), disk(), page());
                files::run(&files::Args { binary, disk, extent, memory, small, large, page })
            }),
        ),
    ]
}
