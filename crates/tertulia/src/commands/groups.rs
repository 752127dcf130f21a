//! `groups`: what groups there are; creates and deletes them.

use tertulia_client::{GroupItem, GroupRules, Target};
use tertulia_wire::json::{DoneLine, GroupLine, RulesLine};
use tertulia_wire::safe::make_safe;

use super::directory;
use crate::cli::{GroupsCommand, RulesArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, table};

/// Lists, or does what is told.
pub async fn run(command: Option<GroupsCommand>, target: &Target, out: &mut Output) -> Outcome {
    let mut directory = directory(target).await?;
    match command {
        None => {
            let items = directory.groups().await?;
            show(&items, out)?;
        }
        Some(GroupsCommand::Create { name, rules }) => {
            if rules == RulesArgs::default() {
                directory.create(&name).await?;
            } else {
                let rules = changed(GroupRules::open(), rules);
                directory.create_with(&name, &rules).await?;
            }
            let done = DoneLine { group: name.clone(), created: true, ..DoneLine::default() };
            out.done(&done, &format!("created {}", make_safe(&name, usize::MAX)))?;
        }
        Some(GroupsCommand::Show { name }) => {
            let (group, rules) = directory.rules(&name).await?;
            let line = RulesLine::new(&group, &rules);
            out.either(&line, || rules_text(&line))?;
        }
        Some(GroupsCommand::Set { name, rules, owner }) => {
            let (group, before) = directory.rules(&name).await?;
            let rules = GroupRules { owner: owner.unwrap_or_default(), ..changed(before, rules) };
            directory.set_rules(&name, &rules).await?;
            let done = DoneLine { group: group.clone(), changed: true, ..DoneLine::default() };
            out.done(&done, &format!("changed {}", make_safe(&group, usize::MAX)))?;
        }
        Some(GroupsCommand::Delete { name }) => {
            directory.delete(&name).await?;
            let done = DoneLine { group: name.clone(), deleted: true, ..DoneLine::default() };
            out.done(&done, &format!("deleted {}", make_safe(&name, usize::MAX)))?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// The rules, with what was said on the command line.
fn changed(rules: GroupRules, args: RulesArgs) -> GroupRules {
    GroupRules {
        owner: rules.owner,
        join: args.join.unwrap_or(rules.join),
        send: args.send.unwrap_or(rules.send),
        may_join: args.may_join.unwrap_or(rules.may_join),
        may_send: args.may_send.unwrap_or(rules.may_send),
    }
}

fn rules_text(line: &RulesLine) -> String {
    let names = |names: &[String]| match names {
        [] => String::new(),
        names => format!(" ({})", names.join(", ")),
    };
    let owner = line.owner.as_deref().unwrap_or("nobody");
    let text = format!(
        "{}: owner {owner}, join {}{}, send {}{}",
        line.group,
        line.join,
        names(&line.may_join),
        line.send,
        names(&line.may_send)
    );
    make_safe(&text, usize::MAX).into_owned()
}

/// The list; programs get an object a group.
pub fn show(items: &[GroupItem], out: &mut Output) -> Result<(), Failure> {
    if out.json {
        return items.iter().try_for_each(|item| out.object(&GroupLine::from(item)));
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            vec![
                make_safe(&item.group, usize::MAX).into_owned(),
                item.members.to_string(),
                item.seq.to_string(),
                item.epoch.to_string(),
                make_safe(&item.coordinator, usize::MAX).into_owned(),
            ]
        })
        .collect();
    let lines = table(&["GROUP", "MEMBERS", "SEQ", "EPOCH", "COORDINATOR"], &rows);
    lines.iter().try_for_each(|line| out.text(line))
}
