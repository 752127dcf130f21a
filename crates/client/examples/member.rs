//! Joins a group, prints what is said and confirms it: `cargo run --example member -- 127.0.0.1:5001 ops ana`.

use anyhow::Context as _;
use tertulia_client::{Event, Kind, Member, MemberOptions, Place, Target};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &'static str| words.next().context(what);
    let target = Target::new(word("say the node's address")?);
    let (group, name) = (word("say the group")?, word("say your name")?);

    let mut member = Member::join(&target, Place::Group(group), MemberOptions::new(name)).await?;
    while let Some(event) = member.next().await {
        match event {
            Event::Entry(entry) => {
                if entry.header.kind == Kind::Message {
                    // Escaped, so that foreign text cannot steer the terminal.
                    println!("{}: {:?}", entry.name(), String::from_utf8_lossy(&entry.body()));
                }
                member.done(entry.header.seq);
            }
            other => eprintln!("{other:?}"),
        }
    }
    Ok(())
}
