//! The HTTP door beside a bare handler, and web members and streams beside native ones.

use std::path::PathBuf;

use anyhow::Result;

mod bare;
mod deliveries;
mod posts;
mod receivers;
mod report;
mod server;

/// How it is measured.
#[derive(clap::Args)]
pub struct Options {
    /// The binary that is measured.
    #[arg(long, default_value = "target/release/tertulia")]
    pub tertulia: PathBuf,
    /// Fewer and shorter rounds.
    #[arg(long)]
    pub quick: bool,
    /// The document whose section is replaced.
    #[arg(long)]
    pub write: Option<PathBuf>,
}

/// Measures, prints the tables, and writes the document's section.
pub fn run(options: &Options) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure(options))
}

/// The bare handler, until it is killed.
pub fn bare() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(bare::serve())
}

async fn measure(options: &Options) -> Result<()> {
    let posts = posts::measure(options).await?;
    let deliveries = deliveries::measure(options).await?;
    let section = report::section(options, &[posts, deliveries]);
    print!("{section}");
    match &options.write {
        Some(path) => crate::page::write(path, "http", &section),
        None => Ok(()),
    }
}
