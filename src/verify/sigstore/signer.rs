//! What a certificate says of who holds it, by the names of Docker's engine
//! (<https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md>).

use sigstore_crypto::CertificateInfo;
use sigstore_verify::types::DerCertificate;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Any, ObjectIdentifier, Utf8StringRef};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::signed::SignerInfo;

/// Fulcio's name for people that have neither an email address nor a URI.
const OTHER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");

/// The attributes that have a short name, in the order that they are written in.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.3", "CN"),
    ("2.5.4.17", "POSTALCODE"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.8", "ST"),
    ("2.5.4.7", "L"),
    ("2.5.4.11", "OU"),
    ("2.5.4.10", "O"),
    ("2.5.4.6", "C"),
];

/// Reads a certificate whose extensions the verifier read already.
///
/// # Errors
/// Says why, when it cannot be read or names nobody.
pub(super) fn signer(der: &DerCertificate, info: &CertificateInfo) -> Result<SignerInfo, String> {
    let certificate = Certificate::from_der(der.as_bytes()).map_err(|error| error.to_string())?;
    let claims = info.ci_claims.clone();
    Ok(SignerInfo {
        certificate_issuer: name(&certificate.tbs_certificate.issuer),
        subject_alternative_name: subject(&certificate)?,
        issuer: info.issuer.clone().unwrap_or_default(),
        build_signer_uri: claims.build_signer_uri.unwrap_or_default(),
        build_signer_digest: claims.build_signer_digest.unwrap_or_default(),
        runner_environment: claims.runner_environment.unwrap_or_default(),
        source_repository_uri: claims.source_repository_uri.unwrap_or_default(),
        source_repository_digest: claims.source_repository_digest.unwrap_or_default(),
        source_repository_ref: claims.source_repository_ref.unwrap_or_default(),
        source_repository_identifier: claims.source_repository_identifier.unwrap_or_default(),
        source_repository_owner_uri: claims.source_repository_owner_uri.unwrap_or_default(),
        source_repository_owner_identifier: claims
            .source_repository_owner_identifier
            .unwrap_or_default(),
        build_config_uri: claims.build_config_uri.unwrap_or_default(),
        build_config_digest: claims.build_config_digest.unwrap_or_default(),
        build_trigger: claims.build_trigger.unwrap_or_default(),
        run_invocation_uri: claims.run_invocation_uri.unwrap_or_default(),
        source_repository_visibility_at_signing: claims
            .source_repository_visibility_at_signing
            .unwrap_or_default(),
    })
}

/// The first URI, else the first email address, else Fulcio's own kind of name.
fn subject(certificate: &Certificate) -> Result<String, String> {
    let names = certificate
        .tbs_certificate
        .get::<SubjectAltName>()
        .map_err(|error| error.to_string())?
        .map(|(_critical, names)| names.0)
        .unwrap_or_default();
    let uri = names.iter().find_map(|name| {
        let GeneralName::UniformResourceIdentifier(uri) = name else { return None };
        Some(uri.to_string())
    });
    let email = || {
        names.iter().find_map(|name| {
            let GeneralName::Rfc822Name(email) = name else { return None };
            Some(email.to_string())
        })
    };
    let other = || {
        names.iter().find_map(|name| {
            let GeneralName::OtherName(other) = name else { return None };
            let der = other.value.to_der().ok().filter(|_| other.type_id == OTHER_NAME)?;
            Some(Utf8StringRef::from_der(&der).ok()?.as_str().to_owned())
        })
    };
    uri.or_else(email)
        .or_else(other)
        .filter(|subject| !subject.is_empty())
        .ok_or_else(|| "it names no subject: neither a URI nor an email address".to_owned())
}

/// A name as Go writes it (RFC 2253), which is how Docker's engine shows and compares it.
fn name(name: &Name) -> String {
    let attributes: Vec<&AttributeTypeAndValue> =
        name.0.iter().flat_map(|relative| relative.0.iter()).collect();
    let mut parts = Vec::new();
    for (oid, short) in ATTRIBUTES {
        let mut values: Vec<String> = attributes
            .iter()
            .filter(|attribute| attribute.oid.to_string() == oid)
            .filter_map(|attribute| text(&attribute.value))
            .map(|value| format!("{short}={}", escape(&value)))
            .collect();
        if matches!(short, "CN" | "SERIALNUMBER") {
            // Of these there is one, and the last counts.
            values.drain(..values.len().saturating_sub(1));
        }
        if !values.is_empty() {
            parts.push(values.join("+"));
        }
    }
    let known = |oid: &str| ATTRIBUTES.iter().any(|(known, _)| *known == oid);
    for attribute in attributes.iter().rev() {
        let oid = attribute.oid.to_string();
        if !known(&oid) {
            let der = attribute.value.to_der().map(hex::encode).unwrap_or_default();
            parts.push(format!("{oid}=#{der}"));
        }
    }
    parts.join(",")
}

/// The text of an attribute: the string types are all read as UTF-8, of which ASCII is a part.
fn text(value: &Any) -> Option<String> {
    std::str::from_utf8(value.value()).ok().map(str::to_owned)
}

fn escape(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(value.len());
    for (index, character) in value.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (character == ' ' && (index == 0 || index == last))
            || (character == '#' && index == 0);
        if special {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
