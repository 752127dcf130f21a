//! The one place that decides which text may be shown: nothing foreign may steer a terminal or turn a line around.

use std::borrow::Cow;

/// Whether a character could steer a terminal, break a line or change the direction of what follows it.
pub const fn is_unsafe(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Whether a text can be shown as it is, on one line.
pub fn is_clean(text: &str) -> bool {
    // Bytes below are all ASCII that is safe: most texts end here.
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.chars().any(is_unsafe)
}

/// A text as it may be shown on one line: tabs become spaces, line ends `·`, everything else that is unsafe U+FFFD; longer
/// than `bytes_max` bytes, it is cut at a character and ends in `…` (within the limit, where that leaves room for it).
pub fn make_safe(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max && is_clean(text) {
        return Cow::Borrowed(text);
    }
    const MORE: char = '…';
    let mut safe = String::with_capacity(text.len().min(bytes_max));
    // Where to cut if the text turns out too long.
    let mut end = 0;
    for c in text.chars() {
        let c = match c {
            '\t' => ' ',
            '\n' | '\r' | '\u{2028}' | '\u{2029}' => '·',
            c if is_unsafe(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        if safe.len() + c.len_utf8() > bytes_max {
            safe.truncate(end);
            if end + MORE.len_utf8() <= bytes_max {
                safe.push(MORE);
            }
            break;
        }
        safe.push(c);
        if safe.len() + MORE.len_utf8() <= bytes_max {
            end = safe.len();
        }
    }
    Cow::Owned(safe)
}

/// The same for bytes that may not be UTF-8.
pub fn make_safe_bytes(bytes: &[u8], bytes_max: usize) -> String {
    // Lossy decoding can only lengthen: more bytes than these cannot be shown anyway.
    let shown = &bytes[..bytes.len().min(bytes_max.saturating_add(4))];
    match std::str::from_utf8(bytes) {
        Ok(text) => make_safe(text, bytes_max).into_owned(),
        Err(_) => make_safe(&String::from_utf8_lossy(shown), bytes_max).into_owned(),
    }
}

/// The beginning of a text, at most `bytes_max` bytes, cut at a character.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
