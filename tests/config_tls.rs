//! Encrypted connections, against a server that encrypts and one that does not.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

use crate::support::{self, Finished, OwnServer, Proxy, command, finish};

/// Who is admitted: `plain` without encryption, `cert` with a certificate, `scram` with a password.
const RULES: &str = "local   all all                trust
hostnossl all plain 127.0.0.1/32  trust
hostssl all cert    127.0.0.1/32  cert
hostssl all scram   127.0.0.1/32  scram-sha-256
hostssl all postgres 127.0.0.1/32 trust
";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key in PEM.
fn issue(by: &Authority, common_name: &str, names: &[&str], serial: u64) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from(serial));
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

/// The client's files.
struct Folder(TempDir);

impl Folder {
    fn put(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Asks the database with these options.
fn ask(port: u16, options: &str) -> Finished {
    let mut asking = command(&["jobs"]);
    asking.env("PGPASSWORD", "secret").env("PGCONNECT_TIMEOUT", "20");
    asking.env("DATABASE_URL", format!("hostaddr=127.0.0.1 port={port} dbname=jobs {options}"));
    finish(asking)
}

#[tokio::test]
async fn each_sslmode_does_what_it_does_in_libpq() {
    let ours = authority("ours");
    let (certificate, key) = issue(&ours, "db1.example.org", &["db1.example.org", "localhost"], 7);
    let mut server = OwnServer::start("", Some(RULES));
    server.put("server.crt", &certificate);
    server.put("server.key", &key);
    server.put("clients.crt", &ours.pem());
    server.halt();
    fs::write(
        server.file("postgresql.auto.conf"),
        format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nssl = on\nssl_ca_file = 'clients.crt'\n",
            server.port()
        ),
    )
    .unwrap();
    server.boot();
    prepare(&server);

    let mine = Folder(tempfile::tempdir().unwrap());
    let (root, other) = (mine.put("root.crt", &ours.pem()), mine.put("other.crt", &authority("other").pem()));
    let port = server.port();
    let good = |options: &str| drop(ask(port, options).success());
    let bad = |options: &str, code: i32, texts: &[&str]| ask(port, options).failure(code, texts);
    let full = format!("host=db1.example.org user=postgres sslmode=verify-full sslrootcert={root}");

    // Names and authorities.
    good(&full);
    good(&full.replace("verify-full", "verify-ca").replace("db1.", "db2."));
    good("host=localhost user=postgres sslmode=require");
    bad(
        &full.replace("db1.", "db2."),
        3,
        &["the certificate of the server at db2.example.org", "not accepted", "hint: connect by a name"],
    );
    bad(&full.replace(&root, &other), 3, &["is not accepted", "hint: sslrootcert names the file"]);
    bad(
        &format!("host=localhost user=postgres sslmode=require sslrootcert={other}"),
        3,
        &["is not accepted"],
    );
    bad(
        "host=localhost user=postgres sslrootcert=system",
        3,
        &["the certificate of the server at localhost"],
    );
    bad(
        "host=localhost user=postgres sslmode=verify-full sslrootcert=/nonexistent",
        3,
        &["sslrootcert /nonexistent cannot be read"],
    );
    bad(
        "host=localhost user=postgres sslmode=verify-ca",
        3,
        &["needs the certificates of trusted authorities"],
    );

    // What the server wants, and what it lets pass.
    good("host=localhost user=postgres");
    good("host=localhost user=postgres sslmode=allow");
    good("host=localhost user=plain");
    bad("host=localhost user=plain sslmode=require", 3, &["no pg_hba.conf entry"]);
    bad("host=localhost user=postgres sslmode=disable", 3, &["no pg_hba.conf entry"]);
    // A password, bound to the certificate of the server.
    good(&format!("{} channel_binding=require", full.replace("postgres", "scram")));
    good(&format!("{} ssl_max_protocol_version=TLSv1.2", full.replace("postgres", "scram")));
    bad("host=localhost user=plain channel_binding=require", 3, &["did not use channel binding"]);
    bad("host=localhost user=scram password=wrong", 3, &["password authentication failed"]);

    // Client certificates.
    let (certificate, key) = issue(&ours, "cert", &[], 8);
    let (certificate, key) = (mine.put("cert.crt", &certificate), mine.put("cert.key", &key));
    let with = format!("{} sslcert={certificate} sslkey={key}", full.replace("postgres", "cert"));
    good(&with);
    good(&format!("{with} ssl_max_protocol_version=TLSv1.2"));
    bad(&full.replace("postgres", "cert"), 3, &["requires a valid client certificate"]);
    bad(&format!("{with} sslcertmode=disable"), 3, &["requires a valid client certificate"]);
    let (stranger, stranger_key) = issue(&authority("other"), "cert", &[], 9);
    let (stranger, stranger_key) = (mine.put("s.crt", &stranger), mine.put("s.key", &stranger_key));
    bad(
        &with.replace(&certificate, &stranger).replace(&key, &stranger_key),
        3,
        &["does not accept the client's certificate", "hint: look at sslcert and sslkey"],
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    bad(&with, 3, &["can be used by others", "hint: chmod 0600"]);

    // Revoked ones.
    let revoked = |serial: u64| {
        let crl = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        mine.put("revoked.crl", &crl.signed_by(&ours).unwrap().pem().unwrap())
    };
    good(&format!("{full} sslcrl={}", revoked(1)));
    bad(&format!("{full} sslcrl={}", revoked(7)), 3, &["is not accepted", "evoked"]);

    // The files where libpq looks for them, and a service that says all of it.
    let folder = mine.path().join(".postgresql");
    fs::create_dir(&folder).unwrap();
    fs::copy(&root, folder.join("root.crt")).unwrap();
    let service = format!(
        "[jobs]\nhost=db1.example.org\nhostaddr=127.0.0.1\nport={port}\nuser=postgres\ndbname=jobs\nsslmode=verify-full\n"
    );
    mine.put(".pg_service.conf", &service);
    let mut asking = command(&["--database-url", "service=jobs", "jobs"]);
    asking.env("HOME", mine.path());
    finish(asking).success();
}

/// Roles and the schema.
fn prepare(server: &OwnServer) {
    let address = format!("host=localhost hostaddr=127.0.0.1 port={} user=postgres", server.port());
    let roles = "create role plain superuser login; create role cert superuser login;
                 create role scram superuser login password 'secret'";
    let mut creating = std::process::Command::new("psql");
    creating.args(["-qX", &format!("{address} dbname=postgres"), "-c", "create database jobs", "-c", roles]);
    let done = creating.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    support::run(&["--database-url", &format!("{address} dbname=jobs"), "migrate"]).success();
}

#[tokio::test]
async fn certificates_as_postgresqls_recipes_make_them_will_do() {
    // Self-signed, an authority by accident, with a common name alone.
    let own = authority("db1.example.org");
    let mut server = OwnServer::start("", Some(RULES));
    server.put("server.crt", &own.pem());
    server.put("server.key", &own.key().serialize_pem());
    server.halt();
    let settings = format!("listen_addresses = '127.0.0.1'\nport = {}\nssl = on\n", server.port());
    fs::write(server.file("postgresql.auto.conf"), settings).unwrap();
    server.boot();
    prepare(&server);
    let mine = Folder(tempfile::tempdir().unwrap());
    let root = mine.put("root.crt", &own.pem());
    let full = format!("host=db1.example.org user=postgres sslmode=verify-full sslrootcert={root}");
    ask(server.port(), &full).success();
    ask(server.port(), &full.replace("db1.", "db2."))
        .failure(3, &["is not accepted", "hint: connect by a name"]);
    let other = mine.put("other.crt", &authority("db1.example.org").pem());
    ask(server.port(), &full.replace(&root, &other)).failure(3, &["is not accepted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_encryption_serves_who_does_not_insist() {
    let db = support::db().await;
    let proxy = Proxy::start().await;
    let ask = |mode: &str| {
        let mut asking = command(&["jobs"]);
        asking.env("DATABASE_URL", format!("{}?sslmode={mode}", proxy.url(db.name())));
        finish(asking)
    };
    for mode in ["disable", "allow", "prefer"] {
        ask(mode).success();
    }
    ask("require").failure(3, &["does not encrypt connections", "hint: turn on `ssl`"]);
    let mut asking = command(&["jobs"]);
    asking.env("DATABASE_URL", proxy.url(db.name())).env("PGSSLMODE", "require");
    finish(asking).failure(3, &["does not encrypt connections"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_connecting_is_given_up_in_time() {
    let (silent, good) = (Proxy::start().await, Proxy::start().await);
    silent.cut();
    for (options, step) in [("", "the request for TLS to"), ("sslmode=disable", "logging in at")] {
        let mut asking = command(&["jobs"]);
        asking.env("DATABASE_URL", format!("host=127.0.0.1 port={} user=postgres {options}", silent.port()));
        asking.env("PGCONNECT_TIMEOUT", "1");
        finish(asking).failure(4, &[step, "did not come to an end within 1s"]);
    }
    // A server that answers yes and then nothing more.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"S").await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut asking = command(&["jobs"]);
    asking.env("DATABASE_URL", format!("host=127.0.0.1 port={port} user=postgres connect_timeout=1"));
    finish(asking).failure(4, &["the TLS handshake with 127.0.0.1", "did not come to an end within 1s"]);
    // The next of several hosts has its turn.
    let db = support::db().await;
    let mut asking = command(&["jobs"]);
    let ports = format!("{},{}", silent.port(), good.port());
    asking.env(
        "DATABASE_URL",
        format!("host=127.0.0.1,127.0.0.1 port={ports} user=postgres dbname={} connect_timeout=1", db.name()),
    );
    finish(asking).success();
}
