//! Armour: binary data as base64 lines between `-----BEGIN …-----` and `-----END …-----`
//! (RFC 9580, section 6). Its checksum guards against accidents alone and is passed over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// What stands between `BEGIN` and the dashes.
    pub label: String,
    /// The decoded data.
    pub data: Vec<u8>,
}

/// A text and the blocks in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Armored {
    /// Its blocks, in order.
    pub blocks: Vec<Block>,
    /// Whether there is anything else than blocks and blank space.
    pub stray: bool,
}

/// Reads all blocks of a text.
///
/// # Errors
/// In words, when a block does not end or is no base64.
pub(super) fn read(text: &str) -> Result<Armored, String> {
    let mut armored = Armored::default();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        match line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
            Some(label) => armored.blocks.push(block(label, &mut lines)?),
            None => armored.stray |= !line.is_empty(),
        }
    }
    Ok(armored)
}

fn block<'t>(label: &str, lines: &mut impl Iterator<Item = &'t str>) -> Result<Block, String> {
    let end = format!("-----END {label}-----");
    let mut base64 = String::new();
    for line in lines {
        if line == end {
            if base64.is_empty() {
                return Err(format!("the {label} block is empty"));
            }
            let data = STANDARD
                .decode(&base64)
                .map_err(|error| format!("the {label} block is no base64: {error}"))?;
            return Ok(Block { label: label.to_owned(), data });
        }
        // `Version: …` and its like stand before the data, and no base64 has a colon.
        let is_header = base64.is_empty() && line.contains(':');
        if !is_header && !line.starts_with('=') {
            base64.push_str(line);
        }
    }
    Err(format!("the {label} block does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_between_other_text() {
        let text = "Key of A\n-----BEGIN X-----\nVersion: 1\n\nAAEC\n=abcd\n-----END X-----\n\
                    -----BEGIN Y-----\r\n\r\nAw==\r\n-----END Y-----\r\n";
        let armored = read(text).unwrap();
        let blocks: Vec<_> =
            armored.blocks.iter().map(|it| (it.label.as_str(), it.data.as_slice())).collect();
        assert_eq!(blocks, [("X", &[0, 1, 2][..]), ("Y", &[3][..])]);
        assert!(armored.stray);
        assert!(!read("\n-----BEGIN X-----\nAAEC\n-----END X-----\n\n").unwrap().stray);
    }

    #[test]
    fn broken_blocks_are_errors() {
        for (text, error) in [
            ("-----BEGIN X-----\nAAEC\n", "the X block does not end"),
            ("-----BEGIN X-----\n\n-----END X-----", "the X block is empty"),
            ("-----BEGIN X-----\nAAEC\n-----END Y-----", "the X block does not end"),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text}");
        }
        assert!(read("-----BEGIN X-----\n!!\n-----END X-----").unwrap_err().contains("no base64"));
    }
}
