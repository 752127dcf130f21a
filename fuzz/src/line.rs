//! The line door: any bytes are split and read, and whatever is written for a line client is one clean line.

use bytes::{Bytes, BytesMut};
use tertulia_wire::file::{FileBody, HASH_BYTES};
use tertulia_wire::line::{self, Command, LINE_BYTES_MAX, Line, LineSplitter};
use tertulia_wire::safe::is_clean;

use crate::input::Input;

/// First pieces of what comes from a socket, then what the door would write of it.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let piece = usize::from(input.u8()) + 1;
    let bytes = input.rest();
    let lines = split(bytes, piece);
    assert_eq!(lines, split(bytes, bytes.len().max(1)), "the pieces do not matter");
    for line in &lines {
        match line {
            Line::Whole(line) => read(line),
            Line::TooLong => check(|out| line::err(out, &line::Refusal::too_long())),
        }
    }
    write(bytes);
}

fn split(bytes: &[u8], piece: usize) -> Vec<Line> {
    let (mut splitter, mut buffer, mut lines) =
        (LineSplitter::default(), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Some(line) = splitter.next(&mut buffer) {
            lines.push(line);
        }
        assert!(buffer.len() <= LINE_BYTES_MAX + 1, "memory is bounded");
    }
    lines
}

fn read(bytes: &Bytes) {
    assert!(bytes.len() <= LINE_BYTES_MAX && !bytes.contains(&b'\n'));
    match line::parse(bytes) {
        Ok(
            Command::Msg(text) | Command::Pass(text) | Command::Token(text) | Command::Ping(text),
        ) => {
            assert!(is_clean(text));
            check(|out| line::ping(out, text));
        }
        Ok(Command::Join { name, group, .. }) => {
            check(|out| line::ok_join(out, name.as_str(), group.as_str(), 1, 2));
        }
        Ok(_) => {}
        Err(refusal) => check(|out| line::err(out, &refusal)),
    }
}

/// Everything that the door writes, with names and texts that nobody has looked at.
fn write(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (seq, name) = (input.number(), input.text());
    let names: Vec<String> = (0..input.u8()).map(|_| input.text()).collect();
    let all = || names.iter().map(String::as_str);
    let text = input.rest();
    check(|out| line::msg(out, seq, &name, text));
    check(|out| line::old(out, seq, &name, text));
    check(|out| line::ok_join(out, &name, &name, seq, u32::MAX));
    check(|out| line::joined(out, seq, &name));
    check(|out| line::ack(out, seq, 1, u32::MAX, all()));
    check(|out| line::who(out, all()));
    check(|out| line::groups(out, all()));
    check(|out| line::note(out, &String::from_utf8_lossy(text)));
    let file = FileBody {
        size: seq,
        hash: [7; HASH_BYTES],
        name: String::from_utf8_lossy(text).into_owned(),
    };
    check(|out| line::told_file(out, seq, &name, &file));
}

/// What is written is one or more whole lines, each fit for a terminal and no longer than a line may be.
fn check(write: impl Fn(&mut BytesMut)) {
    let mut out = BytesMut::new();
    write(&mut out);
    let text = std::str::from_utf8(&out).expect("UTF-8");
    assert!(text.ends_with('\n'));
    for line in text.split_terminator('\n') {
        assert!(is_clean(line), "{line:?}");
        assert!(line.len() < LINE_BYTES_MAX);
    }
}
