//! What an OpenPGP certificate says of itself: statements that permit, which must use SHA-2 and be in
//! force, and those that restrict, which count whatever their hash.

use std::cmp::Reverse;

use pgp::composed::SignedPublicSubKey;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails as _, KeyVersion};

use super::super::clock::Clock;
use super::super::error::{Invalid, NotVerified};
use super::certificate::Component;
use super::critical::not_understood;
use super::is_strong;

impl<'k> Component<'k> {
    /// What the primary key says of itself: the newest statement that counts.
    pub fn own_statement(&self, clock: &Clock) -> Result<&'k Signature, NotVerified> {
        let key = &self.certificate.primary_key;
        let details = &self.certificate.details;
        let direct = newest(details.direct_signatures.iter(), clock, |signature| {
            signature.typ() == Some(SignatureType::Key) && signature.verify_key(key).is_ok()
        });
        let by_user = details.users.iter().filter_map(|user| {
            let is_own = |signature: &Signature| {
                signature.verify_certification(key, pgp::types::Tag::UserId, &user.id).is_ok()
            };
            let certification = newest(user.signatures.iter(), clock, |signature| {
                signature.is_certification() && is_own(signature)
            })?;
            let revoked = user.signatures.iter().any(|signature| {
                signature.typ() == Some(SignatureType::CertRevocation)
                    && made_at(signature) >= made_at(certification)
                    && self.may_restrict(signature, is_own(signature))
            });
            (!revoked).then_some(certification)
        });
        let of_user = by_user.max_by_key(|signature| made_at(signature));
        // Version 6 keys say of themselves what older ones say with their user id.
        let statement = match key.version() {
            KeyVersion::V6 => direct.or(of_user),
            _ => of_user.or(direct),
        };
        statement.ok_or_else(|| {
            let of_users = details.users.iter().flat_map(|user| &user.signatures);
            let all = details.direct_signatures.iter().chain(of_users);
            if let Err(error) = self.check_understood(all.filter(|it| self.may_have_made(it))) {
                return error;
            }
            Invalid::NotForSigning {
                key: self.name(),
                why: "it has no self-signature in force that uses SHA-2 (its owner makes one by \
                      extending its expiry and exporting it again)",
            }
            .into()
        })
    }

    /// What else the primary key says of itself that may restrict it: with its user ids, nothing
    /// older than `statement`; and directly, also the newest that is older, which programs obey
    /// whatever a user id says.
    pub fn own_restrictions(&self, statement: &Signature, clock: &Clock) -> Vec<&'k Signature> {
        let key = &self.certificate.primary_key;
        let details = &self.certificate.details;
        let since = made_at(statement);
        let direct = || {
            details.direct_signatures.iter().filter(|signature| {
                signature.typ() == Some(SignatureType::Key)
                    && is_made(signature, clock)
                    && self.may_restrict(signature, signature.verify_key(key).is_ok())
            })
        };
        let newest = direct().max_by_key(|signature| made_at(signature));
        let of_users = details.users.iter().flat_map(|user| {
            user.signatures.iter().filter(move |signature| {
                let tag = pgp::types::Tag::UserId;
                let holds = signature.verify_certification(key, tag, &user.id).is_ok();
                signature.is_certification()
                    && made_at(signature) >= since
                    && is_made(signature, clock)
                    && self.may_restrict(signature, holds)
            })
        });
        let later = direct().filter(|signature| made_at(signature) >= since);
        newest.into_iter().chain(later).chain(of_users).collect()
    }

    /// What else binds a subkey and may restrict it: nothing older than `binding`.
    pub fn newer_bindings(
        self,
        subkey: &'k SignedPublicSubKey,
        binding: &Signature,
        clock: &Clock,
    ) -> impl Iterator<Item = &'k Signature> {
        let (primary, since) = (&self.certificate.primary_key, made_at(binding));
        subkey.signatures.iter().filter(move |signature| {
            signature.typ() == Some(SignatureType::SubkeyBinding)
                && made_at(signature) >= since
                && is_made(signature, clock)
                && self.may_restrict(
                    signature,
                    signature.verify_subkey_binding(primary, &subkey.key).is_ok(),
                )
        })
    }

    /// Refuses the key where a statement of it insists on what nobody here acts upon.
    pub fn check_understood<'s>(
        &self,
        statements: impl IntoIterator<Item = &'s Signature>,
    ) -> Result<(), NotVerified> {
        match statements.into_iter().find_map(not_understood) {
            None => Ok(()),
            Some(why) => Err(Invalid::NotUnderstood { key: self.name(), why }.into()),
        }
    }

    /// What binds a subkey to its primary key: the newest binding that counts.
    pub fn binding(
        &self,
        subkey: &'k SignedPublicSubKey,
        clock: &Clock,
    ) -> Result<&'k Signature, NotVerified> {
        newest(subkey.signatures.iter(), clock, |signature| {
            signature.typ() == Some(SignatureType::SubkeyBinding)
                && signature
                    .verify_subkey_binding(&self.certificate.primary_key, &subkey.key)
                    .is_ok()
        })
        .ok_or_else(|| {
            let primary = Component { subkey: None, ..*self };
            let own = subkey.signatures.iter().filter(|it| primary.may_have_made(it));
            if let Err(error) = self.check_understood(own) {
                return error;
            }
            Invalid::NotForSigning {
                key: self.name(),
                why: "nothing in force that uses SHA-2 binds this subkey to its primary key",
            }
            .into()
        })
    }
}

/// The newest of the signatures that count, by `holds` and by themselves.
fn newest<'s>(
    signatures: impl Iterator<Item = &'s Signature>,
    clock: &Clock,
    holds: impl Fn(&Signature) -> bool,
) -> Option<&'s Signature> {
    let mut usable: Vec<&Signature> = signatures
        .filter(|signature| signature.hash_alg().is_some_and(is_strong))
        .filter(|signature| is_in_force(signature, clock))
        .collect();
    usable.sort_by_key(|signature| Reverse(made_at(signature)));
    usable.into_iter().find(|signature| holds(signature))
}

/// Whether it was made, not in the future, and has not expired.
pub(super) fn is_in_force(signature: &Signature, clock: &Clock) -> bool {
    let Some(made) = made_at(signature) else { return false };
    let lifetime = signature.signature_expiration_time().map_or(0, |it| it.as_secs());
    !clock.is_ahead(made) && (lifetime == 0 || !clock.has_come(made + i64::from(lifetime)))
}

/// Whether it was made, and not in the future.
fn is_made(signature: &Signature, clock: &Clock) -> bool {
    made_at(signature).is_some_and(|made| !clock.is_ahead(made))
}

fn made_at(signature: &Signature) -> Option<i64> {
    signature.created().map(|made| i64::from(made.as_secs()))
}
