//! Outside senders by the library: some with many messages under way, some with one at a time.

use std::sync::Arc;

use tertulia_client::{Sender, SenderOptions};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::desk::Desk;
use super::outcome::{follow, not_stored};
use crate::history::What;

/// Messages under way at once, of each sender of a process.
const WINDOWS: [usize; 3] = [1, 16, 64];

/// Starts the process's senders.
pub fn start(desk: &Arc<Desk>) {
    for (index, window) in WINDOWS.into_iter().enumerate() {
        let slot = format!("{}-{index}", desk.args.name);
        tokio::spawn(send_for_ever(Arc::clone(desk), slot, window));
    }
}

async fn send_for_ever(desk: Arc<Desk>, slot: String, window: usize) {
    loop {
        desk.may_begin().await;
        let (group, name) = (desk.group(), desk.fresh(&slot));
        let options = SenderOptions::default();
        match Sender::open(&desk.target(), &group, &name, options).await {
            Ok(sender) => send(&desk, &group, sender, window).await,
            // The node is down, or the group is not there yet.
            Err(_) => desk.linger(50..200).await,
        }
    }
}

/// Sends some messages, and ends in order.
async fn send(desk: &Arc<Desk>, group: &str, sender: Sender, window: usize) {
    let room = Arc::new(Semaphore::new(window));
    let mut under_way = JoinSet::new();
    for _ in 0..desk.draw(20..400) {
        desk.may_begin().await;
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let text = desk.fresh(sender.name());
        desk.record(What::Sending {
            group: group.to_owned(),
            from: sender.name().to_owned(),
            outside: true,
            text: text.clone(),
        });
        match sender.send(text.clone()).await {
            Ok(sent) => {
                let (desk, group) = (Arc::clone(desk), group.to_owned());
                under_way.spawn(async move {
                    follow(&desk, &group, text, sent).await;
                    drop(permit);
                });
            }
            Err(error) => {
                not_stored(desk, text, &error);
                break;
            }
        }
        desk.linger(1..30).await;
    }
    while under_way.join_next().await.is_some() {}
    // Most of the receipts come meanwhile; the others are given up.
    desk.linger(0..4000).await;
    let _ = sender.close().await;
}
