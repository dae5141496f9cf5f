//! The little that the TLS library does not tell of a certificate: the name in its subject, whether it has
//! names in an extension, and how it was signed.

use sha2::{Digest, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
/// The tag around the extensions, which come last.
const EXTENSIONS: u8 = 0xa3;
/// The tag around the version, which may be left out.
const VERSION: u8 = 0xa0;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// md5, sha1 and sha256 with RSA are this and 4, 5, 11; sha384 and sha512 this and 12, 13.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
/// With sha256, sha384 and sha512 this and 2, 3, 4.
const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];

/// What was read of a certificate that the TLS library has parsed before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    /// The common name of the subject.
    pub(super) common_name: Option<&'a str>,
    /// Whether it has an extension with alternative names: then the common name does not count.
    pub(super) has_alternative_names: bool,
    signature: &'a [u8],
}

/// Values of the encoding, one after the other.
struct Values<'a>(&'a [u8]);

impl<'a> Iterator for Values<'a> {
    /// Tag and content.
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            length = digits.iter().try_fold(0usize, |n, digit| {
                n.checked_mul(256).and_then(|n| n.checked_add(usize::from(*digit)))
            })?;
            rest = after;
        }
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }
}

impl<'a> Values<'a> {
    /// The content of the next value, which has this tag.
    fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

impl<'a> Certificate<'a> {
    /// Reads one in DER. None when it is not well formed.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut whole = Values(Values(der).content(SEQUENCE)?);
        let body = whole.content(SEQUENCE)?;
        let signature = Values(whole.content(SEQUENCE)?).content(OBJECT_ID)?;
        whole.content(BIT_STRING)?;
        let mut fields = Values(body).filter(|(tag, _)| *tag != VERSION);
        // Serial number, algorithm, issuer and validity come first, the key follows.
        let (_, subject) = fields.nth(4)?;
        let mut extensions = fields.filter(|(tag, _)| *tag == EXTENSIONS);
        let has_alternative_names = match extensions.next() {
            Some((_, list)) => Values(Values(list).content(SEQUENCE)?)
                .any(|(_, extension)| Values(extension).content(OBJECT_ID) == Some(ALTERNATIVE_NAMES)),
            None => false,
        };
        Some(Self { common_name: common_name(subject), has_alternative_names, signature })
    }

    /// Whether the common name is made out to this host: in any case of letters, and `*` stands for one label.
    pub(super) fn is_named(&self, host: &str) -> bool {
        let Some(name) = self.common_name else { return false };
        match name.strip_prefix('*') {
            Some(parent) if parent.starts_with('.') => host
                .split_once('.')
                .is_some_and(|(label, _)| host[label.len()..].eq_ignore_ascii_case(parent)),
            _ => name.eq_ignore_ascii_case(host),
        }
    }

    /// The certificate's hash, by which a password is bound to this server (RFC 5929, `tls-server-end-point`).
    pub(super) fn end_point(&self, der: &[u8]) -> Option<Vec<u8>> {
        let rsa = self.signature.strip_prefix(RSA);
        let ecdsa = self.signature.strip_prefix(ECDSA_SHA2);
        match (rsa, ecdsa) {
            (Some([4 | 5 | 11]), _) | (_, Some([2])) => Some(Sha256::digest(der).to_vec()),
            (Some([12]), _) | (_, Some([3])) => Some(Sha384::digest(der).to_vec()),
            (Some([13]), _) | (_, Some([4])) => Some(Sha512::digest(der).to_vec()),
            _ if self.signature == ECDSA_SHA1 => Some(Sha256::digest(der).to_vec()),
            // Not defined for the others.
            _ => None,
        }
    }
}

fn common_name(subject: &[u8]) -> Option<&str> {
    let attributes = Values(subject).flat_map(|(_, set)| Values(set));
    attributes.into_iter().find_map(|(_, attribute)| {
        let mut pair = Values(attribute);
        let (kind, (_, name)) = (pair.content(OBJECT_ID)?, pair.next()?);
        let name = std::str::from_utf8(name).ok().filter(|name| !name.contains('\0'))?;
        (kind == COMMON_NAME).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn made(common_name: &str, names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "us");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_are_where_they_should_be() {
        let der = made("db1.example.org", &[]);
        let plain = Certificate::read(&der).unwrap();
        assert_eq!((plain.common_name, plain.has_alternative_names), (Some("db1.example.org"), false));
        assert_eq!(plain.end_point(&der).unwrap(), Sha256::digest(&der).to_vec(), "ECDSA with SHA-256");
        let der = made("x", &["db1"]);
        assert!(Certificate::read(&der).unwrap().has_alternative_names);
    }

    #[test]
    fn a_star_stands_for_one_label() {
        let der = made("*.Example.org", &[]);
        let certificate = Certificate::read(&der).unwrap();
        assert!(certificate.is_named("db1.example.ORG"));
        for other in ["example.org", "a.db1.example.org", "db1.example.com", "", "."] {
            assert!(!certificate.is_named(other), "{other}");
        }
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let der = made("db1", &["db1"]);
        for length in 0..der.len() {
            assert_eq!(Certificate::read(&der[..length]), None, "{length}");
        }
        assert_eq!(Certificate::read(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
