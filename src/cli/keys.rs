//! Writes keys as people want to read them.

use clap::ValueEnum;
use schemas::{Key, KeySpan};

/// How keys are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum KeyFormat {
    /// Printable keys as they are, others in hexadecimal
    #[default]
    Auto,
    /// As text; what is none is escaped
    Utf8,
    Hex,
    Base64,
}

impl KeyFormat {
    /// Writes a key; the empty one, which is either end of the key space, is `-`.
    pub fn key(self, key: &Key) -> String {
        if key.0.is_empty() { "-".into() } else { self.bytes(&key.0) }
    }

    pub fn span(self, start: &Key, end: &Key) -> String {
        match self {
            Self::Auto => KeySpan { start: start.clone(), end: end.clone() }.to_string(),
            Self::Utf8 | Self::Hex | Self::Base64 => {
                format!("[{}, {})", self.key(start), self.key(end))
            }
        }
    }

    pub fn bytes(self, bytes: &[u8]) -> String {
        match self {
            Self::Auto if bytes.is_empty() => String::new(),
            Self::Auto => Key(bytes.to_vec()).to_string(),
            Self::Utf8 => escaped(bytes),
            Self::Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            Self::Base64 => base64(bytes),
        }
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut res = String::new();
    for chunk in bytes.utf8_chunks() {
        for it in chunk.valid().chars() {
            if it.is_control() || it == '\\' {
                res.extend(it.escape_default())
            } else {
                res.push(it)
            }
        }
        for byte in chunk.invalid() {
            res.push_str(&format!("\\x{byte:02x}"));
        }
    }
    res
}

/// The alphabet of RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut res = String::new();
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
            res.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    res
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_four_forms() {
        let check = |key: &[u8], forms: [&str; 4]| {
            let key = Key(key.to_vec());
            let formats = [KeyFormat::Auto, KeyFormat::Utf8, KeyFormat::Hex, KeyFormat::Base64];
            assert_eq!(formats.map(|it| it.key(&key)), forms);
        };
        check(b"", ["-"; 4]);
        check(b"f", ["f", "f", "66", "Zg=="]);
        check(b"fo", ["fo", "fo", "666f", "Zm8="]);
        check(b"foo", ["foo", "foo", "666f6f", "Zm9v"]);
        check(b"foob", ["foob", "foob", "666f6f62", "Zm9vYg=="]);
        check(&[0xff, b'a', 0, b'\\'], ["0xff61005c", "\\xffa\\u{0}\\\\", "ff61005c", "/2EAXA=="]);
    }
}
