//! Tables and charts: medians over the rounds with their ranges, and ratios round by round to the floor.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::figures::{Spread, short, spread, thousands};
use crate::load::Round;
use crate::options::Page;
use crate::page;
use crate::peers::{self, Peer};
use crate::place::Place;
use crate::works::{self, Effort, Pace, Work};

/// What stands above all tables.
const ABOUT: &str = "## Delivery\n\n\
    Everybody is given the same work with the same number of messages in flight, in interleaved rounds; medians (least to most), ratios \
    round by round. CPU time is the server's process only, from the kernel's clock; the load generator runs on the same machine: \
    ratios are worth more than figures, and these more than latencies. In flight is what is on its way to the member of a group that \
    is furthest behind; it is sent in two halves, the next one when everybody has one. The *floor* is one epoll thread that writes the \
    same bytes to the same sockets without looking at them; it is what ratios are of. *Floor, confirmed* is the same thread when it also \
    reads what each member says it has (eight bytes, cumulative) and tells the publisher, once a turn, what everybody has: the least that \
    a receipt costs where no name, number or order is kept. Tertulia's members confirm every message they take, and its sender is told \
    of every receipt; JetStream's members acknowledge (cumulatively), and so do Mosquitto's (QoS 1); nobody does with the others. \
    Tertulia and JetStream keep the newest 32 MiB of each group (a stream each), the others nothing; `fsync` and `always` sync before \
    each answer, `lazy` every two minutes. One table is of one run; tables may be of different ones.\n";

/// Everything of one work.
pub struct Table {
    pub work: Work,
    pub rows: Vec<Row>,
}

/// One peer.
pub struct Row {
    pub peer: &'static str,
    pub rounds: Vec<Round>,
}

impl Row {
    /// Microseconds of the server's CPU time for a thousand deliveries, round by round.
    fn cpu_us(&self) -> Vec<f64> {
        let each = |round: &Round| round.cpu.as_secs_f64() * 1e9 / round.deliveries.max(1) as f64;
        self.rounds.iter().map(each).collect()
    }

    fn per_second(&self) -> Vec<f64> {
        let each = |round: &Round| round.deliveries as f64 / round.took.as_secs_f64();
        self.rounds.iter().map(each).collect()
    }
}

/// Of each round, then the median.
fn quantile(
    rounds: &[Round],
    times: impl Fn(&Round) -> &Vec<Duration>,
    per_cent: usize,
) -> Option<f64> {
    let of = |round: &Round| {
        let times = times(round);
        let at = (times.len() * per_cent).div_ceil(100).checked_sub(1)?;
        times.get(at).map(|time| time.as_secs_f64() * 1e6)
    };
    let all: Option<Vec<f64>> = rounds.iter().map(of).collect();
    all.filter(|all| !all.is_empty()).map(|all| spread(all).median)
}

impl Table {
    fn floor(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.peer == "floor")
    }

    /// The CPU time of a peer to the floor's in the same round.
    fn ratio(&self, row: &Row) -> Option<Spread> {
        let floor = self.floor()?.cpu_us();
        Some(spread(row.cpu_us().iter().zip(floor).map(|(own, floor)| own / floor)))
    }
}

/// What a table is of.
pub fn origin(
    page: &Page,
    peers: &[Box<dyn Peer>],
    place: &Place,
    work: Work,
    effort: Effort,
) -> String {
    let (rounds, seconds) = (effort.rounds, short(effort.round.as_secs_f64()));
    let (beside, kind, in_flight) = (peers::versions(peers), &place.kind, work.in_flight());
    let beside = if beside.is_empty() { beside } else { format!("{beside}; ") };
    page.origin(&format!(
        "{beside}what is kept is on {kind}; rounds: {rounds} of {seconds} s; **{in_flight}**"
    ))
}

/// The table of one work.
pub fn markdown(table: &Table, origin: &str) -> String {
    let is_timed = matches!(table.work.pace, Pace::Window(1) | Pace::PerSecond(_));
    let mut out = format!("### {}\n\n{origin}\n\n", table.work.about);
    out += "| | server's CPU µs for 1,000 deliveries | to the floor's | deliveries a second |";
    out += if is_timed {
        " to all received p50, p99 µs | to all confirmed p50, p99 µs |"
    } else {
        ""
    };
    out += if is_timed { "\n|---|---|---|---|---|---|\n" } else { "\n|---|---|---|---|\n" };
    for row in &table.rows {
        let cpu = spread(row.cpu_us());
        let rate = spread(row.per_second()).median;
        let ratio = table.ratio(row).map_or("-".to_owned(), |ratio| ratio.to_string());
        let (peer, rate) = (row.peer, thousands(rate));
        let _ = write!(out, "| {peer} | {cpu} | {ratio} | {rate} |");
        if is_timed {
            let two = |times: fn(&Round) -> &Vec<Duration>| {
                let at = |per_cent| quantile(&row.rounds, times, per_cent);
                at(50)
                    .zip(at(99))
                    .map_or("-".to_owned(), |(p50, p99)| format!("{}, {}", short(p50), short(p99)))
            };
            let _ = write!(out, " {} | {} |", two(|r| &r.received), two(|r| &r.confirmed));
        }
        out.push('\n');
    }
    out
}

/// A chart of one work: CPU time a delivery, as bars, the floor at the top.
fn chart(table: &Table) -> String {
    const BAR: usize = 26;
    const LEFT: f64 = 150.0;
    const WIDTH: f64 = 420.0;
    let values: Vec<(&str, f64)> =
        table.rows.iter().map(|row| (row.peer, spread(row.cpu_us()).median)).collect();
    let least = values.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    // Logarithmic, from a half of the least on.
    let place = |value: f64| {
        WIDTH * (value / least * 2.0).ln() / (most / least * 2.0).ln().max(f64::MIN_POSITIVE)
    };
    let height = values.len() * BAR + 46;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"{height}\" viewBox=\"0 0 680 {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"680\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-weight=\"bold\">{}: server's CPU µs for 1,000 deliveries (logarithmic; less is better)</text>\n",
        table.work.about
    );
    for (index, (peer, value)) in values.iter().enumerate() {
        let (y, width) = (34 + index * BAR, place(*value));
        let fill = match *peer {
            peer if peer.starts_with("floor") => "#888",
            peer if peer.starts_with("Tertulia") => "#0a7",
            _ => "#57b",
        };
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{peer}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"18\" fill=\"{fill}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 8.0,
            y + 14,
            LEFT + width + 6.0,
            y + 14,
            short(*value)
        );
    }
    out + "</svg>\n"
}

/// Writes the table into the document's section, and its chart into the folder beside it.
pub fn write(path: &Path, table: &Table, origin: &str) -> Result<()> {
    let name = table.work.name.to_owned();
    let chart = page::chart(path, &format!("delivery-{name}"), table.work.about, &chart(table))?;
    let text = format!("{}\n{chart}\n", markdown(table, origin));
    page::write(path, "delivery", ABOUT, &works::names(), &[page::Table { name, text }])
}
