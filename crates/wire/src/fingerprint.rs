//! A certificate's fingerprint, as people compare it.

use std::fmt;
use std::str::FromStr;

/// What a text form begins with.
const HEAD: &str = "sha256:";

/// The SHA-256 of a certificate as it is sent (DER). Shown as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no [`Fingerprint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a fingerprint: write sha256: and 64 hexadecimal digits")]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    /// Takes what this crate writes, and what `openssl x509 -fingerprint -sha256` and browsers show: capitals, colons between
    /// the bytes, with `sha256:` before them or without.
    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let text = text.trim();
        let digits = match text.get(..HEAD.len()) {
            Some(head) if head.eq_ignore_ascii_case(HEAD) => &text[HEAD.len()..],
            _ => text,
        };
        let mut nibbles = digits.chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            let (high, low) = (nibbles.next().flatten(), nibbles.next().flatten());
            let (high, low) = (high.ok_or(NotAFingerprint)?, low.ok_or(NotAFingerprint)?);
            *byte = u8::try_from(high << 4 | low).map_err(|_| NotAFingerprint)?;
        }
        if nibbles.next().is_some() { Err(NotAFingerprint) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_and_what_others_show_is_read() {
        let print = Fingerprint(std::array::from_fn(|at| at as u8 * 8));
        let text = print.to_string();
        assert!(text.starts_with("sha256:0008101820") && text.len() == 7 + 64, "{text}");
        assert_eq!(text.parse(), Ok(print));
        let digits: Vec<String> = print.0.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(digits.join(":").parse(), Ok(print));
        assert_eq!(format!("SHA256:{}", digits.concat()).parse(), Ok(print));
        for wrong in ["", "sha256:", &text[..70], &format!("{text}0"), &text.replace('8', "g"), "ñ"]
        {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(NotAFingerprint), "{wrong}");
        }
    }
}
