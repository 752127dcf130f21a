//! `files save --group`: tells a group of a file that one's peer shares, and follows who has it.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tertulia_client::{Error, Sender, SenderOptions, Target};
use tertulia_files::content::ContentHash;
use tertulia_files::identity::Identity;
use tertulia_files::own::OwnPeer;
use tertulia_wire::file::FileBody;
use tertulia_wire::safe::make_safe;
use tertulia_wire::sharing::FileLine;

use super::delivery::{Delivery, Step, after};
use super::files::progress;
use super::of_group;
use super::send::{close, print};
use crate::failure::{Exit, Failure};
use crate::names;
use crate::output::Output;
use crate::units::Wait;

/// How long a peer may take to tell the node of a file.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(20);

/// Whom to tell, and what to wait for.
pub struct Telling {
    /// The group.
    pub group: String,
    /// Who is waited for.
    pub wait: Wait,
    /// For how long.
    pub timeout: Duration,
    /// Who tells it.
    pub name: Option<String>,
}

/// Tells a group of a file.
pub async fn tell(
    peer: &mut OwnPeer,
    saved: &FileLine,
    telling: &Telling,
    target: &Target,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let until = after(telling.timeout);
    let hash: ContentHash =
        saved.hash.parse().map_err(|_| Failure::failed("PROTOCOL", "the peer says no hash"))?;
    announced(peer, hash).await?;
    let mut sender = open(telling, target).await?;
    let follow = sender.confirmations();
    // A folder's name keeps the `/` that says so.
    let last = saved.name.trim_end_matches('/').rfind('/').map_or(0, |slash| slash + 1);
    let base = saved.name[last..].to_owned();
    let file = FileBody { size: saved.size, hash: hash.0, name: base };
    let told = follow_it(&sender, &file, telling, until, follow, out).await;
    if told.is_ok() {
        close(sender).await;
    }
    told
}

/// Waits until the node knows that somebody has it: members look for it at once.
async fn announced(peer: &mut OwnPeer, hash: ContentHash) -> Result<(), Failure> {
    let identity =
        Identity::ephemeral().map_err(|error| Failure::io("cannot make a certificate", &error))?;
    peer.sources_within(hash, identity.fingerprint(), ANNOUNCED_WITHIN).await?;
    Ok(())
}

async fn open(telling: &Telling, target: &Target) -> Result<Sender, Failure> {
    let options = || SenderOptions {
        follow: true,
        within: Some(telling.timeout),
        files: true,
        ..SenderOptions::default()
    };
    let name = telling.name.clone().unwrap_or_else(|| names::default_at(target));
    match Sender::open(target, &telling.group, &name, options()).await {
        // The default name is an account's here: any other will do.
        Err(Error::Refused { code: tertulia_client::Code::NameReserved, .. })
            if telling.name.is_none() =>
        {
            Ok(Sender::open(target, &telling.group, &names::numbered(&name, 2), options()).await?)
        }
        opened => opened.map_err(|error| of_group(error, &telling.group, target)),
    }
}

async fn follow_it(
    sender: &Sender,
    file: &FileBody,
    telling: &Telling,
    until: Instant,
    mut follow: Option<tokio::sync::mpsc::Receiver<tertulia_client::Confirmed>>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let (group, members) = (&sender.located().group, sender.members());
    let delivery = Delivery::tell_file(sender, file, telling.wait, until).await?;
    let bar: ProgressBar = progress(u64::from(members), &file.name, out);
    let (mut stored, mut count) = (None, 0);
    let settled = {
        let mut steps = |step: Step| match step {
            Step::Stored(seq) => {
                stored = Some(seq);
                out.step(&format!("told as #{seq}: 0/{members} have it"))
            }
            Step::Confirmed { name, .. } => {
                count += 1;
                bar.set_position(count);
                let name = make_safe(&name, usize::MAX);
                out.step(&format!("{count}/{members} have it: {name}"))
            }
        };
        delivery.settle(follow.as_mut(), &mut steps).await
    };
    bar.finish_and_clear();
    let settled = settled.map_err(|failure| match stored {
        Some(seq) if failure.is_output() => failure.unprinted(group, seq),
        _ => failure,
    })?;
    print(group, &settled, out).map_err(|failure| failure.unprinted(group, settled.receipt.seq))?;
    Ok(if settled.enough { Exit::Done } else { Exit::Incomplete })
}
