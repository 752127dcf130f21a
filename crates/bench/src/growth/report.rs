//! Tables of what grew and charts of the curves, each beside its smallest size: what is flat stays at one.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::{Cost, Growth, IDLE, Measured, idle_max, names, ops};
use crate::figures::{short, spread, thousands};
use crate::options::Page;
use crate::page;
use crate::place::Place;

/// What stands above the tables.
const ABOUT: &str = "## Growth\n\n\
    A node with the embedded store and fsync, and a group of 10 native members in which one operation is done after the other; what \
    grows stands in the heading of each table. The least that any node has is 100 groups, that one among them, and 100 messages of \
    history in it, so that every page that is asked for is full; idle members are in groups of 100 that come on top. Medians of rounds \
    in which nodes of all sizes are there and have their turns. CPU time is the node's process only, for one operation, without what it \
    uses when nobody asks (a heartbeat a second for each member, and those who join and leave all the time). That is taken off as it is \
    in a second of rest; beside work it costs less, so that CPU times of the largest sizes come out a little low, and times until it is \
    done do not. Pages are asked for on a new connection each. *After `kill -9`* is timed once for each size, from when the old process has gone.\n";

fn micros(costs: &[Cost], of: fn(&Cost) -> Duration) -> f64 {
    spread(costs.iter().map(|cost| of(cost).as_secs_f64() * 1e6)).median
}

fn cpu(costs: &[Cost]) -> f64 {
    micros(costs, |cost| cost.cpu)
}

/// The table of one growth.
pub fn markdown(growth: &Growth, sizes: &[Measured], origin: &str) -> String {
    let mut out = format!("### {}\n\n{origin}\n\n|", growth.about);
    sizes.iter().for_each(|size| out += &format!(" | {}", size.label));
    out += &format!(" |\n|---|{}\n", "---|".repeat(sizes.len()));
    let mut line = |what: &str, of: &dyn Fn(&Measured) -> String| {
        let cells: Vec<String> = sizes.iter().map(of).collect();
        let _ = writeln!(out, "| {what} | {} |", cells.join(" | "));
    };
    for (index, op) in ops::ALL.iter().enumerate() {
        line(&format!("{}: CPU µs", op.about), &|size| short(cpu(&size.costs[index])));
        line("and until it is done, µs", &|size| {
            short(micros(&size.costs[index], |cost| cost.took))
        });
    }
    line("when nobody asks: CPU ms a second", &|size| {
        short(spread(size.idle.iter().map(|cpu| cpu.as_secs_f64() * 1e3)).median)
    });
    line("resident, MiB", &|size| short(size.resident as f64 / f64::from(1 << 20)));
    let ms = |time: Duration| short(time.as_secs_f64() * 1e3);
    line("after `kill -9`: takes connections, ms", &|size| ms(size.back.listens));
    line("and has listed groups", &|size| ms(size.back.lists));
    line("and has stored a message in the group", &|size| ms(size.back.stores));
    line("(growing took, s)", &|size| short(size.grew.as_secs_f64()));
    out
}

const COLOURS: [&str; 5] = ["#0a7", "#57b", "#c60", "#a3a", "#888"];

/// CPU time of each operation beside that at the smallest size.
fn chart(growth: &Growth, sizes: &[Measured]) -> String {
    const LEFT: f64 = 50.0;
    const TOP: f64 = 40.0;
    const WIDTH: f64 = 330.0;
    const HEIGHT: f64 = 200.0;
    let ratio = |index: usize, size: usize| {
        cpu(&sizes[size].costs[index]) / cpu(&sizes[0].costs[index]).max(f64::MIN_POSITIVE)
    };
    let all = (0..ops::ALL.len()).flat_map(|op| (0..sizes.len()).map(move |size| (op, size)));
    let most = all.map(|(op, size)| ratio(op, size)).fold(2.0, f64::max);
    let x = |size: usize| LEFT + WIDTH * size as f64 / (sizes.len() - 1).max(1) as f64;
    let y = |ratio: f64| TOP + HEIGHT * (1.0 - ratio / most);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"290\" viewBox=\"0 0 720 290\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"720\" height=\"290\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-weight=\"bold\">{}: CPU time of an operation beside the smallest (flat is 1)</text>\n",
        growth.about
    );
    for step in [0.0, 1.0, most] {
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {y:.1}h{WIDTH}\" stroke=\"#ccc\"/><text x=\"{x}\" y=\"{ty:.1}\" text-anchor=\"end\">{step}</text>",
            y = y(step),
            x = LEFT - 6.0,
            ty = y(step) + 4.0,
            step = short(step)
        );
    }
    for (size, measured) in sizes.iter().enumerate() {
        let (x, y, label) = (x(size), TOP + HEIGHT + 20.0, &measured.label);
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>");
    }
    for (index, (op, colour)) in ops::ALL.iter().zip(COLOURS).enumerate() {
        let points: Vec<String> = (0..sizes.len())
            .map(|size| format!("{:.1},{:.1}", x(size), y(ratio(index, size))))
            .collect();
        let (points, ty) = (points.join(" "), 70.0 + 24.0 * index as f64);
        let _ = writeln!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"410\" y=\"{ty}\" fill=\"{colour}\">{}</text>",
            op.about
        );
    }
    out + "</svg>\n"
}

/// What a table is of.
pub fn origin(page: &Page, place: &Place, growth: &Growth, rounds: usize) -> String {
    let (kind, most) = (&place.kind, idle_max());
    let is_less = most < IDLE && growth.sizes.iter().any(|size| size.idle > most);
    let less = if is_less {
        format!(
            "; no more than {} idle members, since no process may open more files here",
            thousands(most as f64)
        )
    } else {
        String::new()
    };
    page.origin(&format!("on {kind}; rounds: {rounds}; **1 operation in flight**{less}"))
}

/// Writes the table into the document's section, and its chart into the folder beside it.
pub fn write(path: &Path, growth: &Growth, sizes: &[Measured], origin: &str) -> Result<()> {
    let name = growth.name.to_owned();
    let chart = page::chart(path, &format!("growth-{name}"), growth.about, &chart(growth, sizes))?;
    let text = format!("{}\n{chart}\n", markdown(growth, sizes, origin));
    page::write(path, "growth", ABOUT, &names(), &[page::Table { name, text }])
}
