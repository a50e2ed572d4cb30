//! RFC 3161 timestamps, byte by byte.

use x509_cert::der::{Decode as _, Encode as _};

use super::{Leaf, sha256, sign};

/// A sequence of id-kp-timeStamping alone.
pub const TIME_STAMPING: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// Tag, length, value.
pub fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match value.len() {
        length @ 0..=0x7f => out.push(u8::try_from(length).unwrap()),
        length => {
            let octets: Vec<u8> =
                length.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect();
            out.push(0x80 | u8::try_from(octets.len()).unwrap());
            out.extend(octets);
        }
    }
    out.extend(value);
    out
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn oid(value: &[u8]) -> Vec<u8> {
    tlv(0x06, value)
}

fn algorithm(value: &[u8]) -> Vec<u8> {
    sequence(&[&oid(value)])
}

fn attribute(name: &[u8], value: &[u8]) -> Vec<u8> {
    sequence(&[&oid(name), &tlv(0x31, value)])
}

/// The answer of a timestamp authority about something by its SHA-256.
pub fn timestamp(authority: &Leaf, imprint: &[u8; 32], at: i64) -> Vec<u8> {
    let time = jiff::Timestamp::from_second(at).unwrap().strftime("%Y%m%d%H%M%SZ").to_string();
    let imprint = sequence(&[&algorithm(SHA256), &tlv(0x04, imprint)]);
    let info = sequence(&[
        &tlv(0x02, &[1]),
        // A policy, a serial number, the time.
        &oid(&[0x2a, 0x03, 0x04]),
        &imprint,
        &tlv(0x02, &[1]),
        &tlv(0x18, time.as_bytes()),
    ]);
    let mut attributes = [
        attribute(CONTENT_TYPE, &oid(TST_INFO)),
        attribute(MESSAGE_DIGEST, &tlv(0x04, &sha256(&info))),
    ];
    attributes.sort();
    let attributes = attributes.concat();
    let signature = sign(&authority.key, &tlv(0x31, &attributes));

    let certificate = x509_cert::Certificate::from_der(&authority.certificate).unwrap();
    let signer = sequence(&[
        &certificate.tbs_certificate.issuer.to_der().unwrap(),
        &certificate.tbs_certificate.serial_number.to_der().unwrap(),
    ]);
    let signer_info = sequence(&[
        &tlv(0x02, &[1]),
        &signer,
        &algorithm(SHA256),
        &tlv(0xa0, &attributes),
        &algorithm(ECDSA_SHA256),
        &tlv(0x04, &signature),
    ]);
    let signed = sequence(&[
        &tlv(0x02, &[3]),
        &tlv(0x31, &algorithm(SHA256)),
        &sequence(&[&oid(TST_INFO), &tlv(0xa0, &tlv(0x04, &info))]),
        &tlv(0xa0, &authority.certificate),
        &tlv(0x31, &signer_info),
    ]);
    let token = sequence(&[&oid(SIGNED_DATA), &tlv(0xa0, &signed)]);
    sequence(&[&sequence(&[&tlv(0x02, &[0])]), &token])
}
