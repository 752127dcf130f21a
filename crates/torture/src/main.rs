//! Runs the torture for some minutes and says whether every promise was kept.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
