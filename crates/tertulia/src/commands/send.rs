//! `send`: an outside sender that waits for its receipts; one message, a line each, or a person typing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tertulia_client::{Code, Confirmed, Error, Once, Sender, SenderOptions, Seq, Target};
use tertulia_wire::json::ReceiptLine;
use tertulia_wire::safe::make_safe;
use tertulia_wire::text::{elapsed_text, receipt_line};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::again::Again;
use super::delivery::{Delivery, Settled, Step, after};
use super::{directory, groups, members_text, of_group};
use crate::cli::SendArgs;
use crate::failure::{Exit, Failure, Outcome};
use crate::input::{self, Lines, Typed};
use crate::names;
use crate::output::{Colour, Output, colours, error_line, paint};
use crate::signals::Signals;
use crate::units::Wait;

/// Messages of a pipe whose receipts are waited for at once.
const UNDER_WAY_MAX: usize = 4096;

/// Sends what the arguments say.
pub async fn run(args: &SendArgs, target: &Target, out: &mut Output) -> Outcome {
    let mut signals = Signals::listen()?;
    let stored = StoredAt::default();
    let again = Again::of(args, target);
    let work = async {
        if let Some(again) = &again {
            return one(args, again, target, &stored, out).await;
        }
        if input::is_terminal() {
            return interactive(args, target, &stored, out).await;
        }
        piped(args, target, out).await
    };
    tokio::select! {
        outcome = work => return outcome,
        _ = signals.stopped() => {}
    }
    match (stored.take(), &again) {
        (Some((group, seq)), _) => Failure::interrupted(&group, seq).show(out.json),
        (None, Some(again)) => again.may_be(Failure::interrupted_before()).show(out.json),
        (None, None) => error_line("interrupted: what was not answered may be stored all the same"),
    }
    Ok(Exit::Interrupted)
}

/// The group and the number of the message that is waited for, once it is stored.
#[derive(Default)]
struct StoredAt(Mutex<Option<(String, Seq)>>);

impl StoredAt {
    fn set(&self, at: Option<(String, Seq)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn take(&self) -> Option<(String, Seq)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn group_of(args: &SendArgs) -> Result<&str, Failure> {
    let missing = || Failure::usage("say to which group: tertulia send GROUP TEXT…");
    args.group.as_deref().ok_or_else(missing)
}

/// Connects; confirmations by name are asked for where they are shown or counted.
async fn open(
    args: &SendArgs,
    group: &str,
    once: Option<(&Again, Once)>,
    target: &Target,
    until: Instant,
    out: &mut Output,
) -> Result<(Sender, Option<mpsc::Receiver<Confirmed>>), Failure> {
    let follow = out.verbose || matches!(args.wait, Wait::Count(_));
    let options = || {
        let within = Some(until.saturating_duration_since(Instant::now()));
        let once = once.as_ref().map(|(_, once)| once.clone());
        SenderOptions { follow, within, once, ..SenderOptions::default() }
    };
    out.step(&format!("asking {} where {} is", target.address(), make_safe(group, 128)))?;
    let default = args.name.is_none();
    let name = args.name.clone().unwrap_or_else(|| names::default_at(target));
    let mut opened = Sender::open(target, group, &name, options()).await;
    if default && opened.as_ref().is_err_and(|error| error.code() == Some(Code::NameReserved)) {
        // The default name is an account's here: any other will do.
        let name = names::numbered(&name, 2);
        once.iter().for_each(|(again, _)| again.called(&name));
        opened = Sender::open(target, group, &name, options()).await;
    }
    let mut sender = opened.map_err(|error| match Instant::now() < until {
        true => of_group(error, group, target),
        false => Failure::from(error).not_sent_in(args.timeout),
    })?;
    let located = sender.located();
    let line = format!(
        "directory: {} is coordinated at {} (epoch {})",
        located.group, located.coordinator, located.epoch
    );
    out.step(&make_safe(&line, usize::MAX))?;
    out.step(&format!(
        "connected as ~{}; {} in the group",
        make_safe(sender.name(), 128),
        members_text(sender.members())
    ))?;
    let confirmations = sender.confirmations();
    Ok((sender, confirmations))
}

/// What no door takes.
fn empty() -> Failure {
    Failure::failed("BAD_TEXT", "a message is not empty: say something")
}

async fn one(
    args: &SendArgs,
    again: &Again,
    target: &Target,
    stored: &StoredAt,
    out: &mut Output,
) -> Outcome {
    let group = group_of(args)?;
    if args.text.iter().all(String::is_empty) {
        return Err(empty());
    }
    let until = after(args.timeout);
    let text = args.text.join(" ").into_bytes();
    let once = Some((again, Once::new(again.key(), &text)));
    let (sender, mut confirmations) = open(args, group, once, target, until, out).await?;
    let outcome = deliver(args, (&sender, stored), text, until, confirmations.as_mut(), out).await;
    let outcome = outcome.map_err(|failure| match failure.exit() {
        Exit::Unknown => again.may_be(failure),
        _ => failure,
    });
    // A node that has not answered in time is not waited for again.
    if outcome.is_ok() {
        close(sender).await;
    }
    outcome
}

/// One message, all its steps, its receipt.
async fn deliver(
    args: &SendArgs,
    (sender, stored_at): (&Sender, &StoredAt),
    body: Vec<u8>,
    until: Instant,
    follow: Option<&mut mpsc::Receiver<Confirmed>>,
    out: &mut Output,
) -> Outcome {
    let delivery = Delivery::begin(sender, body, args.wait, until).await?;
    let (level, started) = (sender.level(), Instant::now());
    let group = &sender.located().group;
    let mut stored = None;
    let mut steps = |step: Step| match step {
        Step::Stored(seq) => {
            stored = Some(seq);
            stored_at.set(Some((group.clone(), seq)));
            let elapsed = elapsed_text(started.elapsed());
            out.step(&format!("stored as #{seq} ({level}) in {elapsed}"))
        }
        Step::Confirmed { name, host_only } => {
            let name = make_safe(&name, usize::MAX);
            let how = if host_only { "reached the host of" } else { "confirmed by" };
            out.step(&format!("{how} {name}"))
        }
    };
    let settled = delivery.settle(follow, &mut steps).await;
    stored_at.set(None);
    let settled = settled.map_err(|failure| match stored {
        Some(seq) if failure.is_output() => failure.unprinted(group, seq),
        _ => failure,
    })?;
    show(args, group, &settled, None, out)
}

/// Prints the receipt; the exit code says whether what was waited for has come.
fn show(
    args: &SendArgs,
    group: &str,
    settled: &Settled,
    line: Option<u64>,
    out: &mut Output,
) -> Outcome {
    let Settled { receipt, enough, .. } = settled;
    print(group, settled, out).map_err(|failure| failure.unprinted(group, receipt.seq))?;
    let counted = match args.wait {
        Wait::Count(count) => Some(count),
        Wait::All | Wait::Stored => None,
    };
    let expected = args.expect.max(counted).unwrap_or_default();
    if receipt.members < expected {
        Failure::too_few(receipt.members, expected).at_line(line).show(out.json);
        return Ok(Exit::Incomplete);
    }
    Ok(if *enough { Exit::Done } else { Exit::Incomplete })
}

pub fn print(group: &str, settled: &Settled, out: &mut Output) -> Result<(), Failure> {
    let Settled { receipt, level, elapsed, .. } = settled;
    if out.json {
        out.object(&ReceiptLine::new(group, receipt, *level, Some(*elapsed)))?;
    } else if !out.quiet {
        let colour = if receipt.is_complete() { Colour::Green } else { Colour::Yellow };
        let line = receipt_line(group, receipt, *elapsed);
        out.text(&paint(&line, colour, colours(&std::io::stdout())))?;
    }
    out.flush()
}

/// Ends the connection in order, but does not wait for it long.
pub async fn close(sender: Sender) {
    // Every message has been answered for: what closing could say has been said.
    let _ = tokio::time::timeout(Duration::from_secs(1), sender.close()).await;
}

/// Says what failed, of which line of a pipe, and goes on.
fn counted(outcome: Outcome, line: Option<u64>, json: bool) -> Outcome {
    match outcome {
        Err(failure) if failure.is_closed_output() => Err(failure),
        Err(failure) => {
            let failure = failure.at_line(line);
            failure.show(json);
            Ok(failure.exit())
        }
        Ok(exit) => Ok(exit),
    }
}

/// One message a line, many under way at once, receipts in their order.
async fn piped(args: &SendArgs, target: &Target, out: &mut Output) -> Outcome {
    let group = group_of(args)?;
    let (sender, confirmations) = open(args, group, None, target, after(args.timeout), out).await?;
    let group = sender.located().group.clone();
    // Names would be of many messages at once: their number is in each receipt.
    drop(confirmations);
    let sender = Arc::new(sender);
    let mut lines = Some(Lines::read());
    let mut under_way: VecDeque<JoinHandle<Result<Settled, Failure>>> = VecDeque::new();
    let (mut worst, mut answered) = (Exit::Done, 0);
    loop {
        let has_room = under_way.len() < UNDER_WAY_MAX;
        let line = async {
            match &mut lines {
                Some(lines) if has_room => Some(lines.next().await),
                _ => None,
            }
        };
        tokio::select! {
            Some(line) = line => match line {
                Some(line) => {
                    let begun = begin(args, &sender, line).await;
                    under_way.push_back(begun);
                }
                None => lines = None,
            },
            Some(settled) = first_of(&mut under_way) => {
                under_way.pop_front();
                answered += 1;
                let line = Some(answered);
                let shown = settled.and_then(|settled| show(args, &group, &settled, line, out));
                worst = worst.max(counted(shown, line, out.json)?);
            }
            else => break,
        }
    }
    if let Some(sender) = Arc::into_inner(sender) {
        close(sender).await;
    }
    if answered == 0 {
        out.note("nothing was sent: standard input was empty");
    }
    Ok(worst)
}

/// Hands a line over, in its order, and follows it on its own.
async fn begin(
    args: &SendArgs,
    sender: &Arc<Sender>,
    line: Vec<u8>,
) -> JoinHandle<Result<Settled, Failure>> {
    let (wait, timeout) = (args.wait, args.timeout);
    let (handed, begun) = tokio::sync::oneshot::channel();
    let sender = Arc::clone(sender);
    let task = tokio::spawn(async move {
        let delivery = match line.is_empty() {
            true => Err(empty()),
            false => Delivery::begin(&sender, line, wait, after(timeout)).await,
        };
        // The next line may be handed over now.
        let _ = handed.send(());
        delivery?.settle(None, &mut |_| Ok(())).await
    });
    let _ = begun.await;
    task
}

/// The answer to the oldest line; `None` while there is none.
async fn first_of(
    under_way: &mut VecDeque<JoinHandle<Result<Settled, Failure>>>,
) -> Option<Result<Settled, Failure>> {
    let joined = under_way.front_mut()?.await;
    Some(joined.unwrap_or_else(|error| {
        Err(Failure::unknown(format!("the message's task ended: {error}")))
    }))
}

/// A person picks a group and types.
async fn interactive(
    args: &SendArgs,
    target: &Target,
    stored: &StoredAt,
    out: &mut Output,
) -> Outcome {
    let mut lines = Lines::read();
    let group = match &args.group {
        Some(group) => group.clone(),
        None => match pick_group(target, &mut lines, out).await? {
            Some(group) => group,
            None => return Ok(Exit::Done),
        },
    };
    let until = after(args.timeout);
    let (sender, mut confirmations) = open(args, &group, None, target, until, out).await?;
    let group = make_safe(&sender.located().group, usize::MAX).into_owned();
    out.note(&format!("{} in {group}; /quit or Ctrl-D ends", members_text(sender.members())));
    loop {
        input::prompt(&format!("{group}> "));
        let Some(line) = lines.next().await else {
            error_line("");
            break;
        };
        match input::typed(line) {
            Typed::Command(word) if word == "quit" => break,
            Typed::Command(word) if word == "help" => {
                error_line(&format!("/quit or Ctrl-D: end   {}", input::SAID));
            }
            Typed::Command(_) => error_line(input::NO_SUCH_COMMAND),
            Typed::Nothing => {}
            Typed::Text(line) => {
                let (until, follow) = (after(args.timeout), confirmations.as_mut());
                let outcome = deliver(args, (&sender, stored), line, until, follow, out).await;
                counted(outcome, None, out.json)?;
            }
        }
    }
    close(sender).await;
    Ok(Exit::Done)
}

/// Shows the groups and asks for one; `None` at the end of the input.
async fn pick_group(
    target: &Target,
    lines: &mut Lines,
    out: &mut Output,
) -> Result<Option<String>, Failure> {
    let mut directory = directory(target).await?;
    let items = directory.groups().await?;
    if items.is_empty() {
        let text = "there are no groups yet: tertulia join, or tertulia groups create NAME";
        return Err(Failure::failed("UNKNOWN_GROUP", text));
    }
    groups::show(&items, out)?;
    out.flush()?;
    loop {
        let Some(answer) = lines.ask("To which group? ").await else {
            error_line("");
            return Ok(None);
        };
        if answer.is_empty() {
            continue;
        }
        match directory.locate(&answer).await {
            Ok(located) => return Ok(Some(located.group)),
            Err(Error::Refused { message, .. }) => {
                error_line(&make_safe(&message, usize::MAX));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
