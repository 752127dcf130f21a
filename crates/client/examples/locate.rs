//! Asks a node for its groups, or where one is coordinated: `cargo run --example locate -- 127.0.0.1:5001 [ops]`.

use anyhow::Context as _;
use tertulia_client::{Directory, Target};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let target = Target::new(words.next().context("say the node's address")?);

    let mut directory = Directory::connect(&target).await?;
    if let Some(group) = words.next() {
        println!("{}", directory.locate(&group).await?.coordinator);
        return Ok(());
    }
    for item in directory.groups().await? {
        println!("{} {} members, #{}", item.group, item.members, item.seq);
    }
    Ok(())
}
