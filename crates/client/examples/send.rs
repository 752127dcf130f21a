//! Sends one message to a group and prints its receipt: `cargo run --example send -- 127.0.0.1:5001 ops hola`.

use anyhow::Context as _;
use tertulia_client::{Sender, SenderOptions, Target};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &'static str| words.next().context(what);
    let target = Target::new(word("say the node's address")?);
    let (group, text) = (word("say the group")?, word("say the text")?);

    let sender = Sender::open(&target, &group, "example", SenderOptions::default()).await?;
    let sent = sender.send(text).await?;
    println!("#{} is stored ({})", sent.stored().await?, sender.level());
    let receipt = sent.receipt().await?;
    println!("{}/{} have it", receipt.confirmed + receipt.reached, receipt.members);
    sender.close().await?;
    Ok(())
}
