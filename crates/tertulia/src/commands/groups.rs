//! `groups`: what groups there are; creates and deletes them.

use tertulia_client::{GroupItem, Target};
use tertulia_wire::json::{DoneLine, GroupLine};
use tertulia_wire::safe::make_safe;

use super::directory;
use crate::cli::GroupsCommand;
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
        Some(GroupsCommand::Create { name }) => {
            directory.create(&name).await?;
            let done = DoneLine { group: name.clone(), created: true, ..DoneLine::default() };
            out.done(&done, &format!("created {}", make_safe(&name, usize::MAX)))?;
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
