//! Accounts over a store in memory, with a clock that the test moves.

use std::net::IpAddr;
use std::time::Duration;

use tertulia_journal::MemoryJournal;

use super::*;

const PASSWORD: &str = "correct horse";

fn limits() -> AccountLimits {
    AccountLimits {
        hash_cost: HashCost { memory_kib: 64, passes: 1 },
        tokens_per_account: 3,
        accounts: 4,
        ..AccountLimits::default()
    }
}

fn now(seconds: u64) -> Now {
    Now { mono_ms: seconds * 1000, wall_us: 1_000_000_000_000 + seconds * 1_000_000 }
}

struct Rig {
    catalog: Arc<dyn Catalog>,
    accounts: Accounts,
}

impl Rig {
    fn new() -> Self {
        Self::with(AccountRules::default())
    }

    fn with(rules: AccountRules) -> Self {
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryJournal::new(1 << 20));
        let accounts = Accounts::load(Arc::clone(&catalog), limits(), rules, now(0)).unwrap();
        Self { catalog, accounts }
    }

    fn restarted(self, seconds: u64) -> Self {
        let rules = AccountRules::default();
        let catalog = self.catalog;
        let accounts = Accounts::load(Arc::clone(&catalog), limits(), rules, now(seconds)).unwrap();
        Self { catalog, accounts }
    }

    async fn register(&self, caller: &Caller, name: &str) -> Result<Registered, Denied> {
        self.accounts.register(caller, name, PASSWORD, None, now(0)).await
    }

    async fn log_in(&self, name: &str) -> LoggedIn {
        self.accounts.log_in(&here(), name, PASSWORD, now(0)).await.unwrap()
    }

    fn opens(&self, token: &Token, seconds: u64) -> bool {
        let text = token.text();
        self.accounts.authenticate(&here(), &text, now(seconds).wall_us).is_ok()
    }
}

fn here() -> Caller {
    Caller::new(IpAddr::from([127, 0, 0, 1]), false)
}

fn far(last: u8) -> Caller {
    Caller::new(IpAddr::from([10, 0, 0, last]), true)
}

fn code<T: std::fmt::Debug>(result: Result<T, Denied>) -> Code {
    result.expect_err("it is refused").code
}

#[tokio::test]
async fn the_first_from_this_machine_is_the_administrator_and_only_that_one() {
    let rig = Rig::new();
    assert!(rig.accounts.setup_code().is_some());
    assert!(!rig.register(&far(1), "eva").await.unwrap().administrator);
    let proxied = Caller { local: false, ..here() };
    assert!(!rig.register(&proxied, "max").await.unwrap().administrator);
    assert!(rig.register(&here(), "ana").await.unwrap().administrator);
    assert!(!rig.register(&here(), "luis").await.unwrap().administrator);
    assert_eq!(rig.accounts.setup_code(), None);
    let rig = rig.restarted(1);
    assert!(rig.log_in("ana").await.session.administrator);
    assert!(!rig.log_in("luis").await.session.administrator);
}

#[tokio::test]
async fn the_set_up_code_makes_an_administrator_elsewhere_once() {
    let rig = Rig::new();
    let code_text = rig.accounts.setup_code().unwrap().to_owned();
    assert_eq!(code_text.len(), 19, "{code_text}");
    let register = async |name: &str, text: &str| {
        rig.accounts.register(&far(1), name, PASSWORD, Some(text), now(0)).await
    };
    assert_eq!(code(register("eva", "AAAA-AAAA-AAAA-AAAA").await), Code::Denied);
    assert!(register("ana", &code_text.to_lowercase()).await.unwrap().administrator);
    assert_eq!(code(register("luis", &code_text).await), Code::Denied);
    let other = Rig::new();
    assert_ne!(other.accounts.setup_code(), Some(code_text.as_str()));
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_password_get_the_same_answer_for_the_same_work() {
    let rig = Rig::new();
    rig.register(&here(), "ana").await.unwrap();
    let mut answers = Vec::new();
    let long = "x".repeat(1000);
    for (name, password) in
        [("ana", "wrong horse"), ("eva", PASSWORD), ("a b", PASSWORD), ("ana", &long)]
    {
        let before = rig.accounts.hashes();
        let answer = rig.accounts.log_in(&here(), name, password, now(0)).await;
        answers.push((answer.map(|_| ()).unwrap_err(), rig.accounts.hashes() - before));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].1, 1);
    assert_eq!(answers[0].0.code, Code::NotLoggedIn);
}

#[tokio::test]
async fn a_token_ends_by_time_and_by_word_and_stays_over_a_restart() {
    let rig = Rig::new();
    rig.register(&here(), "ana").await.unwrap();
    let (one, two) = (rig.log_in("ana").await, rig.log_in("ANA").await);
    assert!(rig.opens(&one.token, 1) && rig.opens(&two.token, 1));
    assert!(!rig.opens(&Token::random(), 1));
    rig.accounts.log_out(&one.session).await.unwrap();
    assert!(!rig.opens(&one.token, 1) && rig.opens(&two.token, 1));
    let rig = rig.restarted(2);
    assert!(!rig.opens(&one.token, 2) && rig.opens(&two.token, 2));
    let month = 30 * 24 * 3600;
    assert!(rig.opens(&two.token, month - 1) && !rig.opens(&two.token, month));
    let rig = rig.restarted(month + 1);
    assert!(!rig.opens(&two.token, 2), "its record is gone");
    assert!(rig.catalog.scan(records::TOKEN).unwrap().is_empty());
}

#[tokio::test]
async fn what_a_token_opened_ends_with_it() {
    let rig = Rig::new();
    rig.register(&here(), "ana").await.unwrap();
    let all = [rig.log_in("ana").await, rig.log_in("ana").await, rig.log_in("ana").await];
    let passes = all.each_ref().map(|one| {
        let opened = Opened {
            session: Some(Arc::clone(&one.session)),
            operation: table::Operation::Join,
            group: crate::hosted::GroupKey(1),
            name: None,
        };
        rig.accounts.passes.open(opened, table::Role::Keeper)
    });
    let over = || passes.each_ref().map(|pass| pass.ended().is_some());
    rig.accounts.log_out(&all[1].session).await.unwrap();
    assert_eq!(over(), [false, true, false]);
    // The oldest makes room.
    rig.log_in("ana").await;
    assert_eq!(over(), [false, true, false]);
    rig.log_in("ana").await;
    assert_eq!(over(), [true, true, false]);
    assert!(!rig.opens(&all[0].token, 0));
    rig.accounts.expire(now(40 * 24 * 3600).wall_us).await;
    assert_eq!(over(), [true; 3]);
}

#[tokio::test]
async fn names_that_are_taken_or_look_so_are_refused_and_there_is_a_limit() {
    let rig = Rig::new();
    rig.register(&here(), "ana").await.unwrap();
    for name in ["ana", "ANA", "аnа"] {
        assert_eq!(code(rig.register(&here(), name).await), Code::NameTaken, "{name}");
    }
    assert_eq!(code(rig.register(&here(), "a b").await), Code::BadName);
    for name in ["b", "c", "d"] {
        rig.register(&here(), name).await.unwrap();
    }
    assert_eq!(code(rig.register(&here(), "e").await), Code::Limit);
}

#[tokio::test]
async fn passwords_are_neither_short_nor_endless() {
    let rig = Rig::new();
    for password in ["", "seven77", &"x".repeat(257)] {
        let done = rig.accounts.register(&here(), "ana", password, None, now(0)).await;
        assert_eq!(code(done), Code::BadPassword);
    }
    assert_eq!(rig.accounts.hashes(), 0);
    let done = rig.accounts.register(&here(), "ana", "ñandúñan", None, now(0)).await;
    assert!(done.is_ok());
}

#[tokio::test]
async fn where_others_may_read_nothing_is_taken() {
    let rig = Rig::new();
    rig.register(&here(), "ana").await.unwrap();
    let token = rig.log_in("ana").await.token.text();
    let plain = Caller::new(IpAddr::from([10, 0, 0, 1]), false);
    assert_eq!(code(rig.register(&plain, "eva").await), Code::Denied);
    let logged_in = rig.accounts.log_in(&plain, "ana", PASSWORD, now(0)).await;
    assert_eq!(code(logged_in), Code::Denied);
    assert_eq!(code(rig.accounts.authenticate(&plain, &token, now(0).wall_us)), Code::Denied);
    assert!(rig.accounts.authenticate(&far(1), &token, now(0).wall_us).is_ok());
}

#[tokio::test]
async fn closed_registration_is_open_to_administrators_and_the_first() {
    let rig = Rig::with(AccountRules { open_registration: false, ..AccountRules::default() });
    assert_eq!(code(rig.register(&far(1), "eva").await), Code::Denied);
    assert!(rig.register(&here(), "ana").await.unwrap().administrator);
    assert_eq!(code(rig.register(&here(), "eva").await), Code::Denied);
    let session = Some(rig.log_in("ana").await.session);
    let administrator = Caller { session, ..here() };
    assert!(!rig.register(&administrator, "eva").await.unwrap().administrator);
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_costs_few_hashes_and_others_log_in() {
    let rig = Rig::new();
    rig.register(&here(), "ana").await.unwrap();
    rig.register(&here(), "luis").await.unwrap();
    let before = rig.accounts.hashes();
    for _ in 0..1000 {
        assert!(rig.accounts.log_in(&here(), "ana", "wrong horse", now(1)).await.is_err());
        assert!(rig.accounts.log_in(&far(9), "ana", "wrong horse", now(1)).await.is_err());
    }
    assert!(rig.accounts.hashes() - before < 40, "{}", rig.accounts.hashes());
    rig.log_in("luis").await;
    assert_eq!(code(rig.accounts.log_in(&here(), "ana", PASSWORD, now(1)).await), Code::Limit);
    let later = rig.accounts.log_in(&here(), "ana", PASSWORD, now(120)).await;
    assert!(later.is_ok());
    // Where it has logged in, nobody else's tries count.
    for _ in 0..100 {
        let _ = rig.accounts.log_in(&far(9), "ana", "wrong horse", now(121)).await;
    }
    assert!(rig.accounts.log_in(&here(), "ana", PASSWORD, now(121)).await.is_ok());
}

#[tokio::test]
async fn nothing_that_is_kept_holds_a_password_or_a_token() {
    let rig = Rig::new();
    rig.register(&here(), "ana").await.unwrap();
    let token = rig.log_in("ana").await.token.text();
    for (key, record) in rig.catalog.scan("").unwrap() {
        let text = format!("{key} {}", String::from_utf8_lossy(&record.value));
        assert!(!text.contains(PASSWORD) && !text.contains(&token[3..]), "{text}");
    }
    assert!(!format!("{:?}", rig.accounts.read()).contains(&token[3..]));
}

#[test]
fn the_wait_for_a_turn_is_limited() {
    assert!(AccountLimits::default().hash_wait <= Duration::from_secs(30));
}
