//! How a connection is encrypted: libpq's ssl parameters, not yet the files they name.

use std::path::PathBuf;

use super::{
    Env,
    parameters::{Parameters, wrong},
};
use crate::error::{Error, ErrorKind, Result};

/// libpq's `sslmode`, from the weakest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted when the server insists.
    Allow,
    /// Encrypted when the server can.
    #[default]
    Prefer,
    /// Always encrypted.
    Require,
    /// And the server's certificate comes from a trusted authority.
    VerifyCa,
    /// And it is made out to the host's name.
    VerifyFull,
}

const MODES: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// A file that need not be there when nobody named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFile {
    /// Where.
    pub path: PathBuf,
    /// Whether a person named it.
    pub named: bool,
}

/// Which authorities are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those of a file; without the file nothing can be verified.
    File(CertificateFile),
    /// Those of the system.
    System,
    /// There is no place to look.
    None,
}

/// The encryption of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// How much is asked for.
    pub mode: SslMode,
    /// TLS from the first byte on, without asking the server (PostgreSQL 17).
    pub direct: bool,
    /// The trusted authorities.
    pub roots: Roots,
    /// The client's certificate; none is sent without.
    pub certificate: Option<CertificateFile>,
    /// Its key.
    pub key: Option<CertificateFile>,
    /// Revoked certificates.
    pub revoked: Option<CertificateFile>,
    /// Whether the server is told which name it was called by.
    pub sni: bool,
    /// Whether TLS 1.2 is allowed.
    pub tls12: bool,
    /// Whether TLS 1.3 is allowed.
    pub tls13: bool,
}

impl TlsOptions {
    pub(super) fn from(given: &Parameters, env: Env) -> Result<Self> {
        let folder = env("HOME").map(|home| PathBuf::from(home).join(".postgresql"));
        let file = |option: &str, default: &str| match given.value(option) {
            Some(path) => Some(CertificateFile { path: path.into(), named: true }),
            None => folder.as_ref().map(|f| CertificateFile { path: f.join(default), named: false }),
        };
        let system = given.value("sslrootcert") == Some("system");
        let default = if system { SslMode::VerifyFull } else { SslMode::Prefer };
        let mode = given.word("sslmode", &MODES)?.unwrap_or(default);
        if system && mode != SslMode::VerifyFull {
            return Err(conflict("sslrootcert=system goes with sslmode=verify-full only"));
        }
        let direct = given.word("sslnegotiation", &[("postgres", false), ("direct", true)])?.unwrap_or(false);
        if direct && mode < SslMode::Require {
            return Err(conflict("sslnegotiation=direct goes with sslmode=require or stronger only"));
        }
        given.word("gssencmode", &[("disable", ()), ("prefer", ())])?;
        let sends_certificate =
            given.word("sslcertmode", &[("allow", true), ("disable", false)])?.unwrap_or(true);
        let (tls12, tls13) = versions(given)?;
        Ok(Self {
            mode,
            direct,
            roots: match file("sslrootcert", "root.crt") {
                _ if system => Roots::System,
                Some(file) => Roots::File(file),
                None => Roots::None,
            },
            certificate: file("sslcert", "postgresql.crt").filter(|_| sends_certificate),
            key: file("sslkey", "postgresql.key").filter(|_| sends_certificate),
            revoked: file("sslcrl", "root.crl"),
            sni: given.word("sslsni", &[("1", true), ("0", false)])?.unwrap_or(true),
            tls12,
            tls13,
        })
    }
}

/// Whether TLS 1.2 and 1.3 may be used; older ones this program does not have.
fn versions(given: &Parameters) -> Result<(bool, bool)> {
    const NAMES: [(&str, u8); 4] = [("TLSv1", 0), ("TLSv1.1", 1), ("TLSv1.2", 2), ("TLSv1.3", 3)];
    let least = given.word("ssl_min_protocol_version", &NAMES)?.unwrap_or(2);
    let most = given.word("ssl_max_protocol_version", &NAMES)?.unwrap_or(3);
    match given.get("ssl_max_protocol_version") {
        Some(max) if most < 2 || most < least => {
            Err(wrong("ssl_max_protocol_version", max).hint("it can be TLSv1.2 or TLSv1.3"))
        }
        _ => Ok((least <= 2, most >= 3)),
    }
}

fn conflict(text: &str) -> Error {
    Error::new(ErrorKind::Config, text)
}

impl SslMode {
    /// libpq's word for it.
    pub fn word(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("", |(word, _)| word)
    }
}
