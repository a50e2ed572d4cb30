//! `uuid.parse`: what a UUID says of itself.

use std::collections::BTreeMap;

use regorus::Value;

use super::value::{Fail, Outcome, string};

/// 100-nanosecond intervals between the Gregorian reform and the Unix epoch.
const GREGORIAN_TO_UNIX: i64 = 122_192_928_000_000_000;

/// The 16 bytes of a UUID in one of the four forms that Go's library reads.
fn bytes(text: &str) -> Option<[u8; 16]> {
    let text = match text.len() {
        36 => text,
        45 => text.get(..9).filter(|p| p.eq_ignore_ascii_case("urn:uuid:")).and(text.get(9..))?,
        // Braces, though the library does not look at what they are.
        38 => text.get(1..37)?,
        32 => return hexadecimal(text.to_owned()),
        _ => return None,
    };
    let dashes = [8, 13, 18, 23].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    if dashes { hexadecimal(plain) } else { None }
}

fn hexadecimal(text: String) -> Option<[u8; 16]> {
    hex::decode(text).ok()?.try_into().ok()
}

pub(super) fn parse(args: &[Value]) -> Outcome {
    let uuid = bytes(string(args, 0)?).ok_or(Fail::Undefined)?;
    let whole = u128::from_be_bytes(uuid);
    let version = (whole >> 76) & 0xf;
    let variant = match (whole >> 61) & 0b111 {
        0b100 | 0b101 => "RFC4122",
        0b110 => "Microsoft",
        0b111 => "Future",
        _ => "Reserved",
    };
    let mut fields = BTreeMap::new();
    let mut put = |name: &str, value: Value| fields.insert(Value::from(name), value);
    put("version", Value::from(version));
    put("variant", Value::from(variant));
    if matches!(version, 1 | 2) {
        let (low, middle) = ((whole >> 96) as i64, ((whole >> 80) & 0xffff) as i64);
        let high = ((whole >> 64) & 0xfff) as i64;
        let ticks = (low | (middle << 32) | (high << 48)) - GREGORIAN_TO_UNIX;
        let node: Vec<String> = uuid.iter().skip(10).map(|b| format!("{b:02x}")).collect();
        put("time", Value::from(ticks.wrapping_mul(100)));
        put("nodeid", Value::from(node.join("-")));
        put("macvariables", Value::from(address_kind((whole >> 40) as u8)));
        put("clocksequence", Value::from((whole >> 48) & 0x3fff));
    }
    if version == 2 {
        let domain = match (whole >> 48) as u8 {
            0 => "Person".to_owned(),
            1 => "Group".to_owned(),
            2 => "Org".to_owned(),
            other => format!("Domain{other}"),
        };
        put("id", Value::from(whole >> 96));
        put("domain", Value::from(domain));
    }
    Ok(Value::from(fields))
}

fn address_kind(first: u8) -> &'static str {
    match first & 0b11 {
        0b11 => "local:multicast",
        0b01 => "global:multicast",
        0b10 => "local:unicast",
        _ => "global:unicast",
    }
}
