//! TLS as libpq does it: what is verified depends on `sslmode`, and files are read at each connection, so that a
//! renewed certificate needs no restart.

use std::{error::Error as StdError, fmt, fs, io, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError,
    RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
    version::{TLS12, TLS13},
};

use super::certificate::Certificate;
use crate::{
    config::{CertificateFile, Roots, SslMode, TlsOptions},
    error::{Error, ErrorKind, Result},
};

/// The name of the protocol, told when TLS begins without PostgreSQL's own negotiation.
const PROTOCOL: &[u8] = b"postgresql";

/// Reads the files and makes the configuration of one connection.
pub(super) fn client_config(options: &TlsOptions) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut versions = Vec::new();
    versions.extend(options.tls13.then_some(&TLS13));
    versions.extend(options.tls12.then_some(&TLS12));
    let verifier = Arc::new(Verifier::new(options, &provider)?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|err| Error::new(ErrorKind::Config, "TLS cannot be used").source(err))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match client_certificate(options)? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|err| {
            Error::new(ErrorKind::Config, "the client certificate and its key cannot be used").source(err)
        })?,
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = options.sni;
    if options.direct {
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
    }
    Ok(config)
}

/// What a person is told when the library refused to go on with a server; none when the network is to blame.
pub(super) fn refused(place: &impl fmt::Display, err: &(dyn StdError + 'static)) -> Option<Error> {
    let cause: &TlsError = err.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()?;
    let (text, hint) = match cause {
        TlsError::InvalidCertificate(bad) => {
            (format!("the certificate of the server at {place} is not accepted"), certificate_hint(bad))
        }
        TlsError::AlertReceived(alert) if is_about_client(*alert) => (
            format!("the server at {place} does not accept the client's certificate"),
            "look at sslcert and sslkey: the server trusts the authorities in its ssl_ca_file",
        ),
        _ => (format!("TLS with the server at {place} failed"), "look at the server's log"),
    };
    Some(Error::new(ErrorKind::Config, text).hint(hint).source(cause.clone()))
}

fn certificate_hint(bad: &CertificateError) -> &'static str {
    match bad {
        CertificateError::UnknownIssuer => "sslrootcert names the file of the authorities that are trusted",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect by a name that stands in the certificate; sslmode=verify-ca does not look at names"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the server needs a new one",
        CertificateError::UnknownRevocationStatus => "sslcrl has no list of the authority that signed it",
        _ => "it has to be an X.509 certificate of version 3; openssl x509 -in FILE -text shows one",
    }
}

fn is_about_client(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
    )
}

/// Judges the server's certificate.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// None: any certificate will do.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// The trusted certificates themselves: a server may show one of them as its own.
    trusted: Vec<CertificateDer<'static>>,
    with_name: bool,
}

impl Verifier {
    fn new(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let trusted = trusted(options)?;
        let mut verifier = Self {
            provider: provider.clone(),
            chain: None,
            trusted,
            with_name: options.mode == SslMode::VerifyFull,
        };
        // As libpq does, a weaker mode verifies too when there is something to verify with.
        if options.mode < SslMode::VerifyCa && verifier.trusted.is_empty() {
            return Ok(verifier);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(verifier.trusted.iter().cloned());
        let revoked = match &options.revoked {
            Some(file) => pem_file::<CertificateRevocationListDer<'static>>(file, "sslcrl")?,
            None => Vec::new(),
        };
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .with_crls(revoked)
            .enforce_revocation_expiration()
            .build()
            .map_err(|err| {
                Error::new(ErrorKind::Config, "the trusted certificates cannot be used").source(err)
            })?;
        verifier.chain = Some(chain);
        Ok(verifier)
    }

    /// Whether a certificate whose chain is good is made out to the host.
    fn verify_name(&self, end_entity: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), TlsError> {
        if !self.with_name {
            return Ok(());
        }
        let Err(refusal) = verify_server_name(&ParsedCertificate::try_from(end_entity)?, name) else {
            return Ok(());
        };
        // PostgreSQL's own recipes make certificates that have only a common name.
        let by_common_name = Certificate::read(end_entity)
            .is_some_and(|read| !read.has_alternative_names && read.is_named(&name.to_str()));
        if by_common_name { Ok(()) } else { Err(refusal) }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        use CertificateError as Bad;
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            // The name is looked at last.
            Err(TlsError::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. })) => {}
            // A self-signed certificate that signs others too, shown by the server itself. When it is valid is
            // looked at first.
            Err(TlsError::InvalidCertificate(bad)) if self.trusted.iter().any(|one| one == end_entity) => {
                if !matches!(bad, Bad::UnknownIssuer | Bad::Other(_)) {
                    return Err(TlsError::InvalidCertificate(bad));
                }
            }
            Err(err) => return Err(err),
        }
        self.verify_name(end_entity, name).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificates of the trusted authorities; none when nothing has to be verified.
fn trusted(options: &TlsOptions) -> Result<Vec<CertificateDer<'static>>> {
    let found = match &options.roots {
        Roots::File(file) => pem_file(file, "sslrootcert")?,
        Roots::System => rustls_native_certs::load_native_certs().certs,
        Roots::None => Vec::new(),
    };
    if found.is_empty() && options.mode >= SslMode::VerifyCa {
        let place = match &options.roots {
            Roots::File(file) => format!("{} does not hold any", file.path.display()),
            Roots::System => "this system has none".to_owned(),
            Roots::None => "none were named".to_owned(),
        };
        let text =
            format!("sslmode={} needs the certificates of trusted authorities: {place}", options.mode.word());
        return Err(Error::new(ErrorKind::Config, text)
            .hint("name a file of them as sslrootcert, or take sslrootcert=system"));
    }
    Ok(found)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_certificate(options: &TlsOptions) -> Result<Option<Identity>> {
    let (Some(certificate), Some(key)) = (&options.certificate, &options.key) else { return Ok(None) };
    let chain = pem_file(certificate, "sslcert")?;
    if chain.is_empty() {
        return if certificate.named { Err(no_pem("sslcert", &certificate.path)) } else { Ok(None) };
    }
    check_permissions(&key.path)?;
    let key = PrivateKeyDer::from_pem_file(&key.path).map_err(|err| match err {
        pem::Error::NoItemsFound => no_pem("sslkey", &key.path)
            .hint("it holds one private key that is not encrypted: openssl pkey -in KEY -out PLAIN"),
        err => unreadable("sslkey", &key.path, err),
    })?;
    Ok(Some((chain, key)))
}

/// As in libpq: a key is its owner's alone; one that belongs to root may be read by a group.
fn check_permissions(path: &Path) -> Result<()> {
    let meta = fs::metadata(path).map_err(|err| unreadable("sslkey", path, err))?;
    let closed_to_others = if meta.uid() == 0 { 0o037 } else { 0o077 };
    if meta.mode() & closed_to_others == 0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, format!("sslkey {} can be used by others", path.display()))
        .hint(format!("chmod 0600 {}", path.display())))
}

/// All items of a kind in a file; none when the file is not there and nobody named it.
fn pem_file<T: PemObject>(file: &CertificateFile, option: &str) -> Result<Vec<T>> {
    if !file.named && !file.path.exists() {
        return Ok(Vec::new());
    }
    let items = T::pem_file_iter(&file.path).and_then(Iterator::collect::<Result<Vec<T>, _>>);
    let items = items.map_err(|err| unreadable(option, &file.path, err))?;
    if items.is_empty() { Err(no_pem(option, &file.path)) } else { Ok(items) }
}

fn unreadable(option: &str, path: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Config, format!("{option} {} cannot be read", path.display())).source(cause)
}

fn no_pem(option: &str, path: &Path) -> Error {
    let what = match option {
        "sslkey" => "private key",
        "sslcrl" => "list of revoked certificates",
        _ => "certificate",
    };
    Error::new(ErrorKind::Config, format!("{option} {} holds no {what} in PEM form", path.display()))
}
