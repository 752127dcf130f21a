//! What comes while a group ends: it is refused, and the group does not come back.

use std::net::IpAddr;

use futures_util::FutureExt as _;

use super::*;
use crate::accounts::Caller;
use crate::accounts::rules::Rules;
use crate::accounts::table::Operation;
use crate::directory::Listed;

const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn made(directory: &Directory) -> Arc<Listed> {
    let made = directory.create(&Caller::new(CALLER, false), "ops", Rules::default()).await;
    made.unwrap_or_else(|denied| panic!("{denied:?}"))
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_group_while_it_is_deleted_does_not_bring_it_back() {
    with_directory(NodeLimits::default(), async |directory| {
        let listed = made(&directory).await;
        let caller = Caller::new(CALLER, false);
        let mut deleting = std::pin::pin!(directory.delete(&caller, "ops"));
        assert!(deleting.as_mut().now_or_never().is_none(), "its shard has not answered");
        let mut joining = std::pin::pin!(directory.admit(&caller, Operation::Join, "ops"));
        assert!(joining.as_mut().now_or_never().is_none(), "it waits for the deletion");
        let (deleted, joined) = tokio::join!(deleting, joining);
        deleted.unwrap_or_else(|denied| panic!("{denied:?}"));
        let code = joined.map(|_| "it is served").map_err(|denied| denied.code);
        assert_eq!(code, Err(Code::UnknownGroup));
        let journal = Arc::clone(&directory.shared.journal);
        let records = journal.read(listed.log, 1, 1 << 20).expect("a log or none");
        assert!(records.is_empty(), "something was stored in it again");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_enters_a_group_that_is_deleted_next_is_told() {
    with_directory(NodeLimits::default(), async |directory| {
        let listed = made(&directory).await;
        let (key, shard) = (listed.key, &listed.shard);
        let (to, _said) = mpsc::channel(1);
        let (answer, entered) = oneshot::channel();
        let entrant = Entrant { conn: ConnId(7), door: Door::Web, address: CALLER, pass: None };
        let (name, id) = (Name::new("eva").expect("a name"), SenderId([7; 16]));
        let open = tertulia_group::OpenSender { name, id, known: false, follow: false };
        let input = Input::OpenSender(ConnId(7), open);
        shard.send(Job::Connect { key, entrant, input, to, answer }).await;
        let deleted = shard.ask(|answer| Job::Delete { key, answer }).await;
        assert_eq!(deleted, Some(true));
        let entered = tokio::time::timeout(testing::PATIENCE, entered).await;
        assert!(entered.expect("it is answered").is_err(), "it has entered a group that is gone");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_group_has_one_snapshot_under_way() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let shared = testing::shared(NodeLimits::default());
            let hosted = Rc::new(testing::hosted(&shared));
            hosted.keeping.press();
            assert!(hosted.keeping.is_due());
            keeping::look_after(&hosted);
            assert!(!hosted.keeping.is_due(), "it would be made twice");
        })
        .await;
}
