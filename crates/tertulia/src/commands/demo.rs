//! `demo`: a node, members and a sender in one process, so that everything is seen within seconds.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use tertulia_client::{Event, Kind, Member, MemberOptions, Place, Sender, SenderOptions, Target};
use tertulia_group::Limits;
use tertulia_server::{Config, Endpoints, Engine, Keep, Node, NodeLimits, Notice};
use tertulia_wire::json::ReceiptLine;
use tertulia_wire::text::{entry_line, receipt_line, receipt_now_line};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::delivery::{Delivery, Settled, Step, after};
use super::offset_minutes;
use crate::cli::DemoArgs;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Colour, Output, colours, paint};
use crate::relay::PeerRelay;
use crate::signals::Signals;
use crate::units::Wait;

const ALLOCATED: [&str; 6] = ["ana", "luis", "eva", "José", "名前", "Zoë"];
const OPS: [&str; 5] = ["ana", "luis", "eva", "José", "名前"];
/// The one that is stopped for a while.
const STOPPED: &str = "luis";
/// How long the sender waits for a stopped member.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long anything else may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Shows it all, and then serves until Ctrl-C.
pub async fn run(args: &DemoArgs, out: &mut Output) -> Outcome {
    let mut signals = Signals::listen()?;
    let data = tempfile::Builder::new()
        .prefix("tertulia-demo-")
        .tempdir()
        .map_err(|error| Failure::io("cannot make a temporary folder", &error))?;
    let (to_us, mut notices) = mpsc::channel(1024);
    let node = Node::start(config(data.path()), to_us)
        .await
        .map_err(|error| Failure::failed("START", error.to_string()))?;
    if let Some(relay) = PeerRelay::new() {
        node.relay(relay);
    }
    let shown = tokio::select! {
        shown = show(args, &node, &mut notices, out) => shown,
        _ = signals.stopped() => Ok(Exit::Done),
    };
    node.stop().await;
    shown
}

fn config(data: &Path) -> Config {
    Config {
        listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        advertise: None,
        data: data.to_owned(),
        native_port: Some(0),
        line_port: Some(0),
        http_port: Some(0),
        guests: true,
        accounts: tertulia_server::AccountRules::default(),
        tls: None,
        keep: Keep::default(),
        engine: Engine::Embedded,
        fsync: true,
        node_id: "demo".to_owned(),
        limits: NodeLimits::default(),
        group_limits: Limits::default(),
    }
}

async fn show(
    args: &DemoArgs,
    node: &Node,
    notices: &mut mpsc::Receiver<Notice>,
    out: &mut Output,
) -> Outcome {
    let endpoints = node.endpoints();
    let native =
        endpoints.native.ok_or_else(|| Failure::failed("START", "the native door is not open"))?;
    let target = Target::new(native.to_string()).agent("tertulia demo");
    say(out, "A node, with its store in a temporary folder:")?;
    say(out, &format!("  native  {native}"))?;
    if let Some(line) = endpoints.line {
        say(out, &format!("  line    {line}"))?;
    }
    if let Some(http) = endpoints.http {
        say(out, &format!("  http    {http}"))?;
    }
    let (heard, mut said) = mpsc::channel(256);
    let mut crowd = Crowd { target, members: BTreeMap::new(), stopping: watch::Sender::new(false) };
    let evenly = crowd.allocate(out).await?;
    let rolls = crowd.roll_calls(heard, out).await?;
    if args.once {
        return Ok(if evenly && rolls { Exit::Done } else { Exit::Failed });
    }
    // What was heard so far was seen in the roll calls.
    while said.try_recv().is_ok() {}
    try_it(native, endpoints, out)?;
    loop {
        tokio::select! {
            Some(line) = said.recv() => say(out, &line)?,
            Some(notice) = notices.recv() => if let Some(line) = notice_line(&notice) {
                say(out, &line)?;
            },
            else => return Ok(Exit::Done),
        }
    }
}

/// For people only.
fn say(out: &mut Output, line: &str) -> Result<(), Failure> {
    if out.json || out.quiet {
        return Ok(());
    }
    out.text(line)?;
    out.flush()
}

fn notice_line(notice: &Notice) -> Option<String> {
    match notice {
        Notice::Joined { group, name, door, .. } if !ALLOCATED.contains(&name.as_str()) => {
            Some(format!("{name} joined {group} ({} door)", door.as_str()))
        }
        Notice::Left { group, name, reason } => {
            Some(format!("{name} left {group} ({})", reason.as_str()))
        }
        Notice::Trouble(text) => Some(format!("trouble: {text}")),
        _ => None,
    }
}

/// The members, each a task that confirms what comes.
struct Crowd {
    target: Target,
    /// By group and name.
    members: BTreeMap<(String, String), JoinHandle<()>>,
    /// Whether [`STOPPED`] is stopped.
    stopping: watch::Sender<bool>,
}

impl Crowd {
    async fn join(
        &mut self,
        place: Place,
        name: &str,
        stops: bool,
        heard: Option<mpsc::Sender<String>>,
    ) -> Result<String, Failure> {
        let member = Member::join(&self.target, place, MemberOptions::new(name)).await?;
        let group = member.welcome().group.clone();
        let stopping = stops.then(|| self.stopping.subscribe());
        let task = tokio::spawn(take_part(member, stopping, heard));
        self.members.insert((group.clone(), name.to_owned()), task);
        Ok(group)
    }

    /// Six members that do not say where they want to go; whether they are spread evenly.
    async fn allocate(&mut self, out: &mut Output) -> Result<bool, Failure> {
        say(out, "\nSix members ask the allocator for a group:")?;
        let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for name in ALLOCATED {
            let group = self.join(Place::Allocate, name, false, None).await?;
            groups.entry(group).or_default().push(name);
        }
        for (group, names) in &groups {
            say(out, &format!("  {group}: {} members  {}", names.len(), names.join(", ")))?;
        }
        let evenly = groups.keys().eq(["1", "2", "3"]);
        Ok(evenly && groups.values().all(|names| names.len() == 2))
    }

    /// Five members, one sender, three receipts; whether they were as they should be.
    async fn roll_calls(
        &mut self,
        heard: mpsc::Sender<String>,
        out: &mut Output,
    ) -> Result<bool, Failure> {
        for name in OPS {
            // One of them tells what it hears, for whoever tries it out.
            let heard = (name == "eva").then(|| heard.clone());
            self.join(Place::Group("ops".to_owned()), name, name == STOPPED, heard).await?;
        }
        drop(heard);
        say(out, &format!("\nFive members are in ops: {}", OPS.join(", ")))?;
        let options = SenderOptions { follow: true, ..SenderOptions::default() };
        let mut sender = Sender::open(&self.target, "ops", "marta", options).await?;
        let mut roll = RollCall { confirmations: sender.confirmations(), sender: &sender, out };

        let text = "hola";
        say(roll.out, &format!("\n~marta, who is not in the group, tells ops: {text}"))?;
        let first = roll.call(text, WITHIN).await?;
        let all = first.receipt.is_complete() && first.receipt.members == 5;

        self.stopping.send_replace(true);
        say(roll.out, &format!("\n{STOPPED} stops. ~marta tells ops: are you there?"))?;
        let second = roll.call("are you there?", PATIENCE).await?;
        let missing: Vec<String> =
            second.receipt.missing.iter().map(tertulia_wire::text::missing_text).collect();
        let one_missing = missing == [format!("{STOPPED} (pending)")];

        self.stopping.send_replace(false);
        say(roll.out, &format!("\n{STOPPED} goes on. The same receipt, asked for again:"))?;
        let third = roll.again(second.receipt.seq).await?;
        // Answered for: what closing could say has been said.
        let _ = tokio::time::timeout(Duration::from_secs(1), sender.close()).await;
        Ok(all && one_missing && third)
    }
}

/// A member's program: it confirms what comes, unless it is stopped.
async fn take_part(
    mut member: Member,
    mut stopping: Option<watch::Receiver<bool>>,
    heard: Option<mpsc::Sender<String>>,
) {
    loop {
        let event = member.next().await;
        if let Some(stopping) = &mut stopping
            && stopping.wait_for(|stopping| !stopping).await.is_err()
        {
            return;
        }
        match event {
            None => return,
            Some(Event::Entry(entry)) => {
                if let (Some(heard), Kind::Message) = (&heard, entry.header.kind)
                    && let Some(line) = entry_line(&entry, offset_minutes(entry.header.time_us))
                {
                    // Nobody looks, or not fast enough: it is heard all the same.
                    let _ = heard.try_send(format!("ops {line}"));
                }
                member.done(entry.header.seq);
            }
            Some(_) => {}
        }
    }
}

/// The sender's side, with what is seen of it.
struct RollCall<'a> {
    sender: &'a Sender,
    confirmations: Option<mpsc::Receiver<tertulia_client::Confirmed>>,
    out: &'a mut Output,
}

impl RollCall<'_> {
    async fn call(&mut self, text: &str, patience: Duration) -> Result<Settled, Failure> {
        let of = OPS.len();
        let mut count = 0;
        let (sender, out) = (self.sender, &mut *self.out);
        let body = text.as_bytes().to_vec();
        let delivery = Delivery::begin(sender, body, Wait::All, after(patience)).await?;
        let mut steps = |step: Step| match step {
            Step::Stored(seq) => say(out, &format!("  stored as #{seq} ({})", sender.level())),
            Step::Confirmed { name, .. } => {
                count += 1;
                say(out, &format!("  {count}/{of}  {name}"))
            }
        };
        let settled = delivery.settle(self.confirmations.as_mut(), &mut steps).await?;
        let line = receipt_line("ops", &settled.receipt, settled.elapsed);
        let object =
            ReceiptLine::new("ops", &settled.receipt, settled.level, Some(settled.elapsed));
        self.print(&object, &line, settled.receipt.is_complete())?;
        Ok(settled)
    }

    async fn again(&mut self, seq: u64) -> Result<bool, Failure> {
        let now = self.sender.ask_receipt(seq, WITHIN).await?;
        let object = ReceiptLine::new("ops", &now.receipt, now.level, None);
        let complete = now.receipt.is_complete();
        self.print(&object, &receipt_now_line("ops", &now.receipt), complete)?;
        Ok(complete && now.receipt.members == 5)
    }

    fn print(&mut self, object: &ReceiptLine, line: &str, complete: bool) -> Result<(), Failure> {
        let colour = if complete { Colour::Green } else { Colour::Yellow };
        let on_terminal = std::io::stdout().is_terminal() && colours(&std::io::stdout());
        if self.out.quiet && !self.out.json {
            return Ok(());
        }
        self.out.either(object, || paint(line, colour, on_terminal))?;
        self.out.flush()
    }
}

/// Lines to copy.
fn try_it(
    native: std::net::SocketAddr,
    endpoints: Endpoints,
    out: &mut Output,
) -> Result<(), Failure> {
    say(out, "\nTry it in another terminal (Ctrl-C here ends it all):")?;
    for command in [
        format!("tertulia send ops hola --node {native} -v"),
        format!("tertulia join ops --node {native}"),
        format!("tertulia chat ops --name you --node {native}"),
        format!("tertulia members ops --node {native}"),
    ] {
        say(out, &format!("  {command}"))?;
    }
    if let Some(line) = endpoints.line {
        say(
            out,
            &format!("  nc {} {}     # then: JOIN you ops, MSG hola, EXIT", line.ip(), line.port()),
        )?;
    }
    if let Some(http) = endpoints.http {
        say(out, &format!("  curl -d hola http://{http}/api/groups/ops/messages"))?;
    }
    say(out, "From the source tree, `cargo run --release --` stands for `tertulia`:")?;
    say(out, &format!("  cargo run --release -- send ops hola --node {native}\n"))
}
