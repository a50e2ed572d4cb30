//! Messages in their frames: a flag that says whether it is compressed, its length, and itself.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Length of a frame's head: the flag and the length of the message.
pub const HEAD: usize = 5;

/// Most bytes of a message that is looked into: BuildKit takes and gives no larger one
/// (`DefaultMaxRecvMsgSize`), and what is larger need not be read to be refused in its words.
pub const MAX_MESSAGE: usize = 16 << 20;

/// A frame that is not looked into, or cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Compressed, which we never offer.
    #[error("the message is compressed, which was not agreed on")]
    Compressed,
    /// More than the bound that holds for it. (The words are those of gRPC in Go.)
    #[error("received message larger than max ({length} vs. {most})")]
    TooLarge {
        /// How many.
        length: usize,
        /// The bound.
        most: usize,
    },
}

/// The head of a message of so many bytes.
///
/// # Errors
/// When no frame can hold it.
pub fn head(length: usize) -> Result<[u8; HEAD], FrameError> {
    const MOST: usize = u32::MAX as usize;
    let [a, b, c, d] = u32::try_from(length)
        .map_err(|_| FrameError::TooLarge { length, most: MOST })?
        .to_be_bytes();
    Ok([0, a, b, c, d])
}

/// A message in its frame.
///
/// # Errors
/// When no frame can hold it.
pub fn put(message: &[u8]) -> Result<Bytes, FrameError> {
    let mut framed = BytesMut::with_capacity(HEAD + message.len());
    framed.put_slice(&head(message.len())?);
    framed.put_slice(message);
    Ok(framed.freeze())
}

/// Takes the next message out; `None` where it is not whole yet. One of more than `most` bytes is
/// refused by its head alone.
///
/// # Errors
/// When it is compressed or too large.
pub fn take(buffer: &mut BytesMut, most: usize) -> Result<Option<Bytes>, FrameError> {
    let Some([flag, length @ ..]) = buffer.first_chunk::<HEAD>().copied() else { return Ok(None) };
    if flag != 0 {
        return Err(FrameError::Compressed);
    }
    let length = length_of(length);
    if length > most {
        return Err(FrameError::TooLarge { length, most });
    }
    if buffer.len() - HEAD < length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// How long the message is whose frame begins here, where its head is whole.
pub fn announced(buffer: &[u8]) -> Option<usize> {
    buffer.first_chunk::<HEAD>().map(|[_, length @ ..]| length_of(*length))
}

/// How many bytes of `buffer` are whole frames, whatever is in them.
pub fn whole(buffer: &[u8]) -> usize {
    let mut end = 0_usize;
    while let Some([_, length @ ..]) =
        buffer.get(end..).and_then(|rest| rest.first_chunk::<HEAD>().copied())
    {
        match end.checked_add(HEAD).and_then(|it| it.checked_add(length_of(length))) {
            Some(next) if next <= buffer.len() => end = next,
            Some(_) | None => break,
        }
    }
    end
}

fn length_of(octets: [u8; 4]) -> usize {
    // Where it does not fit, it is more than any bound.
    usize::try_from(u32::from_be_bytes(octets)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], wanted: Result<Option<&[u8]>, FrameError>) {
        let got = take(&mut BytesMut::from(bytes), 3);
        assert_eq!(got, wanted.map(|it| it.map(Bytes::copy_from_slice)), "{bytes:?}");
    }

    #[test]
    fn whole_messages_within_the_bound_are_taken() {
        check(b"", Ok(None));
        check(b"\0\0\0\0", Ok(None));
        check(b"\0\0\0\0\0", Ok(Some(b"")));
        check(b"\0\0\0\0\x02ab", Ok(Some(b"ab")));
        check(b"\0\0\0\0\x02abc", Ok(Some(b"ab")));
        check(b"\0\0\0\0\x02a", Ok(None));
        check(b"\x01\0\0\0\x02ab", Err(FrameError::Compressed));
        check(b"\0\0\0\0\x04", Err(FrameError::TooLarge { length: 4, most: 3 }));
        check(b"\0\xff\xff\xff\xff", Err(FrameError::TooLarge { length: 0xffff_ffff, most: 3 }));
        let mut two = BytesMut::from(&b"\0\0\0\0\x01a\0\0\0\0\x01b\0"[..]);
        assert_eq!(take(&mut two, 3), Ok(Some(Bytes::from_static(b"a"))));
        assert_eq!(take(&mut two, 3), Ok(Some(Bytes::from_static(b"b"))));
        assert_eq!((take(&mut two, 3), &two[..]), (Ok(None), &b"\0"[..]));
    }

    #[test]
    fn a_length_is_announced_by_the_head() {
        assert_eq!(announced(b"\0\0\0\0"), None);
        assert_eq!(announced(b"\0\0\0\x01\x02abc"), Some(258));
    }

    #[test]
    fn frames_are_counted_as_they_are() {
        for (bytes, wanted) in [
            (&b""[..], 0),
            (b"\0\0\0\0", 0),
            (b"\0\0\0\0\x01a", 6),
            (b"\x01\0\0\0\x01a\0\0\0\0\0\0", 11),
            (b"\0\0\0\0\x01a\0\0\0\0\x01", 6),
            (b"\0\xff\xff\xff\xffa", 0),
        ] {
            assert_eq!(whole(bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_put_can_be_taken() {
        let framed = put(b"abc").unwrap();
        assert_eq!(take(&mut BytesMut::from(&framed[..]), 3), Ok(Some(Bytes::from_static(b"abc"))));
        assert_eq!(put(b"").unwrap(), &b"\0\0\0\0\0"[..]);
        let length = u32::MAX as usize + 1;
        assert_eq!(head(length), Err(FrameError::TooLarge { length, most: length - 1 }));
    }
}
