//! The byte-level alphabet: each byte as one printable character.
//!
//! GPT-2's vocabularies are lists of text, but tokens are bytes. Bytes that are printable in Latin-1 stand for
//! themselves; the others take the characters from U+0100 on, in ascending order. A space is `Ġ`, a newline `Ċ`.

/// Whether a byte stands for itself.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// How many bytes below `byte` do not stand for themselves.
const fn rank(byte: u8) -> u32 {
    let mut below = 0;
    let mut rank = 0;
    while below < byte {
        rank += !is_printable(below) as u32;
        below += 1;
    }
    rank
}

/// The character of `byte`.
pub(crate) fn char_of(byte: u8) -> char {
    if is_printable(byte) { char::from(byte) } else { char::from_u32(0x100 + rank(byte)).unwrap_or_default() }
}

/// The byte of a character, if it is one of the alphabet.
pub(super) fn byte_of(c: char) -> Option<u8> {
    const TABLE: [Option<u8>; 0x200] = {
        let mut table = [None; 0x200];
        let mut byte = 0;
        while byte < 256 {
            let b = byte as u8;
            let code = if is_printable(b) { byte } else { 0x100 + rank(b) as usize };
            table[code] = Some(b);
            byte += 1;
        }
        table
    };
    TABLE.get(c as usize).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!((char_of(b' '), char_of(b'\n'), char_of(b'a'), char_of(0xad)), ('Ġ', 'Ċ', 'a', '\u{143}'));
    }

    #[test]
    fn other_characters_are_no_bytes() {
        for c in [' ', '\n', '\u{144}', '\u{1ff}', '\u{200}', '日'] {
            assert_eq!(byte_of(c), None, "{c:?}");
        }
    }
}
