//! What a git object's signature says of itself: OpenPGP (RFC 9580) and SSH
//! (<https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.sshsig>).
//!
//! Nothing is verified here. What cannot be read is `None`, as in Docker's engine.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::document::{PgpSignature, SshSignature};

/// Most bytes of armour that are read.
const MAX_ARMOUR: usize = 256 << 10;
const SIGNATURE_PACKET: u8 = 2;
const ISSUER: u8 = 16;
const ISSUER_FINGERPRINT: u8 = 33;
/// RSA, RSA for signing, DSA, ECDSA, EdDSA, Ed25519 and Ed448: what can sign.
const PUBLIC_KEY_ALGORITHMS: [u8; 7] = [1, 3, 17, 19, 22, 27, 28];
/// SHA-1, the SHA-2 and the SHA-3 family.
const HASH_ALGORITHMS: [u8; 7] = [2, 8, 9, 10, 11, 12, 14];

/// The first OpenPGP signature of an armoured block.
pub(super) fn pgp(armour: &str) -> Option<PgpSignature> {
    let packets = unarmour(armour, "PGP SIGNATURE")?;
    let mut rest = packets.as_slice();
    loop {
        let (tag, body, after) = packet(rest)?;
        if tag == SIGNATURE_PACKET {
            return signature_packet(body);
        }
        rest = after;
    }
}

/// The SSH signature of an armoured block.
pub(super) fn ssh(armour: &str) -> Option<SshSignature> {
    let blob = unarmour(armour, "SSH SIGNATURE")?;
    let (version, rest) = blob.strip_prefix(b"SSHSIG")?.split_first_chunk::<4>()?;
    let version = u32::from_be_bytes(*version);
    let (key, rest) = ssh_string(rest)?;
    let (_namespace, rest) = ssh_string(rest)?;
    let (_reserved, rest) = ssh_string(rest)?;
    let (hash, rest) = ssh_string(rest)?;
    let (signature, rest) = ssh_string(rest)?;
    let (key_type, _) = ssh_string(key)?;
    let (signature_type, _) = ssh_string(signature)?;
    let readable = version == 1
        && rest.is_empty()
        && matches!(hash, b"sha256" | b"sha512")
        && std::str::from_utf8(key_type).is_ok_and(|name| !name.is_empty())
        && !(key_type == b"ssh-rsa" && signature_type == b"ssh-rsa");
    let public_key = || format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)));
    readable.then(|| SshSignature { version, public_key: public_key() })
}

/// The bytes between `-----BEGIN label-----` and its end. An OpenPGP checksum is passed over: it
/// guards against accidents, and whoever verifies finds those.
fn unarmour(text: &str, label: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_ARMOUR {
        return None;
    }
    let mut lines = text.lines().map(str::trim_end);
    if lines.next()? != format!("-----BEGIN {label}-----") {
        return None;
    }
    let end = format!("-----END {label}-----");
    let mut data = String::with_capacity(text.len());
    let mut ended = false;
    for line in lines {
        if line == end {
            ended = true;
            break;
        }
        // `Version: …` and its like come before the data, and no base64 has a colon.
        let is_header = data.is_empty() && line.contains(": ");
        if !is_header && !line.starts_with('=') {
            data.push_str(line);
        }
    }
    if !ended || data.is_empty() {
        return None;
    }
    STANDARD.decode(data).ok()
}

/// The first packet: its type, its body, and what follows it.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first()?;
    let (tag, (length, rest)) = match head >> 6 {
        0b11 => (head & 0x3f, new_length(rest)?),
        0b10 => (head >> 2 & 0x0f, old_length(head & 3, rest)?),
        _ => return None,
    };
    let (body, rest) = rest.split_at_checked(length)?;
    Some((tag, body, rest))
}

/// The length of a packet of today's format. Signatures have no partial lengths.
fn new_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes.first()? {
        224..=254 => None,
        _ => subpacket_length(bytes),
    }
}

/// The length of a packet of the old format.
fn old_length(kind: u8, bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (octets, rest) = match kind {
        0 => bytes.split_at_checked(1)?,
        1 => bytes.split_at_checked(2)?,
        2 => bytes.split_at_checked(4)?,
        _ => return Some((bytes.len(), bytes)),
    };
    Some((big_endian(octets)?, rest))
}

fn subpacket_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [first @ 0..=191, rest @ ..] => Some((usize::from(*first), rest)),
        [255, a, b, c, d, rest @ ..] => Some((big_endian(&[*a, *b, *c, *d])?, rest)),
        [255, ..] => None,
        [first, second, rest @ ..] => {
            Some(((usize::from(*first) - 192) * 256 + usize::from(*second) + 192, rest))
        }
        _ => None,
    }
}

fn big_endian(octets: &[u8]) -> Option<usize> {
    octets
        .iter()
        .try_fold(0_usize, |value, octet| value.checked_mul(256)?.checked_add(usize::from(*octet)))
}

fn signature_packet(body: &[u8]) -> Option<PgpSignature> {
    let (&[version, _kind, algorithm, hash], rest) = body.split_first_chunk::<4>()?;
    if !PUBLIC_KEY_ALGORITHMS.contains(&algorithm) || !HASH_ALGORITHMS.contains(&hash) {
        return None;
    }
    let octets = match version {
        4 => 2,
        6 => 4,
        _ => return None,
    };
    let mut key_id = None;
    let mut rest = rest;
    // The hashed subpackets, then those that are not.
    for _ in 0..2 {
        let (length, after) = rest.split_at_checked(octets)?;
        let (subpackets, after) = after.split_at_checked(big_endian(length)?)?;
        key_id = issuer(version, subpackets)?.or(key_id);
        rest = after;
    }
    Some(PgpSignature { version, key_id: key_id.unwrap_or_default() })
}

/// The key id that subpackets name last; the outer `None` where they cannot be read.
fn issuer(version: u8, mut subpackets: &[u8]) -> Option<Option<String>> {
    let mut key_id = None;
    while !subpackets.is_empty() {
        let (length, rest) = subpacket_length(subpackets)?;
        let (subpacket, rest) = rest.split_at_checked(length)?;
        let (kind, content) = subpacket.split_first()?;
        match (kind & 0x7f, content) {
            (ISSUER, id) if id.len() != 8 => return None,
            (ISSUER, id) if version == 4 => key_id = Some(hex::encode(id)),
            (ISSUER_FINGERPRINT, [0..=4, fingerprint @ ..]) if fingerprint.len() == 20 => {
                key_id = fingerprint.get(12..).map(hex::encode);
            }
            (ISSUER_FINGERPRINT, [5..=u8::MAX, fingerprint @ ..]) if fingerprint.len() == 32 => {
                key_id = fingerprint.get(..8).map(hex::encode);
            }
            (ISSUER_FINGERPRINT, _) => return None,
            _ => {}
        }
        subpackets = rest;
    }
    Some(key_id)
}

/// A string of the SSH wire format, and what follows it.
fn ssh_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
