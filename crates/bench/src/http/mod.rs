//! The HTTP door beside a bare handler, and web members and streams beside native ones.

use anyhow::Result;

use crate::options::{Binary, Extent, Page, QUICK};
use crate::page;

mod bare;
mod deliveries;
mod posts;
mod receivers;
mod report;
mod server;

/// What the command line says.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub binary: Binary,
    #[command(flatten)]
    pub extent: Extent,
    #[command(flatten)]
    pub page: Page,
}

/// What stands above the tables.
const ABOUT: &str = "## The HTTP door\n\n\
    Medians (least to most) of interleaved rounds, ratios round by round; CPU time of the server's process only, from the kernel's \
    clock. The load generator runs on the same machine: ratios are worth more than figures.\n";

/// Measures, prints the tables, and writes the document's section.
pub fn run(args: &Args) -> Result<()> {
    let tables = tokio::runtime::Runtime::new()?.block_on(async {
        let origin = |more: String| args.page.origin(&more);
        let posts = posts::measure(args).await?;
        let deliveries = deliveries::measure(args).await?;
        anyhow::Ok([posts.on_the_page(origin), deliveries.on_the_page(origin)])
    })?;
    tables.iter().for_each(|table| println!("{}", table.text));
    match args.page.path(args.extent.quick.then_some(QUICK)) {
        Some(path) => page::write(path, "http", ABOUT, &["posts", "deliveries"], &tables),
        None => Ok(()),
    }
}

/// The bare handler, until it is killed.
pub fn bare() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(bare::serve())
}
