//! `members` and `remove`: who is in a group, how far each has come, and out with one.

use tertulia_client::Target;
use tertulia_wire::json::{DoneLine, MemberLine};
use tertulia_wire::safe::make_safe;
use tertulia_wire::text::long_text;

use super::{directory, now_us, of_group};
use crate::cli::{MembersArgs, RemoveArgs};
use crate::failure::{Exit, Outcome};
use crate::output::{Output, table};

/// Prints the members of a group.
pub async fn list(args: &MembersArgs, target: &Target, out: &mut Output) -> Outcome {
    let items = directory(target).await?.members(&args.group).await;
    let items = items.map_err(|error| of_group(error, &args.group, target))?;
    if out.json {
        items.iter().try_for_each(|item| out.object(&MemberLine::from(item)))?;
    } else {
        let now = now_us();
        let rows: Vec<Vec<String>> = items
            .iter()
            .map(|item| {
                vec![
                    make_safe(&item.name, usize::MAX).into_owned(),
                    item.acked.to_string(),
                    item.presence.as_str().to_owned(),
                    item.door.as_str().to_owned(),
                    long_text(now.saturating_sub(item.since_us) / 1000),
                ]
            })
            .collect();
        let lines = table(&["NAME", "ACKED", "PRESENCE", "DOOR", "SINCE"], &rows);
        lines.iter().try_for_each(|line| out.text(line))?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Removes one.
pub async fn remove(args: &RemoveArgs, target: &Target, out: &mut Output) -> Outcome {
    directory(target).await?.remove(&args.group, &args.name).await?;
    let (name, group) = (make_safe(&args.name, usize::MAX), make_safe(&args.group, usize::MAX));
    let done = DoneLine {
        group: args.group.clone(),
        name: Some(args.name.clone()),
        removed: true,
        ..DoneLine::default()
    };
    out.done(&done, &format!("removed {name} from {group}"))?;
    out.flush()?;
    Ok(Exit::Done)
}
