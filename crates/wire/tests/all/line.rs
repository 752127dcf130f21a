//! The line door's language: what is read, what is refused, what is written.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

use tertulia_group::{Kind, LeaveReason, Name};
use tertulia_wire::file::FileBody;
use tertulia_wire::line::{
    self, Command, HISTORY_DEFAULT, LINE_BYTES_MAX, Line, LineCode, LineSplitter, Refusal, parse,
};
use tertulia_wire::safe::{is_clean, is_unsafe, make_safe, make_safe_bytes};

use crate::samples;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[test]
fn commands_are_read() {
    let join = |who: &str, group: &str, after| Command::Join {
        name: name(who),
        group: name(group),
        after,
    };
    let cases = [
        ("JOIN ana", join("ana", "lobby", None)),
        ("join ana ops", join("ana", "ops", None)),
        ("Join  ana  ops  17 ", join("ana", "ops", Some(17))),
        ("JOIN", Command::AskName),
        ("JOIN ", Command::AskName),
        ("MSG hola", Command::Msg("hola")),
        ("msg  two  spaces ", Command::Msg(" two  spaces ")),
        ("MSG ¿qué tal? 👩‍👩‍👧", Command::Msg("¿qué tal? 👩‍👩‍👧")),
        ("ACK 42", Command::Ack(42)),
        ("WHO", Command::Who),
        ("groups ", Command::Groups),
        ("HISTORY", Command::History(HISTORY_DEFAULT)),
        ("HISTORY 5", Command::History(5)),
        ("HISTORY 99999999999", Command::History(u32::MAX)),
        ("PASS my secret ", Command::Pass("my secret ")),
        ("TOKEN abc ", Command::Token("abc")),
        ("PING", Command::Ping("")),
        ("PING 1 2", Command::Ping("1 2")),
        ("HELP", Command::Help),
        ("exit", Command::Exit),
    ];
    for (said, command) in cases {
        assert_eq!(parse(said.as_bytes()), Ok(command), "{said:?}");
    }
}

#[test]
fn everything_else_is_refused_with_its_code() {
    let cases: &[(&[u8], LineCode)] = &[
        (b"", LineCode::BadCommand),
        (b"GET / HTTP/1.1", LineCode::BadCommand),
        (b" MSG hola", LineCode::BadCommand),
        (b"MSG", LineCode::BadCommand),
        (b"MSG ", LineCode::BadCommand),
        (b"ACK", LineCode::BadCommand),
        (b"ACK -1", LineCode::BadCommand),
        (b"ACK +1", LineCode::BadCommand),
        (b"ACK 99999999999999999999", LineCode::BadCommand),
        (b"WHO ops", LineCode::BadCommand),
        (b"EXIT now", LineCode::BadCommand),
        (b"HISTORY x", LineCode::BadCommand),
        (b"PASS", LineCode::BadCommand),
        (b"TOKEN  ", LineCode::BadCommand),
        (b"JOIN ana ops x", LineCode::BadCommand),
        (b"JOIN ana ops 1 2", LineCode::BadCommand),
        (b"JOIN ~ana", LineCode::BadName),
        (b"JOIN ana o/ps", LineCode::BadName),
        (b"MSG \xff", LineCode::BadText),
        (b"MSG a\tb", LineCode::BadText),
        (b"MSG \x1b[2J", LineCode::BadText),
        (b"MSG a\rb", LineCode::BadText),
        (b"MSG \x7f", LineCode::BadText),
        ("MSG \u{9b}2J".as_bytes(), LineCode::BadText),
        ("MSG \u{202e}x".as_bytes(), LineCode::BadText),
        ("MSG \u{2066}x".as_bytes(), LineCode::BadText),
        ("MSG \u{200f}x".as_bytes(), LineCode::BadText),
        ("MSG a\u{2028}b".as_bytes(), LineCode::BadText),
    ];
    for (said, code) in cases {
        let refusal = parse(said).expect_err(&String::from_utf8_lossy(said));
        assert_eq!(refusal.code, *code, "{}", String::from_utf8_lossy(said));
        assert!(!refusal.hint.is_empty() && is_clean(&refusal.hint));
    }
}

/// Feeds `input` in pieces and collects what comes out.
fn split(input: &[u8], piece: usize) -> Vec<Line> {
    let (mut splitter, mut buffer, mut lines) =
        (LineSplitter::default(), BytesMut::new(), Vec::new());
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Some(line) = splitter.next(&mut buffer) {
            lines.push(line);
        }
        assert!(buffer.len() <= LINE_BYTES_MAX + 1, "memory is bounded");
    }
    lines
}

#[test]
fn lines_are_split_and_long_ones_told_once() {
    let whole = |text: &[u8]| Line::Whole(text.to_vec().into());
    let fits = vec![b'a'; LINE_BYTES_MAX];
    let long = vec![b'b'; LINE_BYTES_MAX + 1];
    let endless = vec![b'c'; 5 * LINE_BYTES_MAX];
    let input =
        [&b"one\ntwo\r\n\n"[..], &fits, b"\r\n", &long, b"\n", &endless, b"\nend\nrest"].concat();
    let expected = [
        whole(b"one"),
        whole(b"two"),
        whole(b""),
        whole(&fits),
        Line::TooLong,
        Line::TooLong,
        whole(b"end"),
    ];
    for piece in [1, 7, 4096, LINE_BYTES_MAX + 1, input.len()] {
        assert_eq!(split(&input, piece), expected, "in pieces of {piece}");
    }
}

proptest! {
    #[test]
    fn no_line_does_harm(line in vec(any::<u8>(), 0..200)) {
        let _ = parse(&line);
    }

    #[test]
    fn no_words_do_harm(verb in "(?i)(join|msg|ack|who|history|pass|token|ping)", rest in ".{0,60}") {
        let _ = parse(format!("{verb} {rest}").as_bytes());
    }

    #[test]
    fn pieces_do_not_matter(input in vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300), piece in 1..50usize) {
        prop_assert_eq!(split(&input, piece), split(&input, 1));
    }

    /// Whatever the text, one clean line of bounded length goes out.
    #[test]
    fn only_clean_lines_go_out(text in vec(any::<u8>(), 0..400), name in ".{0,40}") {
        let shown = String::from_utf8_lossy(&text);
        check_line(|out| line::msg(out, 1, &name, &text));
        check_line(|out| line::old(out, 1, &name, shown.as_bytes()));
        check_line(|out| line::ping(out, &shown));
        check_line(|out| line::note(out, &shown));
        check_line(|out| line::joined(out, 1, &name));
        check_line(|out| line::ack(out, 1, 0, 2, [&*name, &*shown]));
        check_line(|out| line::err(out, &Refusal::new(LineCode::Busy, shown.clone())));
        let file = FileBody { size: 1, hash: [0; 32], name: shown.to_string() };
        check_line(|out| line::told_file(out, 1, &name, &file));
    }

    #[test]
    fn safe_text_is_safe(text in ".{0,80}", bytes in vec(any::<u8>(), 0..80), max in 0..100usize) {
        for safe in [make_safe(&text, max).into_owned(), make_safe_bytes(&bytes, max)] {
            prop_assert!(safe.len() <= max, "{safe:?}");
            prop_assert!(!safe.chars().any(is_unsafe));
        }
    }
}

fn written(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn check_line(write: impl FnOnce(&mut BytesMut)) {
    let text = written(write);
    assert!(text.len() <= LINE_BYTES_MAX, "{} bytes", text.len());
    assert!(text.strip_suffix('\n').is_some_and(is_clean), "{text:?}");
}

#[test]
fn answers_have_their_form() {
    let cases = [
        (written(|out| line::ok_join(out, "ana", "ops", 42, 5)), "OK JOIN ana ops 42 5\n"),
        (written(|out| line::ok_msg(out, 43)), "OK MSG 43\n"),
        (written(|out| line::joined(out, 1, "ana")), "JOINED 1 ana\n"),
        (written(|out| line::left(out, 2, "ana", LeaveReason::Lost)), "LEFT 2 ana lost\n"),
        (written(|out| line::msg(out, 3, "~ci", b"done: 1")), "MSG 3 ~ci done: 1\n"),
        (written(|out| line::old(out, 3, "ana", "así".as_bytes())), "OLD 3 ana así\n"),
        (written(|out| line::msg(out, 4, "ana", b"a\nb\x1b")), "DATA 4 ana 4 a·b\u{fffd}\n"),
        (written(|out| line::old(out, 4, "ana", b"\xff\x00")), "DATA 4 ana 2 \u{fffd}\u{fffd}\n"),
        (written(|out| line::ack(out, 5, 5, 5, [])), "ACK 5 5/5\n"),
        (written(|out| line::ack(out, 5, 3, 5, ["a", "b"])), "ACK 5 3/5 missing=a,b\n"),
        (written(|out| line::gap(out, 1, 9)), "GAP 1 9\n"),
        (written(|out| line::reset(out, 1)), "RESET 1\n"),
        (written(|out| line::who(out, ["ana", "luis"])), "OK WHO ana luis\n"),
        (written(|out| line::who(out, [])), "OK WHO\n"),
        (written(|out| line::groups(out, ["1", "ops"])), "OK GROUPS 1 ops\n"),
        (written(|out| line::history_end(out, 2)), "OK HISTORY 2\n"),
        (written(|out| line::ping(out, "")), "OK PING\n"),
        (written(|out| line::ping(out, "7")), "OK PING 7\n"),
        (written(line::ok_pass), "OK PASS\n"),
        (written(line::exit), "OK EXIT\n"),
        (written(|out| line::note(out, "your name?")), "* your name?\n"),
        (
            written(|out| line::err(out, &Refusal::too_long())),
            "ERR TOO_LONG a line has at most 8 KiB, shorten it\n",
        ),
    ];
    for (written, expected) in cases {
        assert_eq!(written, expected);
    }
    let help = written(line::help);
    assert!(help.ends_with("OK HELP\n"));
    assert!(help.lines().rev().skip(1).all(|line| line.starts_with("* ")));
}

#[test]
fn entries_have_their_line() {
    let file = format!("FILE 4 ana 1536 {} my plan.pdf\n", "ab".repeat(32));
    let cases = [
        (samples::message(1, "ana", "hola"), "OLD 1 ana hola\n"),
        (samples::outside(2, "ci", b"done"), "OLD 2 ~ci done\n"),
        (samples::joined(3, "ana"), "JOINED 3 ana\n"),
        (samples::left(3, "ana", LeaveReason::Exit), "LEFT 3 ana exit\n"),
        (samples::file(4, "ana", "my plan.pdf"), &file),
        (samples::entry(Kind::Epoch, 5, 0, "", b""), ""),
        (samples::entry(Kind::File, 6, 0, "ana", b"short"), ""),
    ];
    for (entry, expected) in cases {
        let mut out = BytesMut::new();
        assert_eq!(line::entry(&mut out, &entry, true), !expected.is_empty());
        assert_eq!(out, expected.as_bytes());
    }
}

#[test]
fn what_does_not_fit_a_line_is_told_otherwise() {
    let text = "x".repeat(LINE_BYTES_MAX - "MSG 1 ana \n".len());
    assert_eq!(
        written(|out| line::msg(out, 1, "ana", text.as_bytes())),
        format!("MSG 1 ana {text}\n")
    );
    let data = written(|out| line::msg(out, 10, "ana", text.as_bytes()));
    assert!(data.starts_with(&format!("DATA 10 ana {} xxx", text.len())) && data.ends_with("x…\n"));

    let names: Vec<String> = (0..1000).map(|i| format!("{i:032}")).collect();
    let who = written(|out| line::who(out, names.iter().map(String::as_str)));
    let lines: Vec<&str> = who.lines().collect();
    let (last, before) = lines.split_last().unwrap();
    assert_eq!(*last, "OK WHO");
    assert!(lines.iter().all(|line| line.len() < LINE_BYTES_MAX));
    let told: Vec<&str> =
        before.iter().flat_map(|line| line.strip_prefix("* WHO ").unwrap().split(' ')).collect();
    assert_eq!(told, names);

    let ack = written(|out| line::ack(out, 1, 0, 1000, names.iter().map(String::as_str)));
    let (list, more) = ack.trim_end().rsplit_once(",+").unwrap();
    let more: usize = more.parse().unwrap();
    assert_eq!(list.matches(',').count() + 1 + more, 1000);
    assert!(ack.len() <= LINE_BYTES_MAX);
}
