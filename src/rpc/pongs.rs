//! The answers to pings among the frames that an HTTP/2 connection writes (RFC 9113, 4.1 and 6.7). They
//! stand in no order with other frames, so that they may go later.
//!
//! It reads what our own library writes, and takes nothing apart that it does not understand: from there
//! on, all passes as it is.

use bytes::BytesMut;

/// Length of a frame's head.
const HEAD: usize = 9;
/// What a client writes before its first frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The head of an answer to a ping: eight bytes, a ping, an answer, no stream.
const PONG: [u8; HEAD] = [0, 0, 8, 6, 1, 0, 0, 0, 0];
/// Its length.
const PONG_LENGTH: usize = HEAD + 8;

/// Kinds of frames that hold a block of headers, which others go on with (RFC 9113, 6.2, 6.6 and 6.10).
const BLOCK: [u8; 3] = [1, 5, 9];
/// The flag of the last of them.
const END_HEADERS: u8 = 4;

/// Where the bytes that were written so far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Frames {
    /// Nothing was written.
    #[default]
    Start,
    /// In a frame.
    Within {
        /// So many bytes before its end.
        left: usize,
        /// Whether the next frame goes on with its headers, and no other may come between.
        goes_on: bool,
    },
    /// Nobody knows.
    Lost,
}

/// Behind a frame that stands for itself.
const DONE: Frames = Frames::Within { left: 0, goes_on: false };

impl Frames {
    /// Whether another frame may stand here.
    pub fn between(self) -> bool {
        self == DONE
    }

    /// Puts answers to pings to `pongs` and all else to `rest`. What is in `pongs` goes to `rest` too where
    /// it could not later.
    pub fn sort(&mut self, mut bytes: &[u8], rest: &mut BytesMut, pongs: &mut BytesMut) {
        while !bytes.is_empty() {
            let (next, length) = match *self {
                Self::Start if bytes.starts_with(PREFACE) => (DONE, PREFACE.len()),
                Self::Lost => (Self::Lost, bytes.len()),
                Self::Start | Self::Within { left: 0, .. } => match frame(bytes) {
                    Some((PONG_LENGTH, _))
                        if bytes.starts_with(&PONG) && bytes.len() >= PONG_LENGTH =>
                    {
                        let (pong, after) = bytes.split_at(PONG_LENGTH);
                        pongs.extend_from_slice(pong);
                        (*self, bytes) = (DONE, after);
                        continue;
                    }
                    Some((length, goes_on)) => {
                        let left = length.saturating_sub(bytes.len());
                        (Self::Within { left, goes_on }, length)
                    }
                    None => {
                        rest.extend_from_slice(&std::mem::take(pongs));
                        (Self::Lost, bytes.len())
                    }
                },
                Self::Within { left, goes_on } => {
                    (Self::Within { left: left.saturating_sub(bytes.len()), goes_on }, left)
                }
            };
            let (taken, after) = bytes.split_at(length.min(bytes.len()));
            rest.extend_from_slice(taken);
            (*self, bytes) = (next, after);
        }
    }
}

/// The length of the frame that begins here, its head included, and whether the next goes on with its headers;
/// `None` where its head is not whole.
fn frame(bytes: &[u8]) -> Option<(usize, bool)> {
    let [a, b, c, kind, flags, ..] = *bytes.first_chunk::<HEAD>()?;
    let payload = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    Some((HEAD + payload, BLOCK.contains(&kind) && flags & END_HEADERS == 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of that kind.
    fn other(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, END_HEADERS, 0, 0, 0, 1], payload].concat()
    }

    fn pong(data: u8) -> Vec<u8> {
        [&PONG[..], &[data; 8]].concat()
    }

    /// Writes, what is left of them, what are answers to pings, and whether it was understood.
    fn check(writes: &[&[u8]], rest: &[u8], pongs: &[u8], wanted: Frames) {
        let (mut frames, mut left, mut kept) =
            (Frames::default(), BytesMut::new(), BytesMut::new());
        for bytes in writes {
            frames.sort(bytes, &mut left, &mut kept);
        }
        assert_eq!((&left[..], &kept[..], frames), (rest, pongs, wanted), "{writes:?}");
    }

    #[test]
    fn answers_to_pings_are_told_from_other_frames() {
        let (one, two) = (pong(1), pong(2));
        // One within a payload is none.
        let data = other(0, &one);
        let mut ping = one.clone();
        ping[4] = 0;
        let mut of_stream = one.clone();
        of_stream[8] = 1;
        let done = DONE;
        check(&[], b"", b"", Frames::Start);
        check(&[&one], b"", &one, done);
        check(&[PREFACE, &one], PREFACE, &one, done);
        check(&[&[PREFACE, &data, &one].concat()], &[PREFACE, &data].concat(), &one, done);
        check(&[&one, &data, &two], &data, &[one.clone(), two.clone()].concat(), done);
        check(&[&data[..12], &data[12..], &two], &data, &two, done);
        check(&[&ping, &of_stream], &[ping.clone(), of_stream.clone()].concat(), b"", done);
        check(
            &[&data[..HEAD]],
            &data[..HEAD],
            b"",
            Frames::Within { left: one.len(), goes_on: false },
        );
        // Nothing comes between the frames of one block of headers.
        let mut begins = other(1, b"headers");
        begins[4] = 0;
        let open = Frames::Within { left: 0, goes_on: true };
        check(&[&one, &begins], &begins, &one, open);
        assert!(!open.between() && DONE.between());
        let whole = [begins.clone(), other(9, b"more")].concat();
        check(&[&one, &begins, &other(9, b"more")], &whole, &one, done);
        // Whoever cuts heads is let through as it is.
        check(&[&data[..4], &data[4..], &one], &[&data[..], &one].concat(), b"", Frames::Lost);
        check(&[&one, &data[..4]], &[&one[..], &data[..4]].concat(), b"", Frames::Lost);
        check(&[&one[..12], &one[12..]], &one, b"", done);
    }

    proptest! {
        /// However payloads are cut, the same bytes go out in the same order, but for the answers.
        #[test]
        fn nothing_is_lost(
            frames in prop::collection::vec((0_u8..10, prop::collection::vec(any::<u8>(), 0..40), any::<bool>()), 1..12),
            cut in 0_usize..40,
        ) {
            let (mut rest, mut pongs) = (Vec::new(), Vec::new());
            let (mut sorted, mut got, mut kept) = (Frames::default(), BytesMut::new(), BytesMut::new());
            for (kind, payload, is_pong) in frames {
                let bytes = if is_pong { pong(kind) } else { other(kind, &payload) };
                if is_pong { &mut pongs } else { &mut rest }.extend_from_slice(&bytes);
                let at = if is_pong { bytes.len() } else { HEAD + cut.min(payload.len()) };
                for part in [&bytes[..at], &bytes[at..]] {
                    sorted.sort(part, &mut got, &mut kept);
                }
            }
            prop_assert!(sorted.between());
            prop_assert_eq!((&got[..], &kept[..]), (&rest[..], &pongs[..]));
        }
    }
}
